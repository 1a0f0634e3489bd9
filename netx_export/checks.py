"""What a ChipGraph must satisfy before it may go into a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.chip import fields
from compiler.errors import Problem
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import Shape
from netx_export.lava_weights import dense_weight_problem

MAX_DELAY = 62
"""Steps of synaptic delay that lava-dl keeps (lava/lib/dl/netx/hdf5.py, create_dense)."""


def no_file(path: Path, inside: str) -> tuple[str, str]:
    """What was found where no file is, and the remedy; `inside`: what a folder may hold."""
    if not path.is_dir():
        return "no such file", "check the path"
    there = path / inside
    return "a folder", f"name {there}" if there.is_file() else "name a file"


def range_problems(graph: ChipGraph) -> list[Problem]:
    """Every value that does not fit its field, layer by layer; the time-steps too."""
    problems = _timestep_problems(graph)
    if graph.input_neurons is not None:
        given = graph.input_neurons
        problems += _neuron_problems(given.name, given.neuron, readout=False)
        problems += fields.BIAS_MANT_ANY.problems(
            given.name, np.array([given.bias]), "shift the range of the input"
        )
    for layer in graph.layers:
        problems += _layer_problems(layer)
    return problems


def _timestep_problems(graph: ChipGraph) -> list[Problem]:
    if graph.timesteps is None or graph.timesteps in fields.TIMESTEP_CHOICES:
        return []
    allowed = ", ".join(str(choice) for choice in fields.TIMESTEP_CHOICES)
    found = f"{graph.timesteps} time-steps"
    return [Problem(graph.name, found, f"a power of two: {allowed}", "choose the nearest of these")]


def _layer_problems(layer: ChipLayer) -> list[Problem]:
    problems = fields.WEIGHT.problems(
        layer.name, layer.weight, "quantize with compiler.chip.fixed_point"
    )
    if layer.bias is not None:
        problems += fields.BIAS_MANT.problems(
            layer.name, layer.bias, "lower the scale of the layer, or its bias"
        )
    problems += _neuron_problems(layer.name, layer.neuron, layer.readout)
    if layer.delay is not None:
        problems += fields.Field("delay", 0, MAX_DELAY, 1, "lava-dl netx").problems(
            layer.name, layer.delay, "shorten the delays"
        )
    if layer.kind == "dense":
        dense = dense_weight_problem(layer.name, layer.weight)
        return problems + ([dense] if dense else [])
    return problems + fields.lava_conv_problems(layer.name, layer.kernel, layer.geometry)


def _neuron_problems(name: str, neuron: CubaFields, readout: bool) -> list[Problem]:
    threshold = fields.V_TH_MANT if readout else fields.HIDDEN_V_TH_MANT
    remedy = "choose another scale for the layer"
    return [
        *threshold.problems(name, np.array([neuron.v_th_mant]), remedy),
        *fields.I_DECAY.problems(name, np.array([neuron.i_decay]), "4096 for no memory in u"),
        *fields.V_DECAY.problems(name, np.array([neuron.v_decay]), "0 for no leak"),
    ]


def structure_problems(graph: ChipGraph) -> list[Problem]:
    """Layers that do not fit the one before them, or whose arrays do not fit their shapes."""
    problems: list[Problem] = []
    if not graph.layers:
        problems.append(Problem(graph.name, "no layer", "at least one layer", "add a layer"))
    shape, kind = graph.input_shape, "input"
    for layer in graph.layers:
        problems += _fit_problems(layer, shape, kind)
        shape, kind = layer.shape, layer.kind
    for layer in graph.layers[:-1]:
        if layer.readout:
            found = "a read-out layer with layers after it"
            problems.append(Problem(layer.name, found, "read-out last", "move or change it"))
    return problems


def _fit_problems(layer: ChipLayer, before: Shape, kind: str) -> list[Problem]:
    remedy = "check the shapes of the layers and their weights"
    kind_problem = _kind_problem(layer)
    if kind_problem is not None:
        return [kind_problem]
    expected = expected_shape(layer)
    pairs = [
        ("input shape", layer.input_shape, before),
        ("output shape", layer.shape, expected),
        ("weight shape", tuple(layer.weight.shape), _weight_shape(layer)),
    ]
    if layer.bias is not None and layer.bias.shape != layer.shape[:1]:
        pairs.append(("bias shape", tuple(layer.bias.shape), layer.shape))
    problems = [
        Problem(layer.name, f"{what} {found}", str(allowed), remedy)
        for what, found, allowed in pairs
        if found != allowed
    ]
    if layer.kind == "conv" and kind == "dense":
        found = "a conv layer behind a dense one"
        problems.append(Problem(layer.name, found, "conv behind input or conv", "reorder them"))
    return problems


def _kind_problem(layer: ChipLayer) -> Problem | None:
    """A problem that makes it senseless to look at the shapes."""
    dimensions = {"conv": 4, "dense": 2}.get(layer.kind)
    if dimensions is None:
        return Problem(layer.name, f"kind {layer.kind!r}", "conv or dense", "lower it first")
    if layer.weight.ndim != dimensions:
        found = f"weight shape {tuple(layer.weight.shape)}"
        return Problem(layer.name, found, f"{dimensions} axes", "reshape the weight")
    groups = layer.geometry.groups
    if layer.kind == "conv" and (layer.input_shape[0] % groups or layer.shape[0] % groups):
        found = f"{groups} groups for {layer.input_shape[0]} and {layer.shape[0]} channels"
        return Problem(layer.name, found, "groups that divide both", "change the groups")
    return None


def expected_shape(layer: ChipLayer) -> Shape:
    """Output shape (C, H, W) that follows from the layer's input shape and its weight."""
    if layer.kind == "dense":
        return (int(layer.weight.shape[0]), 1, 1)
    rows, columns = layer.geometry.output_size(layer.input_shape[1:], layer.kernel)
    return (int(layer.weight.shape[0]), rows, columns)


def _weight_shape(layer: ChipLayer) -> tuple[int, ...]:
    channels, height, width = layer.input_shape
    if layer.kind == "dense":
        return (layer.shape[0], channels * height * width)
    return (layer.shape[0], channels // layer.geometry.groups, *layer.kernel)
