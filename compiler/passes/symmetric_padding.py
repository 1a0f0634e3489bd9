"""Make the padding of every convolution the same on opposite sides, as NetX stores it."""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d
from compiler.ir.geometry import Shape
from compiler.ir.padding import symmetric
from compiler.passes.algebra import float32


def symmetric_padding(graph: AnnGraph) -> AnnGraph:
    """Extend kernels by rows and columns of zeros until the padding is symmetric."""
    shapes = (graph.input_shape, *graph.shapes)
    pairs = zip(graph.layers, shapes, strict=False)
    return graph.with_layers(tuple(_symmetric(layer, shape) for layer, shape in pairs))


def _symmetric(layer: AnnLayer, shape: Shape) -> AnnLayer:
    if not isinstance(layer, Conv2d) or layer.geometry.symmetric:
        return layer
    weight, geometry = symmetric(layer.weight, layer.geometry, shape[1:])
    return replace(layer, weight=float32(weight), geometry=geometry)
