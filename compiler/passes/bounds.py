"""How large an activation can become for any image in [0, 1]: interval arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, BatchNorm, Conv2d, Dense, InputAffine
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import run_layer
from compiler.passes.algebra import scale_and_shift

Interval = tuple[Array, Array]


def largest_activation(graph: AnnGraph, place: int) -> float:
    """A bound of every output of graph.layers[place], float64; it may be far from tight."""
    shape = (1, *graph.input_shape)
    low, high = np.zeros(shape), np.ones(shape)
    for layer in graph.layers[: place + 1]:
        low, high = _through(layer, low, high)
    return float(high.max())


def _through(layer: AnnLayer, low: Array, high: Array) -> Interval:
    """The interval behind a layer, place by place."""
    if isinstance(layer, (Conv2d, Dense)):
        return _through_linear(layer, low, high)
    if isinstance(layer, (BatchNorm, InputAffine)):
        scale, shift = (values[:, None, None] for values in scale_and_shift(layer))
        ends = low * scale + shift, high * scale + shift
        return np.minimum(*ends), np.maximum(*ends)
    return run_layer(layer, low), run_layer(layer, high)


def _through_linear(layer: Conv2d | Dense, low: Array, high: Array) -> Interval:
    falling = replace(layer, weight=frozen(np.minimum(layer.weight, 0), np.float64), bias=None)
    rising = replace(layer, weight=frozen(np.maximum(layer.weight, 0), np.float64))
    return (
        run_layer(rising, low) + run_layer(falling, high),
        run_layer(rising, high) + run_layer(falling, low),
    )
