"""Linear algebra on layers, in double precision; every function is exact but for rounding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from compiler.ir.ann import AnnLayer, AvgPool2d, BatchNorm, Conv2d, Dense, InputAffine
from compiler.ir.geometry import Array, Shape, frozen
from compiler.ir.run_ann import run_layer

if TYPE_CHECKING:
    from torch import nn

_ROWS_AT_A_TIME = 64
"""Rows of a dense layer folded together: in double precision all of them would not fit."""


def float32(array: Array) -> Array:
    """Return a read-only float32 copy, as the graphs keep it."""
    return frozen(array, np.float32)


def scale_and_shift(layer: BatchNorm | InputAffine) -> tuple[Array, Array]:
    """Return y = scale * x + shift of an affine layer as float64 (C,)."""
    if isinstance(layer, BatchNorm):
        return layer.scale.astype(np.float64), layer.shift.astype(np.float64)
    std = layer.std.astype(np.float64)
    return 1 / std, -layer.mean.astype(np.float64) / std


def behind(layer: Conv2d | Dense, scale: Array, shift: Array) -> Conv2d | Dense:
    """Return the layer that computes scale * layer(x) + shift; scale, shift: (out,)."""
    axes = (1,) * (layer.weight.ndim - 1)
    weight = layer.weight.astype(np.float64) * scale.reshape(-1, *axes)
    bias = shift
    if layer.bias is not None:
        places = (1,) * (layer.bias.ndim - 1)
        bias = layer.bias * scale.reshape(-1, *places) + shift.reshape(-1, *places)
    return replace(layer, weight=float32(weight), bias=float32(bias))


def before_conv(scale: Array, shift: Array, conv: Conv2d, shape: Shape) -> Conv2d:
    """Return the convolution that computes conv(scale * x + shift); x has `shape`.

    The zeros that the convolution pads with stand behind the affine map, so near a padded
    border the shift arrives in part only: the bias then differs from place to place.
    """
    groups = conv.geometry.groups
    per_group = np.repeat(scale.reshape(groups, -1), conv.weight.shape[0] // groups, axis=0)
    weight = conv.weight.astype(np.float64) * per_group[:, :, None, None]
    image = np.broadcast_to(shift[:, None, None], shape)
    bias = without_places(run_layer(conv, image[None])[0])
    return replace(conv, weight=float32(weight), bias=float32(bias))


def without_places(bias: Array) -> Array:
    """Return a bias (out, H, W) as (out,) where every place of a channel has the same."""
    largest = max(float(np.abs(bias).max(initial=0)), 1e-300)
    if np.ptp(bias, axis=(1, 2)).max(initial=0) <= 1e-12 * largest:
        return bias[:, 0, 0]
    return bias


def into_dense(layer: AnnLayer, shape: Shape, dense: Dense) -> Dense:
    """Return the dense layer that computes dense(layer(x)) for a linear or affine `layer`.

    x has `shape`. The rows of the new weight are the old rows, sent backwards through the
    layer (its transpose), a block at a time; the new bias is what comes out for x = 0.
    """
    import torch

    from compiler.ir.ann_module import layer_module

    module = layer_module(layer, torch.float64)
    at_zero = run_layer(layer, np.zeros((1, *shape))).reshape(-1)
    weight = np.empty((len(dense.weight), math.prod(shape)), np.float32)
    bias = np.empty(len(weight))
    for begin in range(0, len(weight), _ROWS_AT_A_TIME):
        block = slice(begin, begin + _ROWS_AT_A_TIME)
        rows = dense.weight[block].astype(np.float64)
        bias[block] = rows @ at_zero
        weight[block] = _backwards(module, shape, rows)
    weight.setflags(write=False)
    if dense.bias is not None:
        bias = bias + dense.bias
    silent = dense.bias is None and not bias.any()
    return replace(dense, weight=weight, bias=None if silent else float32(bias))


def _backwards(module: nn.Module, shape: Shape, rows: Array) -> Array:
    """Send rows (n, out) back through a linear layer whose input has `shape`: (n, in)."""
    import torch

    inputs = torch.zeros(len(rows), *shape, dtype=torch.float64, requires_grad=True)
    outputs = module(inputs)
    wanted = torch.from_numpy(rows).reshape(outputs.shape)
    (weight,) = torch.autograd.grad(outputs, inputs, wanted)
    result: Array = weight.reshape(len(rows), -1).numpy()
    return result


def joined_weight(conv: Conv2d, groups: int) -> Array:
    """Return the weight of the same convolution in `groups` groups, zeros between those joined.

    groups: a divisor of the convolution's; returns float64 (out, in / groups, kH, kW).
    """
    out, inputs, rows, columns = conv.weight.shape
    given = conv.geometry.groups
    weight = np.zeros((out, inputs * given // groups, rows, columns))
    for group in range(given):
        outs = slice(group * out // given, (group + 1) * out // given)
        first = group % (given // groups) * inputs
        weight[outs, first : first + inputs] = conv.weight[outs]
    return weight


def uniform_divisor(pool: AvgPool2d) -> bool:
    """Return whether every window of a pool is divided by the same number."""
    return pool.count_include_pad or pool.geometry.padding == ((0, 0), (0, 0))
