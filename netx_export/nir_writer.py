"""ChipGraph to a NIR file (neuroir.org), which other frameworks read.

Every layer becomes a synapse node (Conv2d or Affine) and a neuron node. What NIR has no place
for (time-steps, input code, class names, ...) goes into the metadata of the graph.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nir
import numpy as np

from compiler.errors import EnvironmentProblem, NirFormatError, Problem, one_problem
from compiler.files import written_whole
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.geometry import Array, Shape
from netx_export.checks import structure_problems
from netx_export.deployment import Deployment, deployment_of
from netx_export.equality import differences
from netx_export.nir_neurons import DT, Integrator, bias_behind_current, neuron_node
from netx_export.writer import prepared

UNIT = "mantissa"
"""Metadata `unit` of files in which weights, biases and thresholds are the chip's integers."""


def write_nir(
    graph: ChipGraph,
    path: str | os.PathLike[str],
    deployment: Deployment | None = None,
    *,
    integrator: Integrator = "IF",
) -> None:
    """Write a NIR file.

    The file appears under its name only when it is complete and reading it has given back the
    same graph; the same arguments give the same bytes. deployment: as for write_netx, by default
    what the graph itself says; integrator: the node that stands for a neuron without any decay, IF
    or, for readers that take IF for something else, a LIF that leaks nothing in float32.
    Raises NirFormatError with every problem: what NIR cannot say, layers that do not fit
    together, a file that reads back differently; EnvironmentProblem where it cannot be written.
    """
    problems = structure_problems(graph) + [
        problem for layer in graph.layers for problem in _unsayable(layer)
    ]
    if graph.input_neurons is not None:
        found = "input neurons, which turn graded values into spikes"
        problems.append(Problem("input", found, "spikes as input", "encode the input outside"))
    if problems:
        raise NirFormatError("the network cannot be written as NIR", problems)
    exact = prepared(graph)
    if deployment is None and graph.timesteps is not None:
        deployment = deployment_of(exact)
    path = Path(path)
    try:
        with written_whole(path) as unfinished:
            nir.write(unfinished, nir_graph(exact, deployment, integrator))
            _check_reading(exact, deployment, unfinished, path)
    except OSError as error:
        raise one_problem(
            EnvironmentProblem, "the network cannot be written", str(path), str(error),
            "a folder that can be written, with space left", "choose another folder",
        ) from error  # fmt: skip


def _unsayable(layer: ChipLayer) -> list[Problem]:
    if layer.delay is None or not np.any(layer.delay):
        return []
    found = "a delay for every synapse"
    remedy = "NIR delays whole signals only; keep this network as NetX"
    return [Problem(layer.name, found, "no delays", remedy)]


def nir_graph(
    graph: ChipGraph, deployment: Deployment | None = None, integrator: Integrator = "IF"
) -> nir.NIRGraph:
    """The nodes and edges of a graph whose padding is symmetric (netx_export.prepared).

    Types are not checked: nir 1.0.8 infers wrong ones for kernels that are not square.
    """
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(graph.input_shape)})}
    edges: list[tuple[str, str]] = []
    before, kind = "input", "input"
    for index, layer in enumerate(graph.layers):
        chain = _layer_nodes(index, layer, kind, integrator)
        border = _border_nodes(index, layer, graph.input_shape)
        last = next(reversed(chain))
        edges += list(itertools.pairwise(["input", *border, last])) if border else []
        edges += list(itertools.pairwise([before, *chain]))
        nodes |= border | chain
        before, kind = last, layer.kind
    nodes["output"] = nir.Output({"output": np.array(_node_shape(graph.layers[-1]))})
    edges.append((before, "output"))
    return nir.NIRGraph(nodes, edges, _metadata(graph, deployment), type_check=False)


def _node_shape(layer: ChipLayer) -> tuple[int, ...]:
    return layer.shape if layer.kind == "conv" else layer.shape[:1]


def _layer_nodes(
    index: int, layer: ChipLayer, kind_before: str, integrator: Integrator
) -> dict[str, nir.NIRNode]:
    """Flatten where needed, synapse, neuron; by name, in order."""
    chain: dict[str, nir.NIRNode] = {}
    if layer.kind == "dense" and kind_before != "dense":
        shape = {"input": np.array(layer.input_shape)}
        chain[f"flatten_{index}"] = nir.Flatten(shape, start_dim=0, end_dim=-1)
    chain[f"synapse_{index}"] = _synapse(layer)
    late = layer.bias if bias_behind_current(layer.neuron) else None
    if late is not None and layer.kind == "conv" and late.ndim == 1:
        late = late[:, None, None]
    neuron = neuron_node(layer.neuron, _node_shape(layer), integrator, late)
    neuron.metadata = {"name": layer.name, "read": "voltage" if layer.readout else "spikes"}
    chain[f"neuron_{index}"] = neuron
    return chain


