"""ChipGraph to model.net."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from compiler.errors import (
    ChipRangeError,
    CompilerError,
    EnvironmentProblem,
    NetxFormatError,
    Problem,
    one_problem,
)
from compiler.files import written_whole
from compiler.ir.chip import ChipGraph, ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import Array, frozen
from netx_export.checks import range_problems, structure_problems
from netx_export.deployment import Deployment, deployment_of, last_entry, write_deployment
from netx_export.equality import differences
from netx_export.fingerprint import hash_group
from netx_export.padding import symmetric_padding


def prepared(graph: ChipGraph) -> ChipGraph:
    """The graph as NetX can hold it and as reading the file gives it back.

    Padding becomes symmetric (the kernel is extended by zeros, exactly); arrays become int32.
    """
    return replace(graph, layers=tuple(_prepared_layer(layer) for layer in graph.layers))


def _prepared_layer(layer: ChipLayer) -> ChipLayer:
    bias = None if layer.bias is None else frozen(layer.bias, np.int32)
    if bias is not None and layer.kind == "dense" and bias.shape == layer.shape:
        bias = frozen(bias.reshape(-1), np.int32)
    delay = None if layer.delay is None else frozen(layer.delay, np.int32)
    weight = frozen(layer.weight, np.int32)
    return symmetric_padding(replace(layer, weight=weight, bias=bias, delay=delay))


def write_netx(
    graph: ChipGraph, path: str | os.PathLike[str], deployment: Deployment, *, lenient: bool = False
) -> None:
    """Write a NetX file that stock lava-dl loads, with the group `deployment` beside `layer`.

    The file appears under its name only when it is complete and reading it has given back
    the same graph; the same graph and deployment give the same bytes. `lenient` writes
    values out of range too (for experiments with the hardware model).
    Raises NetxFormatError for layers that do not fit together, for a deployment that is not
    this graph's and for a file that reads back differently; ChipRangeError with every value
    out of range; EnvironmentProblem where the file cannot be written.
    """
    _refuse(NetxFormatError, "the network cannot be written", structure_problems(graph))
    exact = prepared(graph)
    if not lenient:
        summary = "values do not fit the chip; no file was written"
        _refuse(ChipRangeError, summary, range_problems(exact))
    _check_deployment(exact, deployment)
    path = Path(path)
    try:
        with written_whole(path) as unfinished:
            _write_file(exact, unfinished, deployment)
            _check_reading(exact, unfinished, path)
    except OSError as error:
        raise one_problem(
            EnvironmentProblem,
            "the network cannot be written",
            str(path),
            str(error),
            "a folder that can be written, with space left",
            "choose another folder",
        ) from error


def _refuse(kind: type[CompilerError], summary: str, found: list[Problem]) -> None:
    if found:
        raise kind(summary, found)


def _check_deployment(graph: ChipGraph, deployment: Deployment) -> None:
    """Everything that graph and deployment both say must be the same."""
    expected = replace(
        deployment_of(graph),
        seed=deployment.seed,
        mean=deployment.mean,
        std=deployment.std,
        versions=deployment.versions,
        layer_hash=deployment.layer_hash,
    )
    if deployment != expected:
        raise one_problem(
            NetxFormatError,
            "the deployment does not describe this network",
            graph.name,
            str(deployment),
            str(expected),
            "make it with netx_export.deployment_of(graph)",
        )


def _write_file(graph: ChipGraph, path: Path, deployment: Deployment) -> None:
    with h5py.File(path, "w", libver="earliest", track_order=False) as file:
        layers = file.create_group("layer")
        entries = iter(range(last_entry(graph) + 1))
        _write_input(layers.create_group(str(next(entries))), graph)
        before = "input"
        for layer in graph.layers:
            if layer.kind == "dense" and before != "dense":
                _write_flatten(layers.create_group(str(next(entries))), layer)
            _write_layer(layers.create_group(str(next(entries))), layer)
            before = layer.kind
        write_deployment(file, replace(deployment, layer_hash=hash_group(layers)))


def _write_input(group: h5py.Group, graph: ChipGraph) -> None:
    _type(group, "input")
    group["shape"] = np.array(graph.input_shape, np.int64)
    if graph.input_neurons is not None:
        given: ChipInput = graph.input_neurons
        group["weight"] = np.array([given.weight], np.int32)
        group["bias"] = np.array([given.bias], np.int32)
        _write_neuron(group.create_group("neuron"), given.neuron)


def _write_flatten(group: h5py.Group, behind: ChipLayer) -> None:
    channels, height, width = behind.input_shape
    _type(group, "flatten")
    group["shape"] = np.array([channels * height * width, 1, 1], np.int64)


def _write_layer(group: h5py.Group, layer: ChipLayer) -> None:
    _type(group, layer.kind)
    group["shape"] = np.array(layer.shape if layer.kind == "conv" else layer.shape[:1], np.int64)
    group["weight"] = np.asarray(layer.weight, np.int32)
    if layer.kind == "conv":
        _write_geometry(group, layer)
    else:
        group["inFeatures"] = np.int64(layer.weight.shape[1])
        group["outFeatures"] = np.int64(layer.weight.shape[0])
    if layer.bias is not None:
        group["bias"] = _bias_on_file(layer.bias)
    if layer.delay is not None:
        group["delay"] = np.asarray(layer.delay, np.int64)
    _write_neuron(group.create_group("neuron"), layer.neuron)


def _bias_on_file(bias: Array) -> Array:
    """A bias per neuron (C, H, W) goes as (W, H, C): lava-dl compares it with its own shape."""
    return np.ascontiguousarray(bias.transpose(2, 1, 0)) if bias.ndim == 3 else np.asarray(bias)


def _write_geometry(group: h5py.Group, layer: ChipLayer) -> None:
    geometry = layer.geometry
    group["inChannels"] = np.int64(layer.input_shape[0])
    group["outChannels"] = np.int64(layer.shape[0])
    group["kernelSize"] = np.array(layer.kernel, np.int64)
    group["stride"] = np.array(geometry.stride, np.int64)
    group["padding"] = np.array([before for before, _ in geometry.padding], np.int64)
    group["dilation"] = np.array(geometry.dilation, np.int64)
    group["groups"] = np.int64(geometry.groups)


def _write_neuron(group: h5py.Group, neuron: CubaFields) -> None:
    group["type"] = np.bytes_(b"CUBA")
    group["iDecay"] = np.int64(neuron.i_decay)
    group["vDecay"] = np.int64(neuron.v_decay)
    group["vThMant"] = np.int64(neuron.v_th_mant)
    group["refDelay"] = np.int64(1)
    group["gradedSpike"] = np.bool_(False)


def _type(group: h5py.Group, name: str) -> None:
    group["type"] = np.array([name.encode()], "S10")


def _check_reading(graph: ChipGraph, written: Path, path: Path) -> None:
    from netx_export.reader import read_netx

    found = differences(graph, read_netx(written, lenient=True).graph)
    if found:
        raise NetxFormatError(
            f"{path} reads back differently from what was written",
            [Problem(graph.name, text, "no difference", "report this as a bug") for text in found],
        )
