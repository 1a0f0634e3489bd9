"""Average pooling of torch and ONNX in the terms of the AnnGraph."""

from __future__ import annotations

from compiler.ir.geometry import ConvGeometry, Pair

Padding = tuple[Pair, Pair]


def pool_geometry(
    size: Pair,
    kernel: Pair,
    geometry: ConvGeometry,
    ceil_mode: bool,
    count_include_pad: bool,
) -> tuple[ConvGeometry, bool] | None:
    """Return geometry and count_include_pad without ceil_mode, or None where there is none.

    size: (height, width) of the input. With ceil_mode a last, partly filled window is
    kept, and its divisor never counts the pixels beyond the padding; that is padding at
    the end that is not counted. A window that would begin in the padding is dropped.
    """
    if not ceil_mode:
        return geometry, count_include_pad
    extra = [_beyond(size[axis], kernel[axis], axis, geometry) for axis in range(2)]
    if extra == [0, 0]:
        return geometry, count_include_pad
    (top, bottom), (left, right) = geometry.padding
    if count_include_pad and (top, bottom, left, right) != (0, 0, 0, 0):
        return None
    padding = ((top, bottom + extra[0]), (left, right + extra[1]))
    return ConvGeometry(geometry.stride, padding, geometry.dilation, geometry.groups), False


def _beyond(size: int, kernel: int, axis: int, geometry: ConvGeometry) -> int:
    """Return how many pixels the last window of ceil_mode reaches beyond the padding."""
    before, after = geometry.padding[axis]
    stride = geometry.stride[axis]
    reach = geometry.dilation[axis] * (kernel - 1) + 1
    windows = -(-(size + before + after - reach) // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    return max(0, (windows - 1) * stride + reach - size - before - after)
