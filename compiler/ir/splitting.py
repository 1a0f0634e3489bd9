"""A spiking network in two parts: first layers that stay at home, and the rest."""

from __future__ import annotations

from dataclasses import replace

from compiler.errors import Problem, UsageError
from compiler.ir.chip import ChipGraph
from compiler.ir.snn import Encoding

HOST = Encoding("host")
"""The input code of a second part: spikes that its first part computes, step by step."""


def split(graph: ChipGraph, count: int) -> tuple[ChipGraph, ChipGraph]:
    """The first `count` layers, and the others, fed with the spikes of the last of them.

    Raises UsageError unless a layer is left on either side.
    """
    if not 0 < count < len(graph.layers):
        problem = Problem(
            graph.name,
            f"{count} of {len(graph.layers)} layers",
            f"1..{len(graph.layers) - 1}",
            "leave at least one layer on either side",
        )
        raise UsageError("the network cannot be split there", [problem])
    first, rest = graph.layers[:count], graph.layers[count:]
    return (
        replace(graph, layers=first, class_names=()),
        replace(
            graph,
            layers=rest,
            input_shape=first[-1].shape,
            encoding=HOST,
            input_neurons=None,
        ),
    )


def join(first: ChipGraph, rest: ChipGraph) -> ChipGraph:
    """The network that `split` divided; raises UsageError listing where the parts do not fit."""
    pairs = (
        ("time-steps", rest.timesteps, first.timesteps),
        ("input of the second part", rest.input_shape, first.layers[-1].shape),
        ("input code of the second part", rest.encoding, HOST),
    )
    problems = [
        Problem(what, str(found), str(wanted), "give the two files of one split")
        for what, found, wanted in pairs
        if found != wanted
    ]
    if problems:
        raise UsageError("the two parts do not belong together", problems)
    return replace(
        rest,
        name=first.name,
        layers=(*first.layers, *rest.layers),
        input_shape=first.input_shape,
        encoding=first.encoding,
        input_neurons=first.input_neurons,
    )
