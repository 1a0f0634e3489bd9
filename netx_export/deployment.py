"""The group `deployment` of model.net, which makes the file explain itself.

NetX readers look at the group `layer` alone. Nothing of the trained network, of images or
of any path belongs here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import h5py
import numpy as np

from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Shape
from compiler.ir.snn import Code, Encoding

SCHEMA_VERSION = 1
GROUP = "deployment"
LAYOUT = "CHW"

Rule = Literal["voltage", "spike_count"]

_FORMULAS = {
    "rate": "k = round-half-even(x*T); spike at step t (0-based) iff "
    "floor((t+1)*k/T) > floor(t*k/T)",
    "poisson": "spike iff u < x; u from numpy Philox, key (seed, sample index), "
    "drawn in (t, C, H, W) order",
    "host": "binary spikes (T, C, H, W) of the network's first layers, which are not in this file",
    "latency": "one spike at t = round-half-even((1-x)*(T-1)) if x > x_min, else none",
}


@dataclass(frozen=True)
class Readout:
    """Which numbers are the logits.

    `voltage`: v of `layer` (key in the group `layer`) after step T of a sample; the layer
    must not spike. `spike_count`: its spikes over the T steps. The largest logit wins.
    """

    rule: Rule
    layer: int
    v_th_mant: int


@dataclass(frozen=True)
class Deployment:
    """How to feed the network and how to read it.

    input_shape: (C, H, W); images are in `input_range`; mean and std (one a channel, on the
    scale of the pixels) are already folded into the first layer and given for information;
    layer_names: one a layer with neurons, in order; versions: (tool, version) pairs;
    layer_hash: netx_export.fingerprint.hash_group of the group `layer`, filled in on writing.
    """

    network: str
    timesteps: int
    encoding: Encoding
    input_shape: Shape
    class_names: tuple[str, ...]
    layer_names: tuple[str, ...]
    readout: Readout
    seed: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    input_range: tuple[float, float] = (0.0, 1.0)
    layout: str = LAYOUT
    layer_hash: str = ""
    schema_version: int = SCHEMA_VERSION


def deployment_of(
    graph: ChipGraph,
    *,
    seed: int = 0,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    versions: Mapping[str, str] | None = None,
) -> Deployment:
    """The Deployment of a graph that has timesteps and an encoding.

    seed: of the whole compile; mean, std: input normalisation that was folded in.
    Raises ValueError if the graph has no timesteps or no encoding.
    """
    if graph.timesteps is None or graph.encoding is None:
        raise ValueError("a network to be deployed needs timesteps and an encoding")
    last = graph.layers[-1]
    rule: Rule = "voltage" if last.readout else "spike_count"
    return Deployment(
        network=graph.name,
        timesteps=graph.timesteps,
        encoding=graph.encoding,
        input_shape=graph.input_shape,
        class_names=tuple(graph.class_names),
        layer_names=tuple(layer.name for layer in graph.layers),
        readout=Readout(rule, last_entry(graph), last.neuron.v_th_mant),
        seed=seed,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
        versions=tuple(sorted((versions or {}).items())),
    )


def last_entry(graph: ChipGraph) -> int:
    """Key of the last layer in the group `layer`: the input and a flatten entry count."""
    kinds = ["input", *(layer.kind for layer in graph.layers)]
    flattens = sum(
        after == "dense" and before != "dense" for before, after in itertools.pairwise(kinds)
    )
    return len(graph.layers) + flattens


def write_deployment(file: h5py.File, deployment: Deployment) -> None:
    """Write the group `deployment` into an open file."""
    group = file.create_group(GROUP)
    group["schema_version"] = np.int64(deployment.schema_version)
    group["timesteps"] = np.int64(deployment.timesteps)
    group["seed"] = np.int64(deployment.seed)
    _text(group, "network", deployment.network)
    _text(group, "layer_hash", deployment.layer_hash)
    _texts(group, "class_names", deployment.class_names)
    _texts(group, "layer_names", deployment.layer_names)
    _write_encoding(group.create_group("encoding"), deployment.encoding)
    _write_input(group.create_group("input"), deployment)
    _write_readout(group.create_group("readout"), deployment)
    versions = group.create_group("versions")
    for tool, version in deployment.versions:
        _text(versions, tool, version)


def _write_encoding(group: h5py.Group, encoding: Encoding) -> None:
    _text(group, "code", encoding.code)
    _text(group, "formula", _FORMULAS[encoding.code])
    group["seed"] = np.int64(encoding.seed)
    group["x_min"] = np.float64(encoding.x_min)


def _write_input(group: h5py.Group, deployment: Deployment) -> None:
    group["shape"] = np.array(deployment.input_shape, np.int64)
    group["range"] = np.array(deployment.input_range, np.float64)
    group["mean"] = np.array(deployment.mean, np.float64)
    group["std"] = np.array(deployment.std, np.float64)
    _text(group, "layout", deployment.layout)


def _write_readout(group: h5py.Group, deployment: Deployment) -> None:
    readout = deployment.readout
    _text(group, "rule", readout.rule)
    group["layer"] = np.int64(readout.layer)
    group["step"] = np.int64(deployment.timesteps)
    group["vThMant"] = np.int64(readout.v_th_mant)
    what = "voltage" if readout.rule == "voltage" else "number of spikes"
    _text(
        group,
        "meaning",
        f"logits = {what} of layer {readout.layer} after step {deployment.timesteps} "
        f"of a sample; threshold {readout.v_th_mant} * 64; class = the largest",
    )


def read_deployment(group: h5py.Group) -> Deployment:
    """Read what write_deployment wrote.

    Raises KeyError for a missing entry and ValueError for one that makes no sense.
    """
    code = _read_text(group, "encoding/code")
    if code not in get_args(Code):
        raise ValueError(f"encoding {code!r}")
    rule = _read_text(group, "readout/rule")
    if rule not in get_args(Rule):
        raise ValueError(f"read-out rule {rule!r}")
    low, high = _read_floats(group, "input/range")
    channels, height, width = (whole(size, "input/shape") for size in group["input/shape"][()])
    return Deployment(
        network=_read_text(group, "network"),
        timesteps=_read_whole(group, "timesteps"),
        encoding=Encoding(
            cast(Code, code),
            _read_whole(group, "encoding/seed"),
            finite(group["encoding/x_min"][()], "encoding/x_min"),
        ),
        input_shape=(channels, height, width),
        class_names=_read_texts(group, "class_names"),
        layer_names=_read_texts(group, "layer_names"),
        readout=Readout(
            cast(Rule, rule),
            _read_whole(group, "readout/layer"),
            _read_whole(group, "readout/vThMant"),
        ),
        seed=_read_whole(group, "seed"),
        mean=_read_floats(group, "input/mean"),
        std=_read_floats(group, "input/std"),
        versions=tuple((tool, _read_text(group["versions"], tool)) for tool in group["versions"]),
        input_range=(low, high),
        layout=_read_text(group, "input/layout"),
        layer_hash=_read_text(group, "layer_hash"),
        schema_version=read_schema_version(group),
    )


def read_schema_version(group: h5py.Group) -> int:
    """Which layout of the group it is; raises as read_deployment does."""
    return _read_whole(group, "schema_version")


def whole(value: Any, name: str) -> int:
    """A number 0, 1, 2, ... stored as one; ValueError for anything else."""
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "iu" or number < 0:
        raise ValueError(f"{name} is no whole number from 0 on")
    return int(number)


def finite(value: Any, name: str) -> float:
    """A real number; ValueError for anything else, NaN and infinity among them."""
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "iuf" or not np.isfinite(number):
        raise ValueError(f"{name} is no number")
    return float(number)


def _text(group: h5py.Group, name: str, text: str) -> None:
    """Text of fixed length: it sits in the dataset itself, so that the bytes repeat."""
    content = text.encode()
    kind = h5py.string_dtype("utf-8", max(1, len(content)))
    group.create_dataset(name, data=np.array(content, dtype=kind))


def _texts(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    contents = [text.encode() for text in texts]
    kind = h5py.string_dtype("utf-8", max([1, *(len(content) for content in contents)]))
    group.create_dataset(name, data=np.array(contents, dtype=kind))


def _read_text(group: h5py.Group, name: str) -> str:
    value = group[name][()]
    if not isinstance(value, bytes):
        raise ValueError(f"{name} is no text")
    return value.decode()


def _read_whole(group: h5py.Group, name: str) -> int:
    return whole(group[name][()], name)


def _read_texts(group: h5py.Group, name: str) -> tuple[str, ...]:
    return tuple(bytes(value).decode() for value in group[name][()])


def _read_floats(group: h5py.Group, name: str) -> tuple[float, ...]:
    return tuple(finite(value, name) for value in group[name][()])
