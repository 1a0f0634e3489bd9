"""Fold input normalisation and remaining batch-norms into the linear layer behind them."""

from __future__ import annotations

from compiler.ir.ann import (
    AnnGraph,
    AnnLayer,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    InputAffine,
)
from compiler.ir.geometry import Shape
from compiler.passes.algebra import before_conv, into_dense, scale_and_shift


def fold_affine(graph: AnnGraph) -> AnnGraph:
    """Fold layer(scale * x + shift) into weight and bias of `layer`, padded border included."""
    layers = list(graph.layers)
    for place in range(len(layers) - 1, -1, -1):
        affine = layers[place]
        if isinstance(affine, (BatchNorm, InputAffine)):
            shapes = (graph.input_shape, *graph.with_layers(tuple(layers)).shapes)
            _fold(layers, place, affine, shapes[place])
    return graph.with_layers(tuple(layers))


def _fold(
    layers: list[AnnLayer], place: int, affine: BatchNorm | InputAffine, shape: Shape
) -> None:
    rest = layers[place + 1 :]
    if rest and isinstance(rest[0], Conv2d):
        layers[place : place + 2] = [before_conv(*scale_and_shift(affine), rest[0], shape)]
    elif rest and isinstance(rest[0], Dense):
        layers[place : place + 2] = [into_dense(affine, shape, rest[0])]
    elif len(rest) > 1 and isinstance(rest[0], Flatten) and isinstance(rest[1], Dense):
        layers[place : place + 3] = [rest[0], into_dense(affine, shape, rest[1])]
