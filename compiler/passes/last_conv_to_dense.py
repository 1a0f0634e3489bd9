"""Write a convolution at the end that sees the whole image at once as the dense layer it is."""

from __future__ import annotations

from itertools import product

import numpy as np

from compiler.ir.ann import AnnGraph, Conv2d, Dense, Flatten
from compiler.ir.geometry import Array, Shape
from compiler.passes.algebra import float32


def last_conv_to_dense(graph: AnnGraph) -> AnnGraph:
    """Replace the last layer, where it is a convolution whose output has one place."""
    shapes = (graph.input_shape, *graph.shapes)
    last = graph.layers[-1] if graph.layers else None
    if not isinstance(last, Conv2d) or shapes[-1][1:] != (1, 1):
        return graph
    before = shapes[-2]
    bias = None if last.bias is None else float32(last.bias.reshape(-1))
    dense = Dense(last.name, float32(_matrix(last, before)), bias)
    flatten = () if before[1:] == (1, 1) else (Flatten(f"{last.name}.flatten"),)
    return graph.with_layers((*graph.layers[:-1], *flatten, dense))


def _matrix(conv: Conv2d, shape: Shape) -> Array:
    """Weight (out, C * H * W) of the only output place, in C, H, W order."""
    geometry, (channels, height, width) = conv.geometry, shape
    outputs, inputs, rows, columns = conv.weight.shape
    matrix = np.zeros((outputs, channels, height, width))
    each = outputs // geometry.groups
    for row, column in product(range(rows), range(columns)):
        y = row * geometry.dilation[0] - geometry.padding[0][0]
        x = column * geometry.dilation[1] - geometry.padding[1][0]
        if not (0 <= y < height and 0 <= x < width):
            continue
        for group in range(geometry.groups):
            out, into = (slice(group * size, (group + 1) * size) for size in (each, inputs))
            matrix[out, into, y, x] = conv.weight[out, :, row, column]
    return matrix.reshape(outputs, -1)
