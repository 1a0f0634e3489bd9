"""Fold a batch-norm into the convolution or dense layer before it."""

from __future__ import annotations

from compiler.ir.ann import AnnGraph, AnnLayer, AvgPool2d, BatchNorm, Conv2d, Dense
from compiler.passes.algebra import behind, scale_and_shift


def fold_batch_norm(graph: AnnGraph) -> AnnGraph:
    """Fold y = scale * layer(x) + shift into weight and bias of `layer`.

    A pool between the two is no hindrance where it averages real pixels alone, since the
    mean of scaled and shifted values is the scaled and shifted mean.
    """
    kept: list[AnnLayer] = []
    for layer in graph.layers:
        place = _linear_before(kept) if isinstance(layer, BatchNorm) else None
        if place is None or not isinstance(layer, BatchNorm):
            kept.append(layer)
            continue
        linear = kept[place]
        if isinstance(linear, (Conv2d, Dense)):
            kept[place] = behind(linear, *scale_and_shift(layer))
    return graph.with_layers(tuple(kept))


def _linear_before(layers: list[AnnLayer]) -> int | None:
    """Return the place of the linear layer that a batch-norm behind `layers` folds into."""
    for place in range(len(layers) - 1, -1, -1):
        layer = layers[place]
        if isinstance(layer, (Conv2d, Dense)):
            return place
        padded = isinstance(layer, AvgPool2d) and layer.geometry.padding != ((0, 0), (0, 0))
        if not isinstance(layer, AvgPool2d) or (padded and layer.count_include_pad):
            return None
    return None
