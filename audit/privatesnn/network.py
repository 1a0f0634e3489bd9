"""The network: an ANN without biases whose every ReLU is a layer of neurons with one threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from audit.privatesnn.events import EventNetwork
from audit.privatesnn.neuron import Slope, fire, published_slope
from audit.privatesnn.settings import MEAN, STD
from audit.reconvert import Activation
from compiler.errors import ModelError, Problem
from compiler.ir.ann import AnnGraph, AnnLayer, BatchNorm, Conv2d, Dense, InputAffine, Relu
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import to_module

_MOST_STATES = 1 << 22
"""Neurons times steps times images that are computed at once: 16 MB in float32.

A batch of 64 images of 28 x 28 pixels at once took a fifth longer in training, and three times as
long where the C library gives freed memory back (compiler.commandline keeps it).
"""


@dataclass(frozen=True)
class PrivateSnn:
    """graph: the weights, unchanged by the conversion; thresholds: one for each ReLU, in order.

    The last layer has no threshold: its sum over all `timesteps` is the answer (code).
    """

    graph: AnnGraph
    thresholds: tuple[float, ...]
    timesteps: int

    @cached_property
    def events(self) -> EventNetwork:
        """The same network for the event-driven engine."""
        return EventNetwork(self.graph, self.thresholds, self.timesteps)

    @property
    def at_once(self) -> int:
        """Images that SpikingNetwork computes together."""
        largest = max(int(np.prod(shape)) for shape in self.graph.shapes)
        return max(1, _MOST_STATES // (largest * self.timesteps))

    def reconverted(self, activation: Activation) -> AnnGraph:
        """Weights over thresholds in a network of plain or clipped ReLUs.

        At the threshold theta a neuron's rate is near max(0, current) / theta, at most 1.
        """
        rest = iter(self.thresholds)
        layers: list[AnnLayer] = []
        for layer in self.graph.layers:
            if isinstance(layer, Relu):
                place = _last_synapse(layers)
                layers[place] = _divided(layers[place], next(rest))
                layer = replace(layer, maximum=1.0 if activation == "clipped_relu" else None)
            layers.append(layer)
        return replace(self.graph, name=f"{self.graph.name}-{activation}", layers=tuple(layers))


def _last_synapse(layers: Sequence[AnnLayer]) -> int:
    return max(i for i, layer in enumerate(layers) if isinstance(layer, (Conv2d, Dense)))


def _divided(layer: AnnLayer, threshold: float) -> AnnLayer:
    if not isinstance(layer, (Conv2d, Dense)):
        raise TypeError(f"{layer.name} has no weights")
    return replace(layer, weight=frozen(layer.weight / threshold, np.float32))


def without_biases(graph: AnnGraph) -> AnnGraph:
    """The same network with biases of zero left out.

    Raises ModelError with everything that PrivateSNN's network cannot hold.
    """
    problems = list(_problems(graph))
    if problems:
        raise ModelError("the network is none of PrivateSNN's kind", problems)
    layers = [
        replace(layer, bias=None) if isinstance(layer, (Conv2d, Dense)) else layer
        for layer in graph.layers
    ]
    return graph.with_layers(tuple(layers))


def _problems(graph: AnnGraph) -> Iterator[Problem]:
    first, *rest = graph.layers
    if not _normalises(first):
        yield Problem(
            first.name,
            "other pixels than (pixel - 0.5) / 0.5",
            "an ANN trained on pixels in [-1, 1], which the signed code turns into spikes",
            "train it with examples/train_ann.py --mean 0.5 --std 0.5",
        )
        rest = list(graph.layers)
    for layer in rest:
        found = _misfit(layer)
        if found:
            yield Problem(
                layer.name,
                found,
                "conv and dense layers without bias, ReLU, average pooling",
                "train it with examples/train_ann.py --no-bias",
            )
    kinds = [layer for layer in rest if isinstance(layer, (Conv2d, Dense, Relu))]
    turns = [isinstance(layer, Relu) for layer in kinds]
    if turns != [bool(place % 2) for place in range(len(turns))] or turns[-1:] == [True]:
        yield Problem(
            graph.name,
            "layers with weights and ReLUs that do not take turns",
            "a ReLU behind every layer with weights but the last",
            "put one there, or merge the layers",
        )


def _normalises(layer: AnnLayer) -> bool:
    return isinstance(layer, InputAffine) and bool(
        np.allclose(layer.mean, MEAN) and np.allclose(layer.std, STD)
    )


def _misfit(layer: AnnLayer) -> str | None:
    if isinstance(layer, (InputAffine, BatchNorm)):
        return "a scale and a shift a channel"
    if isinstance(layer, (Conv2d, Dense)) and layer.bias is not None and layer.bias.any():
        return "a bias"
    if isinstance(layer, Relu) and layer.maximum is not None:
        return f"a ReLU that ends at {layer.maximum}"
    return None


class SpikingNetwork(nn.Module):
    """Spikes (T, N, C, H, W) to the output layer's sums (N, classes).

    All time-steps of a layer are computed together, which a chain of layers allows, and lie in
    memory with their channels last. Weights are buffers that need no gradient until somebody
    asks for one (`weights`).
    """

    def __init__(self, network: PrivateSnn, slope: Slope = published_slope) -> None:
        super().__init__()
        self.network, self.slope = network, slope
        module = to_module(network.graph)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.steps = module.steps[1:]

    @property
    def weights(self) -> dict[str, Tensor]:
        """Layer -> its weights."""
        named = zip(self.network.graph.layers[1:], self.steps, strict=True)
        return {
            layer.name: step.get_buffer("weight")
            for layer, step in named
            if isinstance(layer, (Conv2d, Dense))
        }

    def forward(self, spikes_tnchw: Tensor) -> Tensor:
        """Return the sums (N, classes) over all steps."""
        sums = spikes_tnchw
        for _, output in self.layer_outputs(spikes_tnchw):
            sums = output
        return sums.flatten(1)

    def layer_outputs(self, spikes_tnchw: Tensor) -> Iterator[tuple[AnnLayer, Tensor]]:
        """Yield every layer with its output (T, N, C, H, W), the last one summed over T."""
        outputs, thresholds = spikes_tnchw, iter(self.network.thresholds)
        last = self.network.graph.layers[-1]
        for layer, step in zip(self.network.graph.layers[1:], self.steps, strict=True):
            if isinstance(layer, Relu):
                currents = outputs.movedim(2, -1)
                outputs = fire(currents, next(thresholds), self.slope).movedim(-1, 2)
            elif layer is last:
                outputs = step(outputs.sum(0))
            else:
                outputs = step(outputs.flatten(0, 1)).unflatten(0, outputs.shape[:2])
            yield layer, outputs

    def trained(self) -> PrivateSnn:
        """The network with the weights as they are now."""
        weights = {name: tensor.detach().cpu().numpy() for name, tensor in self.weights.items()}
        return replace(self.network, graph=with_weights(self.network.graph, weights))


def with_weights(graph: AnnGraph, weights: dict[str, Array]) -> AnnGraph:
    """The same layers with other weights."""
    return graph.with_layers(
        tuple(
            replace(layer, weight=frozen(weights[layer.name], np.float32))
            if isinstance(layer, (Conv2d, Dense))
            else layer
            for layer in graph.layers
        )
    )


def answers(network: PrivateSnn, images_nchw: Array, seed: int) -> Array:
    """The output layer's sums, float64 (N, classes); the same noise at every call."""
    images = torch.from_numpy(np.array(images_nchw, np.float32))
    return network.events.answers(images, seed).astype(np.float64)
