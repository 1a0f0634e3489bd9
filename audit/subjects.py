"""What is attacked: the ANN, the network converted from it, the file, and a random network.

All four have the same shapes. The ANN and the random network are the ends of the scale. The
converted network, before any training, is the audit's check of itself: re-converted, it has to
be the ANN again, or the audit would call a bad attack privacy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from audit.reconvert import Activation, reconvert
from audit.surrogates import EXPONENTIAL, Surrogate
from compiler.errors import AgreementError, one_problem
from compiler.ir.ann import AnnGraph, Conv2d, Dense
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import run_ann, to_module
from compiler.ir.snn import SnnGraph
from compiler.ir.synthetic import SyntheticSet
from compiler.quantization import quantize
from compiler.run_folder import RunFolder, file_hash
from compiler.steps import ANN, CONVERTED, MATCHED, SYNTHETIC
from compiler.store import content_of, load
from netx_export import read_netx
from sim.reference import simulate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from audit.observing import Observed

SUBJECTS = ("ann", "converted", "encrypted", "random")
VIEWS = ("relu", "clipped_relu", "spiking")

SANITY_AGREEMENT = 0.75
"""Least share of decided synthetic images on which the converted network, re-converted, is the ANN.

Decided are the half with the larger margin between the ANN's first two answers: synthetic images
are made to be ambiguous. From 8 time-steps of a rate code on it is 0.98 and more on the embedded
network, at 4 it is 0.83; guessing would give one in the number of classes.
"""

T = TypeVar("T")


class Keep(Protocol):
    """How what takes long is made, or found again where it was made before."""

    def __call__(self, kind: type[T], name: str, decided_by: object, make: Callable[[], T]) -> T:
        """What `make` returns: of type `kind`, the same for the same name and `decided_by`."""


def make_anew(kind: type[T], name: str, decided_by: object, make: Callable[[], T]) -> T:
    """Keep nothing."""
    return make()


_PERCENTILE = 99.0
"""Threshold balancing of the random network; which percentile is best for it means nothing."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network under attack: the ANN as given, or integers as the chip holds them.

    Equal to itself alone; `fingerprint` says whether two hold the same network. keep: how what is
    made from the network, and takes long, is made.
    """

    name: str
    network: AnnGraph | ChipGraph
    keep: Keep = field(default=make_anew, kw_only=True)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.network.input_shape

    @property
    def classes(self) -> int:
        """Number of answers."""
        if isinstance(self.network, AnnGraph):
            return self.network.classes
        return self.network.layers[-1].neurons

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the network, which with attack, budget and seed decides the images."""
        return hashlib.sha256(content_of(self.network)).hexdigest()

    @property
    def spiking(self) -> bool:
        """Whether it is a spiking network; the ANN is none."""
        return isinstance(self.network, ChipGraph)

    @property
    def rate_timesteps(self) -> int | None:
        """Time-steps over which a pixel is a rate of spikes; None where it is none."""
        graph = self.network
        if isinstance(graph, AnnGraph) or graph.encoding is None:
            return None
        return None if graph.encoding.code == "latency" else graph.timesteps

    @property
    def weights(self) -> dict[str, Array]:
        """Layer of spiking neurons -> its weights, up to a factor of the whole layer."""
        if isinstance(self.network, AnnGraph):
            return {}
        return {layer.name: layer.weight for layer in self.network.layers}

    def logits(self, images_nchw: Array) -> Array:
        """What a query returns, float64 (N, classes): logits, or the read-out's voltages.

        images_nchw: float in [0, 1]. Nothing of the weights is seen.
        """
        if isinstance(self.network, AnnGraph):
            return run_ann(self.network, images_nchw).astype(np.float64)
        return simulate(self.network, images_nchw).logits_nk.astype(np.float64)

    def observe(self, images: Tensor) -> Observed:
        """Every hidden layer's rates and the answers, for images (N, C, H, W) in [0, 1].

        Raises ValueError on the ANN, whose layers have no rates.
        """
        from audit.observing import observe

        if isinstance(self.network, AnnGraph):
            raise ValueError(f"{self.name} has no spikes")
        return observe(self.network, images)

    def reconverted(self, activation: Activation = "relu") -> AnnGraph:
        """The integers as an ordinary network; the ANN itself is given back."""
        if isinstance(self.network, AnnGraph):
            return self.network
        return reconvert(self.network, activation)

    def module(
        self,
        view: str = "relu",
        surrogate: Surrogate = EXPONENTIAL,
        timesteps: int | None = None,
    ) -> nn.Module:
        """A frozen module from images (N, C, H, W) in [0, 1] to logits, differentiable in them.

        relu, clipped_relu: the re-converted network; spiking: through time with `surrogate`,
        for `timesteps` instead of the file's where given. The ANN is the same in every view.
        Raises ValueError for another view.
        """
        if view not in VIEWS:
            raise ValueError(f"view {view}: one of {', '.join(VIEWS)}")
        if view == "spiking" and isinstance(self.network, ChipGraph):
            from audit.spiking import SpikingModule

            return SpikingModule(self.network, surrogate, timesteps)
        activation: Activation = "clipped_relu" if view == "clipped_relu" else "relu"
        return to_module(self.reconverted(activation))


