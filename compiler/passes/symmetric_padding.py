"""Make the padding of every convolution the same on opposite sides, as NetX stores it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d
from compiler.ir.geometry import Array, ConvGeometry, Shape
from compiler.passes.algebra import float32, undilated


def symmetric_padding(graph: AnnGraph) -> AnnGraph:
    """Extend kernels by rows and columns of zeros until the padding is symmetric."""
    shapes = (graph.input_shape, *graph.shapes)
    layers: list[AnnLayer] = []
    for place, layer in enumerate(graph.layers):
        uneven = isinstance(layer, Conv2d) and not layer.geometry.symmetric
        if uneven and isinstance(layer, Conv2d):
            layers.append(_symmetric(layer, shapes[place]))
        else:
            layers.append(layer)
    return graph.with_layers(tuple(layers))


def _symmetric(conv: Conv2d, shape: Shape) -> Conv2d:
    weight: Array = conv.weight
    geometry = conv.geometry
    plans = [_plan(weight, geometry, axis, shape[1 + axis]) for axis in range(2)]
    if None in plans:
        weight = undilated(weight, geometry)
        geometry = replace(geometry, dilation=(1, 1))
        plans = [_plan(weight, geometry, axis, shape[1 + axis]) for axis in range(2)]
    rows, columns = (plan or (0, 0, 0) for plan in plans)
    weight = np.pad(weight, ((0, 0), (0, 0), rows[:2], columns[:2]))
    padding = ((rows[2], rows[2]), (columns[2], columns[2]))
    return replace(conv, weight=float32(weight), geometry=replace(geometry, padding=padding))


def _plan(
    weight: Array, geometry: ConvGeometry, axis: int, size: int
) -> tuple[int, int, int] | None:
    """Return taps to add before and after, and the padding; None where dilation forbids it.

    Each tap added before the kernel asks for `dilation` more pixels of padding there, and
    likewise after it. Padding that no window reaches may be added or left out at the end.
    """
    before, after = geometry.padding[axis]
    dilation, stride = geometry.dilation[axis], geometry.stride[axis]
    reach = dilation * (weight.shape[2 + axis] - 1) + 1
    windows = (size + before + after - reach) // stride + 1
    needed = (windows - 1) * stride + reach - size - before
    most = abs(before - after) + stride
    for total in range(2 * most + 1):
        for first in range(total + 1):
            second = total - first
            wanted = before + first * dilation
            unused = wanted - second * dilation - needed
            if 0 <= unused < stride and wanted >= 0:
                return first, second, wanted
    return None
