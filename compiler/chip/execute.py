"""Run integer layers on batches: exact sums of weights, then the neuron step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.chip.neuron import NeuronRun, run_neurons
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.geometry import Array, ConvGeometry

if TYPE_CHECKING:
    import torch

_SUM_ELEMENTS = 1 << 20
"""Weights that are summed at a time: huge layers are not copied whole."""

_FLOAT32_EXACT = 1 << 24
"""Integers up to here, and sums of them in any order, are exact in float32."""


@dataclass(frozen=True)
class LayerRun:
    """One layer's answer to a batch.

    spikes_tnhwc: uint8; voltage_nhwc: int32 after the last step; saturations: (n,) clips
    of v per sample; u_tnhwc, v_tnhwc: int32 traces (v before reset) or None.
    """

    layer: ChipLayer
    spikes_tnhwc: Array
    voltage_nhwc: Array
    saturations: Array
    u_tnhwc: Array | None
    v_tnhwc: Array | None


def run_graph(graph: ChipGraph, spikes_tnchw: Array, traces: bool = False) -> Iterator[LayerRun]:
    """Yield every layer's run in order, starting from encoded input spikes (binary, uint8)."""
    spikes = np.ascontiguousarray(np.moveaxis(spikes_tnchw, 2, -1))
    for layer in graph.layers:
        run = run_layer(layer, spikes, traces)
        yield run
        spikes = run.spikes_tnhwc


def run_layer(layer: ChipLayer, spikes_tnhwc: Array, traces: bool = False) -> LayerRun:
    """Run one layer on the spikes of the layer before it (uint8, channels last)."""
    current = synaptic_sum(layer, spikes_tnhwc)
    channels, height, width = layer.shape
    run = run_neurons(current, bias_hwc(layer).reshape(-1), layer.neuron, traces)
    return _shaped(layer, run, (height, width, channels))


def _shaped(layer: ChipLayer, run: NeuronRun, hwc: tuple[int, int, int]) -> LayerRun:
    def trace(values: Array | None) -> Array | None:
        return None if values is None else values.reshape(*values.shape[:2], *hwc)

    return LayerRun(
        layer,
        run.spikes_tnm.reshape(*run.spikes_tnm.shape[:2], *hwc),
        run.voltage_nm.reshape(-1, *hwc),
        run.saturations,
        trace(run.u_tnm),
        trace(run.v_tnm),
    )


def bias_hwc(layer: ChipLayer) -> Array:
    """Bias mantissas of every neuron, int32 (H, W, C)."""
    channels, height, width = layer.shape
    if layer.bias is None:
        return np.zeros((height, width, channels), np.int32)
    bias = np.asarray(layer.bias, np.int32)
    if bias.ndim == 1:
        bias = bias.reshape(channels, 1, 1)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(bias, layer.shape), 0, -1))


def synaptic_sum(layer: ChipLayer, spikes_tnhwc: Array) -> Array:
    """Sum of the weights of the arriving spikes, integer-valued float (T, N, H*W*C)."""
    import torch

    steps, samples = spikes_tnhwc.shape[:2]
    dtype = torch.float32 if worst_sum(layer) < _FLOAT32_EXACT else torch.float64
    if layer.delay is not None:
        return _delayed_sum(layer, spikes_tnhwc)
    spikes = torch.from_numpy(spikes_tnhwc).to(dtype)
    with torch.no_grad():
        out = apply_synapses(
            spikes.reshape(steps * samples, *spikes.shape[2:]),
            torch.tensor(layer.weight, dtype=dtype),
            layer.geometry if layer.kind == "conv" else None,
        )
    result: Array = out.reshape(steps, samples, -1).numpy()
    return result


def apply_synapses(
    images_nhwc: torch.Tensor, weight: torch.Tensor, geometry: ConvGeometry | None
) -> torch.Tensor:
    """Convolution, or a dense product where `geometry` is None; channels last, contiguous."""
    import torch
    from torch.nn import functional

    if geometry is None:
        _, height, width, channels = images_nhwc.shape
        if height * width > 1:
            weight = weight.reshape(-1, channels, height, width).permute(0, 2, 3, 1)
        product: torch.Tensor = functional.linear(images_nhwc.flatten(1), weight.flatten(1))
        return product
    images = images_nhwc.permute(0, 3, 1, 2)
    images, padding = pad_for(images, geometry)
    out = functional.conv2d(
        images,
        weight.contiguous(memory_format=torch.channels_last),
        None,
        geometry.stride,
        padding,
        geometry.dilation,
        geometry.groups,
    )
    return out.permute(0, 2, 3, 1).contiguous()


def pad_for(images: torch.Tensor, geometry: ConvGeometry) -> tuple[Any, tuple[int, int]]:
    """Pad by hand where the padding is asymmetric; return the images and what conv2d shall pad."""
    from torch.nn import functional

    (top, bottom), (left, right) = geometry.padding
    if geometry.symmetric:
        return images, (top, left)
    return functional.pad(images, (left, right, top, bottom)), (0, 0)


def _delayed_sum(layer: ChipLayer, spikes_tnhwc: Array) -> Array:
    """Dense synapses that hold a spike back: each delay is a product of its own."""
    steps, samples = spikes_tnhwc.shape[:2]
    spikes = np.moveaxis(spikes_tnhwc, -1, 2).reshape(steps, samples, -1).astype(np.float64)
    delay = np.asarray(layer.delay)
    total = np.zeros((steps, samples, layer.weight.shape[0]))
    for lag in np.unique(delay[delay < steps]):
        weight = np.where(delay == lag, layer.weight, 0).astype(np.float64)
        total[lag:] += spikes[: steps - lag] @ weight.T
    return total


def worst_sum(layer: ChipLayer) -> int:
    """Largest magnitude that one step's sum of weights can reach, over neurons and signs."""
    weight = np.asarray(layer.weight).reshape(layer.weight.shape[0], -1)
    rows = max(1, _SUM_ELEMENTS // max(1, weight.shape[1]))
    return max(_worst(weight[at : at + rows]) for at in range(0, len(weight), rows))


def _worst(weight: Array) -> int:
    total = weight.sum(1, dtype=np.int64)
    size = np.abs(weight).sum(1, dtype=np.int64)
    return int((size + np.abs(total)).max(initial=0)) // 2
