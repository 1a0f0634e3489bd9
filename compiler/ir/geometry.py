"""Shapes and convolution arithmetic shared by the three graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]
Pair = tuple[int, int]
Array = npt.NDArray[Any]


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """Return a read-only, C-contiguous copy of `array`."""
    copy = np.array(array, dtype=dtype, order="C", copy=True)
    copy.setflags(write=False)
    return copy


def in_parts(array: Array, size: int) -> Iterator[tuple[int, Array]]:
    """Begin and content of every part of at most `size` along the first axis, in order."""
    for start in range(0, len(array), size):
        yield start, array[start : start + size]


@dataclass(frozen=True)
class ConvGeometry:
    """Stride, padding, dilation (each (height, width)) and groups of a 2-D convolution.

    `padding` is ((top, bottom), (left, right)), in pixels of zeros.
    """

    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def symmetric(self) -> bool:
        """Whether the padding is the same on opposite sides."""
        return all(before == after for before, after in self.padding)

    def output_size(self, size: Pair, kernel: Pair) -> Pair:
        """Height and width after a convolution of a (height, width) input."""
        return (self._along(0, size, kernel), self._along(1, size, kernel))

    def _along(self, axis: int, size: Pair, kernel: Pair) -> int:
        padded = size[axis] + sum(self.padding[axis])
        reach = self.dilation[axis] * (kernel[axis] - 1) + 1
        return (padded - reach) // self.stride[axis] + 1


def products(weight: Array, shape: Shape) -> int:
    """Products of a layer whose output is `shape` (C, H, W), those with the padding counted."""
    return int(weight.size) * shape[1] * shape[2]
