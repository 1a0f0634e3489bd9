"""Give pools that could not be folded neurons of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, AvgPool2d, Conv2d, Relu
from compiler.ir.geometry import Array, Shape
from compiler.ir.run_ann import run_layer
from compiler.passes.algebra import float32, uniform_divisor
from compiler.passes.bounds import largest_activation


def pool_to_conv(graph: AnnGraph) -> AnnGraph:
    """Turn a pool behind a ReLU into a depthwise convolution and a ReLU, which changes nothing.

    In spikes it is a layer more, whose hard reset loses a part of every sum. Where windows
    at the border are divided by other numbers, every divisor has channels of its own; see
    `_one_channel_a_divisor`.
    """
    for place in range(len(graph.layers) - 1, -1, -1):
        layer = graph.layers[place]
        if isinstance(layer, AvgPool2d):
            shape = (graph.input_shape, *graph.shapes)[place]
            graph = _without_pool(graph, place, layer, shape)
    return graph


def _without_pool(graph: AnnGraph, place: int, pool: AvgPool2d, shape: Shape) -> AnnGraph:
    """The graph with layers[place], which takes `shape`, as a convolution; itself if it cannot."""
    before, behind = graph.layers[:place], graph.layers[place + 1 :]
    positive = bool(before) and isinstance(before[-1], Relu)
    relus = (Relu(f"{pool.name}.relu"),) if positive else ()
    if uniform_divisor(pool):
        return graph.with_layers((*before, _depthwise(pool, shape[0]), *relus, *behind))
    divisors = _divisors(pool, shape)
    repeated = _repeated(behind, len(np.unique(divisors)))
    if not positive or repeated is None:
        return graph
    silent = largest_activation(graph, place - 1)
    conv = _one_channel_a_divisor(pool, shape[0], divisors, silent)
    return graph.with_layers((*before, conv, *relus, *repeated))


def _depthwise(pool: AvgPool2d, channels: int) -> Conv2d:
    area = pool.kernel[0] * pool.kernel[1]
    return _by_channel(pool, np.full((channels, 1, *pool.kernel), 1 / area), None, channels)


def _by_channel(pool: AvgPool2d, weight: Array, bias: Array | None, channels: int) -> Conv2d:
    """A convolution whose output o takes in channel o * channels // outputs alone.

    weight: (outputs, 1, rows, columns).
    """
    geometry = replace(pool.geometry, groups=channels)
    return Conv2d(pool.name, float32(weight), None if bias is None else float32(bias), geometry)


def _divisors(pool: AvgPool2d, shape: Shape) -> Array:
    """Real pixels in every window, int64 (H, W)."""
    area = pool.kernel[0] * pool.kernel[1]
    counted = replace(pool, count_include_pad=True)
    share = run_layer(counted, np.ones((1, 1, *shape[1:])))[0, 0]
    divisors: Array = np.rint(share * area).astype(np.int64)
    return divisors


def _one_channel_a_divisor(
    pool: AvgPool2d, channels: int, divisors: Array, silent: float
) -> Conv2d:
    """A convolution, to be followed by a ReLU, with channel c * K + k for divisor k of K.

    Each divides by its own number everywhere; where that is not the window's number, a bias of
    -silent, which no average exceeds, keeps it at 0. So the sum over k is the pool.
    """
    numbers = np.unique(divisors)
    weight = np.broadcast_to(1 / numbers.reshape(1, -1, 1, 1, 1), (channels, len(numbers), 1, 1, 1))
    kernel = np.ones((1, 1, 1, *pool.kernel))
    weight = (weight * kernel).reshape(-1, 1, *pool.kernel)
    # an average over too small a divisor exceeds the activations by the divisors' ratio
    floor = -silent * numbers.max() / numbers.min()
    bias = np.where(divisors == numbers[:, None, None], 0.0, floor)
    return _by_channel(pool, weight, np.tile(bias, (channels, 1, 1)), channels)


def _repeated(layers: tuple[AnnLayer, ...], times: int) -> tuple[AnnLayer, ...] | None:
    """`layers` for an input whose every channel comes `times` times, all but one of them 0.

    None where the first that mixes channels is no convolution.
    """
    if not layers or not isinstance(layers[0], Conv2d):
        return None
    weight = float32(np.repeat(layers[0].weight, times, axis=1))
    return (replace(layers[0], weight=weight), *layers[1:])
