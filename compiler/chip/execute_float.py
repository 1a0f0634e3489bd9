"""Run an SnnGraph in float: the spiking network before its numbers are integers."""

from __future__ import annotations

import numpy as np

from compiler.chip.encoding import encode
from compiler.chip.execute import apply_synapses
from compiler.chip.neuron import integrate_and_fire_float
from compiler.ir.geometry import Array
from compiler.ir.snn import SnnGraph, SnnLayer

_DECAY_ONE = 4096
_BATCH_BYTES = 200_000_000


def run_snn(graph: SnnGraph, images_nchw: Array) -> Array:
    """Read-out voltage in mantissas after the last step, float32 (N, classes)."""
    logits = []
    size = batch_size(graph)
    for start in range(0, len(images_nchw), size):
        part = images_nchw[start : start + size]
        spikes = encode_nhwc(part, graph, start)
        for layer in graph.layers:
            spikes, voltage = run_float_layer(layer, spikes)
        logits.append(voltage)
    return np.concatenate(logits)


def encode_nhwc(images_nchw: Array, graph: SnnGraph, first_index: int = 0) -> Array:
    """Encoded images as uint8 (T, N, H, W, C)."""
    spikes = encode(images_nchw, graph.timesteps, graph.encoding, first_index)
    return np.ascontiguousarray(np.moveaxis(spikes, 2, -1))


def batch_size(graph: SnnGraph) -> int:
    """Samples whose largest layer stays below a fixed memory."""
    largest = max(int(np.prod(layer.shape)) for layer in graph.layers)
    return max(1, _BATCH_BYTES // (graph.timesteps * largest * 9))


def run_float_layer(layer: SnnLayer, spikes_tnhwc: Array) -> tuple[Array, Array]:
    """Spikes uint8 (T, N, H, W, C) and last voltage float32 (N, H*W*C) of one layer."""
    import torch

    steps, samples = spikes_tnhwc.shape[:2]
    flat = torch.from_numpy(spikes_tnhwc.reshape(steps * samples, *spikes_tnhwc.shape[2:]))
    weight = torch.tensor(layer.weight, dtype=torch.float32)
    geometry = layer.geometry if layer.kind == "conv" else None
    with torch.inference_mode():
        drive = apply_synapses(flat.float(), weight, geometry).reshape(steps, samples, -1).numpy()
    channels, height, width = layer.shape
    spikes, voltage = integrate_and_fire_float(
        drive,
        _bias_per_neuron(layer),
        np.float32(1 - layer.i_decay / _DECAY_ONE),
        np.float32(1 - layer.v_decay / _DECAY_ONE),
        np.float32(np.inf if layer.readout else layer.threshold),
    )
    return spikes.reshape(steps, samples, height, width, channels), voltage


def _bias_per_neuron(layer: SnnLayer) -> Array:
    """Float32, flat in (H, W, C) order."""
    bias = np.zeros(layer.shape[0]) if layer.bias is None else np.asarray(layer.bias)
    full = np.broadcast_to(bias.reshape(-1, 1, 1) if bias.ndim == 1 else bias, layer.shape)
    return np.ascontiguousarray(np.moveaxis(full, 0, -1)).reshape(-1).astype(np.float32)
