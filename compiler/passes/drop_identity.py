"""Drop layers that change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, AvgPool2d, BatchNorm, Flatten, InputAffine, Relu
from compiler.passes.algebra import scale_and_shift


def drop_identity(graph: AnnGraph) -> AnnGraph:
    """Drop affine maps y = x, pools of one pixel, and the second of two ReLUs in a row.

    A ReLU on the pixels themselves, which are in [0, 1], changes nothing either, clipped at 1 or
    more or not at all.
    """
    kept: list[AnnLayer] = []
    for layer in graph.layers:
        before = kept[-1] if kept else None
        if isinstance(layer, Relu) and isinstance(before, Relu):
            kept[-1] = replace(before, maximum=_smaller(before.maximum, layer.maximum))
        elif not _is_identity(layer) and not _of_pixels(layer, kept):
            kept.append(layer)
    return graph.with_layers(tuple(kept))


def _is_identity(layer: AnnLayer) -> bool:
    if isinstance(layer, (BatchNorm, InputAffine)):
        scale, shift = scale_and_shift(layer)
        return bool(np.all(scale == 1) and np.all(shift == 0))
    if isinstance(layer, AvgPool2d):
        still = layer.geometry.stride == (1, 1) and layer.geometry.padding == ((0, 0), (0, 0))
        return still and layer.kernel == (1, 1)
    return False


def _of_pixels(layer: AnnLayer, before: list[AnnLayer]) -> bool:
    """Whether the layer is a ReLU, unclipped below 1, with nothing that computes before it."""
    unclipped = isinstance(layer, Relu) and (layer.maximum is None or layer.maximum >= 1)
    return unclipped and all(isinstance(one, Flatten) for one in before)


def _smaller(first: float | None, second: float | None) -> float | None:
    known = [maximum for maximum in (first, second) if maximum is not None]
    return min(known) if known else None
