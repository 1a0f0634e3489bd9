"""Move every flatten directly before the dense layer that needs it."""

from __future__ import annotations

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer, BatchNorm, Flatten, Relu
from compiler.ir.geometry import Shape
from compiler.passes.algebra import float32


def place_flatten(graph: AnnGraph) -> AnnGraph:
    """Move flattens behind ReLU and per-channel batch-norm; drop those that change nothing."""
    while True:
        layers = _one_step(graph)
        if layers is None:
            return graph
        graph = graph.with_layers(layers)


def _one_step(graph: AnnGraph) -> tuple[AnnLayer, ...] | None:
    """Return the layers after one move, None where nothing moves."""
    layers, shapes = graph.layers, (graph.input_shape, *graph.shapes)
    for place, layer in enumerate(layers):
        if not isinstance(layer, Flatten):
            continue
        follower = layers[place + 1] if place + 1 < len(layers) else None
        if shapes[place][1:] == (1, 1) or follower is None or isinstance(follower, Flatten):
            return layers[:place] + layers[place + 1 :]
        moved = _before_flatten(follower, shapes[place])
        if moved is not None:
            return (*layers[:place], moved, layer, *layers[place + 2 :])
    return None


def _before_flatten(follower: AnnLayer, shape: Shape) -> AnnLayer | None:
    """Return what `follower` is in front of the flatten, None where it has to stay behind."""
    if isinstance(follower, Relu):
        return follower
    if not isinstance(follower, BatchNorm):
        return None
    fields = ("scale", "shift", "running_mean", "running_var")
    known = {name: getattr(follower, name) for name in fields}
    per_channel = {
        name: values.reshape(shape[0], -1) for name, values in known.items() if values is not None
    }
    if any(np.ptp(per_channel[name], axis=1).any() for name in ("scale", "shift")):
        return None
    means = {name: float32(values.mean(axis=1)) for name, values in per_channel.items()}
    return BatchNorm(follower.name, **means)
