"""Run an SnnGraph in float: the spiking network before its numbers are integers.

The sums are made in a fixed order, whatever the number of threads and the engine, so that the
same network and images give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.chip.encoding import encode
from compiler.chip.engine.plan import plan_layers
from compiler.chip.engine.run import Wanted, run_images, run_spikes, spikes_of
from compiler.chip.engine.run import batch_size as engine_batch
from compiler.ir.geometry import Array, in_parts
from compiler.ir.snn import SnnGraph, SnnLayer

Progress = Callable[[int, int], None]

_BATCH_BYTES = 200_000_000


def run_snn(graph: SnnGraph, images_nchw: Array, progress: Progress | None = None) -> Array:
    """Read-out voltage in mantissas after the last step, float32 (N, classes).

    progress: called with (images done, images in all).
    """
    plans = plan_layers(graph.layers, graph.input_shape)
    size = engine_batch(plans, graph.timesteps)
    logits = []
    for start, part in in_parts(images_nchw, size):
        outputs = run_images(plans, part, graph.timesteps, graph.encoding, start)
        logits.append(np.asarray(outputs[-1].voltage_nm))
        if progress is not None:
            progress(start + len(part), len(images_nchw))
    return np.concatenate(logits)


def encode_nhwc(images_nchw: Array, graph: SnnGraph, first_index: int = 0) -> Array:
    """Encoded images as uint8 (T, N, H, W, C)."""
    spikes = encode(images_nchw, graph.timesteps, graph.encoding, first_index)
    return np.ascontiguousarray(np.moveaxis(spikes, 2, -1))


def batch_size(graph: SnnGraph) -> int:
    """Samples whose largest layer, every step of it at once, stays below a fixed memory."""
    largest = max(int(np.prod(layer.shape)) for layer in graph.layers)
    return max(1, _BATCH_BYTES // (graph.timesteps * largest * 9))


def run_float_layer(layer: SnnLayer, spikes_tnhwc: Array) -> tuple[Array, Array]:
    """Spikes uint8 (T, N, H, W, C) and last voltage float32 (N, H*W*C) of one layer."""
    height, width, channels = spikes_tnhwc.shape[2:]
    plans = plan_layers([layer], (channels, height, width))
    output = run_spikes(plans, spikes_tnhwc, Wanted(spikes=True))[-1]
    return spikes_of(output, plans[0]), np.asarray(output.voltage_nm)