def _synapse(layer: ChipLayer) -> nir.NIRNode:
    """Weights as float32, which holds the integers exactly.

    Groups are written out as zeros: nir 1.0.8 infers a wrong type for a Conv2d with groups.
    """
    bias = np.zeros(layer.shape[0], np.float32)
    early = layer.bias is not None and not bias_behind_current(layer.neuron)
    if early and layer.bias is not None and layer.bias.ndim == 1:
        bias = layer.bias.astype(np.float32)
    said = "none" if layer.bias is None else "channel" if layer.bias.ndim == 1 else "place"
    metadata = {"bias": said}
    if layer.kind == "dense":
        return nir.Affine(layer.weight.astype(np.float32), bias, metadata=metadata)
    geometry = layer.geometry
    return nir.Conv2d(
        input_shape=layer.input_shape[1:],
        weight=_without_groups(layer).astype(np.float32),
        stride=geometry.stride,
        padding=(geometry.padding[0][0], geometry.padding[1][0]),
        dilation=geometry.dilation,
        groups=1,
        bias=bias,
        metadata={**metadata, "groups": geometry.groups},
    )


def _without_groups(layer: ChipLayer) -> Array:
    """The same kernel over all input channels, zero outside each output channel's group."""
    groups = layer.geometry.groups
    if groups == 1:
        return layer.weight
    full = np.zeros((layer.shape[0], layer.input_shape[0], *layer.kernel), layer.weight.dtype)
    outs, ins = layer.shape[0] // groups, layer.input_shape[0] // groups
    for group in range(groups):
        rows = slice(group * outs, (group + 1) * outs)
        full[rows, group * ins : (group + 1) * ins] = layer.weight[rows]
    return full


def _border_nodes(index: int, layer: ChipLayer, given: Shape) -> dict[str, nir.NIRNode]:
    """Two nodes that add a bias (C, H, W), which NIR's Conv2d has no field for; or none.

    The first makes a constant 1 out of the network's input (of shape `given`), by weights of 0
    and a bias of 1; the second spreads it: a kernel of H x W over one pixel that is padded by
    H - 1 and W - 1 gives the kernel mirrored.
    """
    bias = layer.bias
    if bias is None or bias.ndim == 1 or bias_behind_current(layer.neuron):
        return {}
    channels, height, width = layer.shape
    silent = np.zeros((1, *given), np.float32)
    one = np.ones(1, np.float32)
    spread = np.ascontiguousarray(bias[:, None, ::-1, ::-1], np.float32)
    nothing = np.zeros(channels, np.float32)
    stay, rows_columns = (1, 1), (height - 1, width - 1)
    return {
        f"one_{index}": nir.Conv2d(given[1:], silent, stay, (0, 0), stay, 1, one),
        f"bias_{index}": nir.Conv2d((1, 1), spread, stay, rows_columns, stay, 1, nothing),
    }


def _metadata(graph: ChipGraph, deployment: Deployment | None) -> dict[str, Any]:
    """What HDF5 can hold of everything beside the layers; empty lists are left out."""
    said: dict[str, Any] = {"unit": UNIT, "dt": DT, "network": graph.name}
    if deployment is not None:
        facts = asdict(deployment)
        facts["versions"] = dict(deployment.versions)
        said["deployment"] = _filled(facts)
    return said


def _filled(facts: dict[str, Any]) -> dict[str, Any]:
    """Without empty tuples and mappings, for which HDF5 has no place; tuples as lists."""
    found: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict):
            value = _filled(value)
        if value not in ({}, ()):
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _check_reading(
    graph: ChipGraph, deployment: Deployment | None, written: Path, path: Path
) -> None:
    from netx_export.nir_reader import read_nir

    back = read_nir(written, lenient=True)
    found = [*differences(graph, back.graph)]
    if back.deployment != deployment:
        found.append(f"deployment {back.deployment} and {deployment}")
    if found:
        raise NirFormatError(
            f"{path} reads back differently from what was written",
            [Problem(graph.name, text, "no difference", "report this as a bug") for text in found],
        )
