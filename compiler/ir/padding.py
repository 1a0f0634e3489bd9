"""Asymmetric padding, which NetX cannot say, as symmetric padding and a longer kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from compiler.ir.geometry import Array, ConvGeometry, Pair

_T = TypeVar("_T")


def symmetric(weight: Array, geometry: ConvGeometry, size: Pair) -> tuple[Array, ConvGeometry]:
    """Kernel and geometry with equal padding on opposite sides; every sum of weights is unchanged.

    weight: (out, in / groups, kH, kW), of any type; size: (height, width) of the input. The
    kernel gets rows and columns of zeros on the side that had less padding. Where an axis'
    dilation does not divide the difference, that dilation is written out as zeros first.
    """
    for axis in (0, 1):
        before, after = geometry.padding[axis]
        if before != after:
            weight, geometry = _along(axis, weight, geometry, size[axis])
    return weight, geometry


def undilated(weight: Array, dilation: Pair) -> Array:
    """The same kernel with the gaps that dilation leaves between its taps written out as zeros."""
    rows, columns = (
        gap * (taps - 1) + 1 for gap, taps in zip(dilation, weight.shape[2:], strict=True)
    )
    spread = np.zeros((*weight.shape[:2], rows, columns), weight.dtype)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def _along(
    axis: int, weight: Array, geometry: ConvGeometry, size: int
) -> tuple[Array, ConvGeometry]:
    zeros = _zeros_needed(axis, weight, geometry, size)
    if zeros is None:
        dilation = geometry.dilation
        gaps = (dilation[0], 1) if axis == 0 else (1, dilation[1])
        weight = undilated(weight, gaps)
        geometry = replace(geometry, dilation=_with(dilation, axis, 1))
        zeros = _zeros_needed(axis, weight, geometry, size)
    before, after = zeros or (0, 0)
    both = geometry.padding[axis][0] + before * geometry.dilation[axis]
    added = _with(((0, 0), (0, 0)), axis, (before, after))
    padding = _with(geometry.padding, axis, (both, both))
    return np.pad(weight, ((0, 0), (0, 0), *added)), replace(geometry, padding=padding)


def _zeros_needed(axis: int, weight: Array, geometry: ConvGeometry, size: int) -> Pair | None:
    """Fewest zero taps (before, after) that keep every window in place and their number.

    With `before` taps the first window starts where it did if the padding is first + before
    * dilation; the number of windows stays if the last one neither runs out of the padded
    input nor leaves room for one more. None if this dilation allows no such pair.
    """
    first, last = geometry.padding[axis]
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    slack = (size + first + last - dilation * (weight.shape[2 + axis] - 1) - 1) % stride
    reach = abs(last - first) // dilation + 1
    for taps in range(2 * reach + 1):
        for before in range(taps + 1):
            change = first - last + (2 * before - taps) * dilation
            if 0 <= slack + change < stride:
                return before, taps - before
    return None


def _with(pair: tuple[_T, _T], axis: int, value: _T) -> tuple[_T, _T]:
    """The pair with another value at `axis`."""
    return (value, pair[1]) if axis == 0 else (pair[0], value)
