"""Fold average pooling into the linear layer before it or behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import (
    AnnGraph,
    AnnLayer,
    AvgPool2d,
    Conv2d,
    Dense,
    Flatten,
)
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape
from compiler.ir.padding import undilated
from compiler.passes.algebra import float32, into_dense, uniform_divisor, without_places

NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))


def fold_pool_back(graph: AnnGraph) -> AnnGraph:
    """Fold pools that directly follow a convolution, with no ReLU between, into it."""
    kept: list[AnnLayer] = []
    for layer, shape in zip(graph.layers, graph.shapes, strict=True):
        before = kept[-1] if kept else None
        if (
            isinstance(layer, AvgPool2d)
            and isinstance(before, Conv2d)
            and layer.geometry.padding == NO_PADDING
        ):
            kept[-1] = _conv_then_pool(before, layer, shape)
        else:
            kept.append(layer)
    return graph.with_layers(tuple(kept))


def fold_pool_forward(graph: AnnGraph) -> AnnGraph:
    """Fold pools into the convolution or dense layer behind them, where that is exact.

    A pool whose output is the network's output becomes a dense layer itself.
    """
    layers = list(graph.layers)
    for place in range(len(layers) - 1, -1, -1):
        pool = layers[place]
        if isinstance(pool, AvgPool2d):
            shapes = (graph.input_shape, *graph.with_layers(tuple(layers)).shapes)
            _fold_forward(layers, place, pool, (shapes[place], shapes[place + 1]))
    return graph.with_layers(tuple(layers))


def _fold_forward(
    layers: list[AnnLayer], place: int, pool: AvgPool2d, shapes: tuple[Shape, Shape]
) -> None:
    """Replace layers[place] and what takes it in; shapes: before and behind the pool."""
    rest = layers[place + 1 :]
    if rest and isinstance(rest[0], Conv2d):
        if uniform_divisor(pool) and _exact(pool, rest[0], shapes):
            layers[place : place + 2] = [_pool_then_conv(pool, rest[0], shapes)]
    elif all(isinstance(layer, Flatten) for layer in rest):
        features = shapes[1][0] * shapes[1][1] * shapes[1][2]
        copy = Dense(pool.name, float32(np.eye(features)), None)
        layers[place:] = [Flatten(f"{pool.name}.flatten"), into_dense(pool, shapes[0], copy)]
    else:
        behind = [layer for layer in rest if not isinstance(layer, Flatten)]
        if isinstance(behind[0], Dense):
            skipped = rest.index(behind[0])
            flatten = rest[0] if skipped else Flatten(f"{pool.name}.flatten")
            folded = into_dense(pool, shapes[0], behind[0])
            layers[place : place + skipped + 2] = [flatten, folded]


def _pool_kernel(pool: AvgPool2d) -> Array:
    """Return the pool's window (rows, columns), dilation filled with zeros."""
    ones = np.full((1, 1, *pool.kernel), 1 / (pool.kernel[0] * pool.kernel[1]))
    kernel: Array = undilated(ones, pool.geometry.dilation)[0, 0]
    return kernel


def _spread(conv: Conv2d) -> Array:
    """Return the kernel, dilation filled with zeros, in double precision."""
    return undilated(conv.weight.astype(np.float64), conv.geometry.dilation)


def _composed(first: Array, stride: Pair, second: Array) -> Array:
    """Return the kernel of `first` with `stride`, then `second`; shapes (..., rows, columns)."""
    rows = (second.shape[-2] - 1) * stride[0] + first.shape[-2]
    columns = (second.shape[-1] - 1) * stride[1] + first.shape[-1]
    lead = np.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    kernel = np.zeros((*lead, rows, columns))
    for row in range(second.shape[-2]):
        for column in range(second.shape[-1]):
            top, left = row * stride[0], column * stride[1]
            window = kernel[..., top : top + first.shape[-2], left : left + first.shape[-1]]
            window += first * second[..., row : row + 1, column : column + 1]
    return kernel


def _conv_then_pool(conv: Conv2d, pool: AvgPool2d, shape: Shape) -> Conv2d:
    """Return pool(conv(x)) as one convolution; `shape` is the pool's output."""
    kernel = _composed(_spread(conv), conv.geometry.stride, _pool_kernel(pool))
    bias = conv.bias
    if bias is not None and bias.ndim == 3:
        from compiler.ir.run_ann import run_layer

        bias = float32(without_places(run_layer(pool, bias[None])[0]))
    geometry = ConvGeometry(
        stride=_times(conv.geometry.stride, pool.geometry.stride),
        padding=conv.geometry.padding,
        groups=conv.geometry.groups,
    )
    return replace(conv, weight=float32(kernel), bias=bias, geometry=geometry)


def _pool_then_conv(pool: AvgPool2d, conv: Conv2d, shapes: tuple[Shape, Shape]) -> Conv2d:
    """Return conv(pool(x)) as one convolution; exact where `_exact` says so."""
    kernel = _composed(_pool_kernel(pool), pool.geometry.stride, _spread(conv))
    stride = _times(conv.geometry.stride, pool.geometry.stride)
    outputs = conv.geometry.output_size(
        (shapes[1][1], shapes[1][2]), (conv.weight.shape[2], conv.weight.shape[3])
    )
    padding = []
    for axis in range(2):
        before = conv.geometry.padding[axis][0] * pool.geometry.stride[axis]
        before += pool.geometry.padding[axis][0]
        needed = (outputs[axis] - 1) * stride[axis] + kernel.shape[2 + axis]
        padding.append((before, max(0, needed - before - shapes[0][1 + axis])))
    geometry = ConvGeometry(stride, (padding[0], padding[1]), (1, 1), conv.geometry.groups)
    return replace(conv, weight=float32(kernel), geometry=geometry)


def _exact(pool: AvgPool2d, conv: Conv2d, shapes: tuple[Shape, Shape]) -> bool:
    """Return whether conv's zero padding stays zero when the pool is folded into it.

    The folded kernel reads, in place of a padded zero, the window that the pool would have
    there; that window must not reach a real pixel.
    """
    for axis in range(2):
        before, after = conv.geometry.padding[axis]
        size, pooled = shapes[0][1 + axis], shapes[1][1 + axis]
        stride, offset = pool.geometry.stride[axis], pool.geometry.padding[axis][0]
        reach = pool.geometry.dilation[axis] * (pool.kernel[axis] - 1)
        if before and -stride - offset + reach >= 0:
            return False
        if _touches_end(conv, axis, pooled, after) and pooled * stride - offset < size:
            return False
    return True


def _touches_end(conv: Conv2d, axis: int, size: int, after: int) -> bool:
    """Return whether a kept window of `conv` reads the padding behind the last pixel."""
    kernel = conv.weight.shape[2 + axis]
    reach = conv.geometry.dilation[axis] * (kernel - 1) + 1
    padded = size + sum(conv.geometry.padding[axis])
    last = (padded - reach) // conv.geometry.stride[axis] * conv.geometry.stride[axis]
    return after > 0 and last + reach > size + conv.geometry.padding[axis][0]


def _times(first: Pair, second: Pair) -> Pair:
    return (first[0] * second[0], first[1] * second[1])
