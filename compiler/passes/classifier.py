"""What a lowered network must be, beside a chain that the chip can hold, to be worth a compile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.errors import ModelError, Problem
from compiler.ir.ann import AnnGraph, Conv2d, Dense
from compiler.ir.probe import probe_images
from compiler.ir.run_ann import run_ann_layers

LEAST_CLASSES = 2


def check_classifier(graph: AnnGraph, seed: int = 0) -> None:
    """Raise ModelError listing all that would make the compile of a lowered network senseless."""
    problems = [*_shape_problems(graph), *_weight_problems(graph)]
    problems += [] if problems else _number_problems(graph, seed)
    if problems:
        raise ModelError(f"{graph.name} is no classifier that can be made of spikes", problems)


def _shape_problems(graph: AnnGraph) -> Iterator[Problem]:
    last, (channels, height, width) = graph.layers[-1], graph.shapes[-1]
    if height * width > 1:
        yield Problem(
            last.name,
            f"an output of {channels} x {height} x {width}",
            "one number a class",
            "end the network in global average pooling, or in a dense layer",
        )
    elif channels < LEAST_CLASSES:
        yield Problem(
            last.name,
            "a single output, of which every answer is the same",
            f"{LEAST_CLASSES} classes or more, one output each",
            "write a yes-or-no classifier with two outputs: weights 0 and w, biases 0 and b",
        )
    if sum(isinstance(layer, (Conv2d, Dense)) for layer in graph.layers) < 2:
        yield Problem(
            graph.name,
            "one layer alone, the read-out, which never spikes",
            "a hidden layer with a ReLU before it",
            "nothing of such a network would run as spikes; put a hidden layer in and train again",
        )


def _weight_problems(graph: AnnGraph) -> Iterator[Problem]:
    for layer in graph.layers:
        if isinstance(layer, (Conv2d, Dense)) and not layer.weight.any():
            yield Problem(
                layer.name,
                "weights that are all 0",
                "weights that carry something on",
                "check that the file holds the trained network",
            )


def _number_problems(graph: AnnGraph, seed: int) -> Iterator[Problem]:
    """The first layer whose outputs float32 cannot hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        for layer, output in run_ann_layers(graph, probe_images(graph.input_shape, seed)):
            if not np.isfinite(output).all():
                yield Problem(
                    layer.name,
                    "outputs beyond the range of float32",
                    "finite ones, as in the network's own training",
                    "scale the weights down; check --mean and --std",
                )
                return
