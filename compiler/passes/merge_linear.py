"""Merge linear layers that follow each other without a ReLU between."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d, Dense, Flatten
from compiler.ir.geometry import Array
from compiler.passes.algebra import float32, into_dense, joined_weight

_MOST_WEIGHTS = 1 << 26
"""Of a square matrix that stands for a vector's factors, at most: 512 MB in double precision."""


def merge_linear(graph: AnnGraph) -> AnnGraph:
    """Merge a conv or dense layer into the dense layer, or 1x1 convolution, behind it."""
    layers = list(graph.layers)
    for place in range(len(layers) - 2, -1, -1):
        first = layers[place]
        if not isinstance(first, (Conv2d, Dense)):
            continue
        flattens = isinstance(layers[place + 1], Flatten) and place + 2 < len(layers)
        second = layers[place + 1 + flattens]
        if flattens and isinstance(second, Conv2d) and _pointwise(second):
            second = _as_dense(second) or second
        if isinstance(second, Dense):
            shapes = (graph.input_shape, *graph.with_layers(tuple(layers)).shapes)
            merged = replace(into_dense(first, shapes[place], second), name=first.name)
            layers[place : place + 2 + flattens] = [*_flatten(first, layers[place + 1]), merged]
        elif (
            not flattens
            and isinstance(first, Conv2d)
            and isinstance(second, Conv2d)
            and _pointwise(second)
        ):
            layers[place : place + 2] = [_merged(first, second)]
    return graph.with_layers(tuple(layers))


def _flatten(first: Conv2d | Dense, follower: AnnLayer) -> list[AnnLayer]:
    if isinstance(first, Dense):
        return []
    return [follower if isinstance(follower, Flatten) else Flatten(f"{first.name}.flatten")]


def _pointwise(conv: Conv2d) -> bool:
    still = conv.geometry.stride == (1, 1) and conv.geometry.padding == ((0, 0), (0, 0))
    return still and conv.weight.shape[2:] == (1, 1)


def _as_dense(conv: Conv2d) -> Dense | None:
    """A 1x1 convolution of a vector, as a batch-norm behind a flatten is; None if too large."""
    if len(conv.weight) ** 2 > _MOST_WEIGHTS:
        return None
    bias = None if conv.bias is None else conv.bias.reshape(-1)
    return Dense(conv.name, float32(joined_weight(conv, 1)[:, :, 0, 0]), bias)


def _merged(first: Conv2d, second: Conv2d) -> Conv2d:
    mixing = joined_weight(second, 1)[:, :, 0, 0]
    weight = np.einsum("om,mikl->oikl", mixing, joined_weight(first, 1))
    bias = None if first.bias is None else np.tensordot(mixing, first.bias, axes=1)
    if second.bias is not None:
        there = second.bias.astype(np.float64)
        bias = there if bias is None else _added(bias, there)
    kept = None if bias is None else float32(bias)
    geometry = replace(first.geometry, groups=1)
    return replace(first, weight=float32(weight), bias=kept, geometry=geometry)


def _added(first: Array, second: Array) -> Array:
    """Add two biases, each (out,) or (out, H, W)."""
    if first.ndim > second.ndim:
        second = second[:, None, None]
    elif second.ndim > first.ndim:
        first = first[:, None, None]
    total: Array = first + second
    return total
