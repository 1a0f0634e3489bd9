"""The float network event by event, which is how it answers queries.

A signed spike is a spike on one of two planes, the second of which enters the first layer with
the weights negated; average pools are folded into the layers behind them. The numbers are those
of audit.privatesnn.network.SpikingNetwork but for the order of float32 sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from audit.privatesnn.encoder import SignedPoisson
from compiler.chip.engine.job import LayerOutput
from compiler.chip.engine.plan import LayerPlan, plan_layers
from compiler.chip.engine.run import Wanted, batch_size, run_spikes, spikes_of
from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d, Dense, InputAffine
from compiler.ir.geometry import Array, Shape, frozen
from compiler.ir.snn import SnnLayer, snn_layer
from compiler.ir.stages import Stage, stages
from compiler.passes.lower import lower


class EventNetwork:
    """An ANN without biases whose ReLUs are neurons with one threshold a layer and soft reset."""

    def __init__(self, graph: AnnGraph, thresholds: tuple[float, ...], timesteps: int) -> None:
        lowered = lower(_on_two_planes(graph)).graph
        limits = (*thresholds, float("inf"))
        self.layers = [_layer(*pair) for pair in zip(stages(lowered), limits, strict=True)]
        self.plans = plan_layers(self.layers, lowered.input_shape)
        self.timesteps = timesteps

    @cached_property
    def _alone(self) -> list[LayerPlan]:
        """Every layer as a network of its own."""
        return [plan_layers([layer], layer.input_shape)[0] for layer in self.layers]

    def answers(self, images_nchw: Tensor, seed: int) -> Array:
        """The output layer's sums over all steps, float32 (N, classes); noise from `seed`."""
        return np.concatenate(
            [_sums(run_spikes(self.plans, planes)[-1], self.plans[-1])
             for planes in self._encoded(images_nchw, seed)]
        )  # fmt: skip

    def observed(self, images_nchw: Tensor, seed: int) -> tuple[Array, ...]:
        """Spikes a step of every hidden layer's neurons, float32 (N, C, H, W), and the answers."""
        parts = [self._observed(planes) for planes in self._encoded(images_nchw, seed)]
        return tuple(np.concatenate(layer) for layer in zip(*parts, strict=True))

    def _observed(self, planes_tnhwc: Array) -> list[Array]:
        found, spikes = [], planes_tnhwc
        for plan in self._alone[:-1]:
            output = run_spikes((plan,), spikes, Wanted(spikes=True))[-1]
            counts = _channels_first(output.counts_nm, plan.shape)
            found.append(np.divide(counts, self.timesteps, dtype=np.float32))
            spikes = spikes_of(output, plan)
        last = self._alone[-1]
        return [*found, _sums(run_spikes((last,), spikes)[-1], last)]

    def _encoded(self, images_nchw: Tensor, seed: int) -> Iterator[Array]:
        encoder = SignedPoisson(seed)
        for part in torch.split(images_nchw, batch_size(self.plans, self.timesteps)):
            yield _planes(encoder.spikes(part, self.timesteps).numpy())


def _planes(spikes_tnchw: Array) -> Array:
    """Signed spikes as uint8 (T, N, H, W, 2 C): of every channel the positive, the negative."""
    signs = np.stack([spikes_tnchw > 0, spikes_tnchw < 0], axis=3)
    steps, count, channels, _, height, width = signs.shape
    return np.moveaxis(signs.reshape(steps, count, 2 * channels, height, width), 2, -1)


def _on_two_planes(graph: AnnGraph) -> AnnGraph:
    """The same network for the planes of the code, without the layer that makes pixels signed."""
    channels, height, width = graph.input_shape
    layers: list[AnnLayer] = [one for one in graph.layers if not isinstance(one, InputAffine)]
    first = next(place for place, one in enumerate(layers) if isinstance(one, (Conv2d, Dense)))
    layers[first] = _negated_too(layers[first], channels)
    return replace(graph, input_shape=(2 * channels, height, width), layers=tuple(layers))


def _negated_too(layer: AnnLayer, channels: int) -> AnnLayer:
    if isinstance(layer, Conv2d):
        weight = np.stack([layer.weight, -layer.weight], 2)
        doubled = weight.reshape(len(weight), -1, *layer.weight.shape[2:])
    elif isinstance(layer, Dense):
        by_channel = layer.weight.reshape(len(layer.weight), channels, -1)
        doubled = np.stack([by_channel, -by_channel], 2).reshape(len(by_channel), -1)
    else:
        raise TypeError(f"{layer.name} has no weights")
    return replace(layer, weight=frozen(doubled, np.float32))


def _layer(stage: Stage, threshold: float) -> SnnLayer:
    synapse, unit = stage.synapse, np.ones(stage.shape[0])
    return snn_layer(stage, synapse.weight, synapse.bias, threshold, unit, reset="subtract")


def _sums(output: LayerOutput, plan: LayerPlan) -> Array:
    """What the read-out has added up, (N, classes)."""
    summed = _channels_first(output.voltage_nm, plan.shape)
    return summed.reshape(len(summed), -1)


def _channels_first(values_nm: Array | None, shape: Shape) -> Array:
    channels, height, width = shape
    return np.moveaxis(np.asarray(values_nm).reshape(-1, height, width, channels), -1, 1)
