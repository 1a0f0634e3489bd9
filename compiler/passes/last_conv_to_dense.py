"""Write a convolution at the end that sees the whole image at once as the dense layer it is."""

from __future__ import annotations

import numpy as np

from compiler.ir.ann import AnnGraph, Conv2d, Dense, Flatten
from compiler.passes.algebra import float32, into_dense


def last_conv_to_dense(graph: AnnGraph) -> AnnGraph:
    """Replace the last layer, where it is a convolution whose output has one place."""
    shapes = (graph.input_shape, *graph.shapes)
    last = graph.layers[-1] if graph.layers else None
    if not isinstance(last, Conv2d) or shapes[-1][1:] != (1, 1):
        return graph
    before, unit = shapes[-2], Dense(last.name, float32(np.eye(shapes[-1][0])), None)
    flatten = () if before[1:] == (1, 1) else (Flatten(f"{last.name}.flatten"),)
    return graph.with_layers((*graph.layers[:-1], *flatten, into_dense(last, before, unit)))
