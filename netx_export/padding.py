"""Asymmetric padding, which NetX cannot say, as symmetric padding and a longer kernel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.chip import ChipLayer
from compiler.ir.geometry import Array, Pair, frozen


def symmetric_padding(layer: ChipLayer) -> ChipLayer:
    """The same layer with equal padding on opposite sides; every sum of weights is unchanged.

    The kernel gets rows and columns of zeros on the side that had less padding. Where the
    dilation does not divide the difference, the dilation is written out as zeros first.
    A layer that needs no change is returned as it is.
    """
    if layer.kind != "conv" or layer.geometry.symmetric:
        return layer
    weight: Array = np.asarray(layer.weight)
    dilation, padding = list(layer.geometry.dilation), list(layer.geometry.padding)
    for axis in (0, 1):
        weight, dilation[axis], padding[axis] = _along(layer, axis, weight, padding[axis])
    geometry = replace(
        layer.geometry,
        padding=(padding[0], padding[1]),
        dilation=(dilation[0], dilation[1]),
    )
    return replace(layer, weight=frozen(weight, np.int32), geometry=geometry)


def _along(layer: ChipLayer, axis: int, weight: Array, padding: Pair) -> tuple[Array, int, Pair]:
    """Kernel, dilation and padding of one axis after the change."""
    dilation = layer.geometry.dilation[axis]
    if padding[0] == padding[1]:
        return weight, dilation, padding
    size, stride = layer.input_shape[1 + axis], layer.geometry.stride[axis]
    zeros = _zeros_needed(size, weight.shape[2 + axis], stride, dilation, padding)
    if zeros is None:
        weight = _undilated(weight, axis, dilation)
        dilation = 1
        zeros = _zeros_needed(size, weight.shape[2 + axis], stride, 1, padding)
    before, after = zeros if zeros is not None else (0, 0)
    widths = [(0, 0)] * 4
    widths[2 + axis] = (before, after)
    both = padding[0] + before * dilation
    return np.pad(weight, widths), dilation, (both, both)


def _zeros_needed(
    size: int, kernel: int, stride: int, dilation: int, padding: Pair
) -> tuple[int, int] | None:
    """Fewest zero taps (before, after) that keep every window in place and their number.

    With `before` taps the first window starts where it did if the padding is first + before
    * dilation; the number of windows stays if the last one neither runs out of the padded
    input nor leaves room for one more. None if this dilation allows no such pair.
    """
    first, last = padding
    slack = (size + first + last - dilation * (kernel - 1) - 1) % stride
    reach = abs(last - first) // dilation + 1
    for taps in range(2 * reach + 1):
        for before in range(taps + 1):
            change = first - last + (2 * before - taps) * dilation
            if 0 <= slack + change < stride:
                return before, taps - before
    return None


def _undilated(weight: Array, axis: int, dilation: int) -> Array:
    """The same kernel with its gaps written out as zeros along one axis."""
    shape = list(weight.shape)
    shape[2 + axis] = dilation * (shape[2 + axis] - 1) + 1
    spread = np.zeros(shape, weight.dtype)
    index: list[slice] = [slice(None)] * 4
    index[2 + axis] = slice(None, None, dilation)
    spread[tuple(index)] = weight
    return spread
