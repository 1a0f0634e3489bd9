"""Give affine maps that could not be folded a convolution of their own."""

from __future__ import annotations

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, BatchNorm, Conv2d, InputAffine
from compiler.ir.geometry import ConvGeometry
from compiler.passes.algebra import float32, scale_and_shift


def affine_to_conv(graph: AnnGraph) -> AnnGraph:
    """Turn y = scale * x + shift into a 1x1 convolution with one input a channel."""
    return graph.with_layers(tuple(_converted(layer) for layer in graph.layers))


def _converted(layer: AnnLayer) -> AnnLayer:
    if not isinstance(layer, (BatchNorm, InputAffine)):
        return layer
    scale, shift = scale_and_shift(layer)
    bias = float32(shift) if np.any(shift) else None
    weight = float32(scale.reshape(-1, 1, 1, 1))
    return Conv2d(layer.name, weight, bias, ConvGeometry(groups=len(scale)))
