"""The float network as a subject of the audit's attacks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from audit.observing import Observed
from audit.privatesnn.encoder import SignedPoisson
from audit.privatesnn.network import PrivateSnn, SpikingNetwork, answers
from audit.privatesnn.neuron import slope_of
from audit.reconvert import Activation
from audit.subjects import Subject
from audit.surrogates import EXPONENTIAL, Surrogate
from compiler.errors import AgreementError, one_problem
from compiler.ir.ann import AnnGraph, Conv2d, Dense
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann
from compiler.passes.fold_affine import fold_affine


@dataclass(frozen=True, eq=False)
class FloatSubject(Subject):
    """network: the plain re-conversion, for its shapes; snn: what answers; seed: of its noise."""

    snn: PrivateSnn
    seed: int

    @property
    def spiking(self) -> bool:
        """It is a spiking network."""
        return True

    @property
    def rate_timesteps(self) -> int:
        """All of them: a signed Poisson code is a rate."""
        return self.snn.timesteps

    @property
    def weights(self) -> dict[str, Array]:
        """Layer -> its weights over the threshold."""
        layers = self.snn.reconverted("relu").layers
        return {one.name: one.weight for one in layers if isinstance(one, (Conv2d, Dense))}

    def logits(self, images_nchw: Array) -> Array:
        """The output layer's sums, float64 (N, classes).

        Every call draws the same noise. On a device it would be fresh: the attacker is given
        more than he would get.
        """
        return answers(self.snn, images_nchw, self.seed)

    def reconverted(self, activation: Activation = "relu") -> AnnGraph:
        """The weights over the thresholds as an ordinary network that takes pixels in [0, 1]."""
        return fold_affine(self.snn.reconverted(activation))

    def module(
        self,
        view: str = "relu",
        surrogate: Surrogate = EXPONENTIAL,
        timesteps: int | None = None,
    ) -> nn.Module:
        """As audit.subjects.Subject.module; the spiking view draws fresh noise at every call."""
        if view != "spiking":
            return super().module(view)
        network = replace(self.snn, timesteps=timesteps or self.snn.timesteps)
        return SpikingView(network, surrogate, self.seed)

    def observe(self, images: Tensor) -> Observed:
        """Every hidden layer's rates and the answers, for images (N, C, H, W) in [0, 1]."""
        *rates, found = map(torch.from_numpy, self.snn.events.observed(images, self.seed))
        return Observed(images, tuple(rates), found)


def float_subject(name: str, network: PrivateSnn, seed: int) -> FloatSubject:
    """The network under a name of audit.subjects.SUBJECTS."""
    return FloatSubject(name, fold_affine(network.reconverted("relu")), network, seed)


class SpikingView(nn.Module):
    """Images (N, C, H, W) in [0, 1] to sums (N, classes), differentiable in the images."""

    def __init__(self, network: PrivateSnn, surrogate: Surrogate, seed: int) -> None:
        super().__init__()
        self.network = network
        self.spiking = SpikingNetwork(network, slope_of(surrogate))
        self.encoder = SignedPoisson(seed)
        self.at_once = network.at_once

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return the sums (N, classes)."""
        parts = torch.split(images_nchw, self.at_once)
        spikes = (self.encoder.spikes(part, self.network.timesteps) for part in parts)
        return torch.cat([self.spiking(part) for part in spikes])


def check_homogeneous(ann: AnnGraph, converted: PrivateSnn, images_nchw: Array) -> None:
    """Assert that the converted network, re-converted, answers as the ANN on every image.

    Its weights are the ANN's; a network of ReLUs without biases only scales its answers where
    a layer is divided by its threshold. Raises AgreementError for a single other answer.
    """
    expected = run_ann(ann, images_nchw, dtype="float64").argmax(1)
    found = run_ann(converted.reconverted("relu"), images_nchw, dtype="float64").argmax(1)
    others = int(np.sum(found != expected))
    if others:
        raise one_problem(
            AgreementError,
            "the re-conversion is wrong",
            "converted",
            f"{others} of {len(images_nchw)} answers are not the ANN's",
            "none: the weights are the same up to a factor a layer",
            "report the network that leads here",
        )
