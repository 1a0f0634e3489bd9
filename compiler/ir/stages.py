"""A lowered AnnGraph seen as a chain of synapse and activation: what a spiking layer replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from compiler.errors import ModelError, Problem
from compiler.ir.ann import AnnGraph, Conv2d, Dense, Flatten, Relu, output_shape
from compiler.ir.geometry import Shape


@dataclass(frozen=True)
class Stage:
    """One synapse and, unless it is the read-out, the ReLU behind it.

    output_index: position in graph.layers whose output is the stage's activation.
    """

    synapse: Union[Conv2d, Dense]
    input_shape: Shape
    shape: Shape
    output_index: int
    readout: bool


def stages(graph: AnnGraph) -> tuple[Stage, ...]:
    """The stages of a lowered graph.

    Raises ModelError listing everything but (Conv2d | Dense), Relu pairs and Flatten, and
    a last layer that has an activation.
    """
    found: list[Stage] = []
    problems: list[Problem] = []
    shape = graph.input_shape
    pending: tuple[Union[Conv2d, Dense], Shape, Shape] | None = None
    for index, layer in enumerate(graph.layers):
        after = output_shape(layer, shape)
        if isinstance(layer, (Conv2d, Dense)):
            if pending:
                problems.append(_problem(pending[0].name, "no activation behind it", "a ReLU"))
            pending = (layer, shape, after)
        elif isinstance(layer, Relu) and pending:
            found.append(Stage(*pending, index, False))
            pending = None
        elif not isinstance(layer, Flatten):
            problems.append(_problem(layer.name, type(layer).__name__, "a lowered network"))
        if not isinstance(layer, Flatten):
            shape = after
    if pending:
        found.append(Stage(*pending, len(graph.layers) - 1, True))
    elif not problems:
        problems.append(_problem(graph.layers[-1].name, "an activation at the end", "logits"))
    if problems:
        raise ModelError(f"{graph.name} is no chain of convolution or dense with ReLU", problems)
    return tuple(found)


def _problem(layer: str, found: str, allowed: str) -> Problem:
    return Problem(layer, found, allowed, "rewrite the network as synapse, ReLU, ..., logits")