@dataclass(frozen=True)
class Sanity:
    """Share of decided images on which the re-converted converted network answers as the ANN.

    images: their number; bound: what the share must reach.
    """

    agreement: float
    bound: float
    images: int


def load_subjects(
    run_dir: Path, seed: int, withheld: int = 0, keep: Keep = make_anew
) -> tuple[Subject, ...]:
    """The four subjects of a finished compile: ann, converted, encrypted, random.

    `encrypted` is read from model.net alone, without its first `withheld` layers, for which
    it has an attacker's guess (audit.withheld). `random` has the file's shapes with weights drawn
    anew (Kaiming normal, no bias) and is converted as the ANN was. keep: how networks that take
    long to make are made. Raises as the readers do for
    files that are missing or damaged, and AgreementError as `check_sanity` does.
    """
    folder = RunFolder(run_dir)
    stages = [folder.stage_file(stage) for stage in (MATCHED, CONVERTED, SYNTHETIC)]
    matched = load(AnnGraph, folder.stage_file(MATCHED))
    converted = load(SnnGraph, folder.stage_file(CONVERTED))
    synthetic = load(SyntheticSet, folder.stage_file(SYNTHETIC))
    random = keep(
        ChipGraph,
        "random",
        [seed, *map(file_hash, stages)],
        lambda: random_network(matched, converted, synthetic, seed),
    )
    subjects = (
        Subject("ann", load(AnnGraph, folder.stage_file(ANN))),
        Subject("converted", quantize(converted), keep=keep),
        Subject("encrypted", _as_attacked(folder.model, withheld, seed, keep), keep=keep),
        Subject("random", random, keep=keep),
    )
    check_sanity(subjects, synthetic)
    return subjects


def _as_attacked(model: Path, withheld: int, seed: int, keep: Keep) -> ChipGraph:
    graph = read_netx(model).graph
    if not withheld:
        return graph
    from audit.withheld import guess_first_layers

    return keep(
        ChipGraph,
        f"guess-of-{withheld}",
        [seed, withheld, file_hash(model)],
        lambda: guess_first_layers(graph, withheld, seed).graph,
    )


def check_sanity(subjects: Sequence[Subject], synthetic: SyntheticSet) -> Sanity:
    """Assert that the converted network, re-converted to plain ReLU, is the ANN.

    Raises AgreementError below SANITY_AGREEMENT on the decided held-out synthetic images.
    """
    by_name = {subject.name: subject for subject in subjects}
    images = synthetic.pixels(synthetic.validation)
    expected = by_name["ann"].logits(images)
    decided = _margin(expected) >= np.median(_margin(expected))
    found = run_ann(by_name["converted"].reconverted(), images)
    same = (found.argmax(1) == expected.argmax(1))[decided]
    sanity = Sanity(float(np.mean(same)), SANITY_AGREEMENT, len(same))
    if sanity.agreement < sanity.bound:
        raise one_problem(
            AgreementError,
            "the audit's attacks cannot be trusted here",
            "converted",
            f"the converted network, re-converted, answers as the ANN on "
            f"{sanity.agreement:.1%} of {sanity.images} decided synthetic images",
            f"{sanity.bound:.0%} or more, since nothing hides its weights",
            "compile with more time-steps, or report the network that leads here",
        )
    return sanity


def _margin(answers_nk: Array) -> Array:
    """First answer minus second, (N,)."""
    ordered = np.sort(answers_nk, axis=1)
    margin: Array = ordered[:, -1] - ordered[:, -2]
    return margin


def random_network(
    matched: AnnGraph, converted: SnnGraph, synthetic: SyntheticSet, seed: int
) -> ChipGraph:
    """Integers of a network of the same shapes that has learnt nothing."""
    from compiler.config import ConversionConfig
    from compiler.conversion import convert

    graph = random_weights(matched, seed)
    logits = run_ann(graph, synthetic.pixels(slice(None)))
    config = ConversionConfig(timesteps=converted.timesteps, percentiles=(_PERCENTILE,))
    answers = replace(synthetic, logits_nk=logits)
    return quantize(convert(graph, answers, config, converted.encoding).graph)


def random_weights(graph: AnnGraph, seed: int) -> AnnGraph:
    """The same layers with weights of variance 2 / fan-in and without bias (He et al. 2015).

    Pools, which nobody learns, stay as they are.
    """
    rng = np.random.default_rng(seed)
    layers = []
    for layer in graph.layers:
        if isinstance(layer, (Conv2d, Dense)) and not is_pool(layer):
            spread = np.sqrt(2 / np.prod(layer.weight.shape[1:]))
            weight = spread * rng.standard_normal(layer.weight.shape)
            layer = replace(layer, weight=frozen(weight, np.float32), bias=None)
        layers.append(layer)
    return graph.with_layers(tuple(layers))


def is_pool(layer: Conv2d | Dense) -> bool:
    """Whether each of the layer's neurons averages the window of one channel.

    A group may hold several channels, whose other weights are 0.
    """
    if isinstance(layer, Dense) or layer.weight[0, 0].size == 1:
        return False
    planes = layer.weight.reshape(*layer.weight.shape[:2], -1)
    level = (planes == planes[..., :1]).all() and (planes >= 0).all()
    return bool(level and ((planes[..., 0] > 0).sum(1) == 1).all())
