"""Give pools that could not be folded neurons of their own."""

from __future__ import annotations

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, AvgPool2d, Conv2d, Relu
from compiler.ir.geometry import ConvGeometry
from compiler.passes.algebra import float32, uniform_divisor


def pool_to_conv(graph: AnnGraph) -> AnnGraph:
    """Turn a pool behind a ReLU into a depthwise convolution and a ReLU, which changes nothing.

    In spikes it is a layer more, whose hard reset loses a part of every sum.
    """
    kept: list[AnnLayer] = []
    shapes = (graph.input_shape, *graph.shapes)
    for place, layer in enumerate(graph.layers):
        if not isinstance(layer, AvgPool2d) or not uniform_divisor(layer):
            kept.append(layer)
            continue
        positive = bool(kept) and isinstance(kept[-1], Relu)
        kept.append(_depthwise(layer, shapes[place][0]))
        if positive:
            kept.append(Relu(f"{layer.name}.relu"))
    return graph.with_layers(tuple(kept))


def _depthwise(pool: AvgPool2d, channels: int) -> Conv2d:
    area = pool.kernel[0] * pool.kernel[1]
    weight = np.full((channels, 1, *pool.kernel), 1 / area)
    geometry = ConvGeometry(
        pool.geometry.stride, pool.geometry.padding, pool.geometry.dilation, channels
    )
    return Conv2d(pool.name, float32(weight), None, geometry)
