"""model.net, or a NetX file of someone else, to ChipGraph."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import h5py

from compiler.errors import ChipRangeError, NetxFormatError, Problem
from compiler.ir.chip import ChipGraph
from netx_export.checks import no_file, range_problems
from netx_export.deployment import (
    GROUP,
    SCHEMA_VERSION,
    Deployment,
    last_entry,
    read_deployment,
    read_schema_version,
)
from netx_export.fingerprint import hash_group
from netx_export.layers import Chain, read_chain

_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError)
_WRITE_AGAIN = "write the file again"


@dataclass(frozen=True)
class NetxFile:
    """What a NetX file says.

    deployment: None in a file that this project did not write; violations: values that the
    chip cannot hold, or that Lava ignores or alters (empty unless read leniently).
    """

    graph: ChipGraph
    deployment: Deployment | None
    violations: tuple[Problem, ...]


def read_netx(
    path: str | os.PathLike[str], lenient: bool = False, layers: int | None = None
) -> NetxFile:
    """Read a NetX file.

    `layers` reads only that many entries of the group `layer`, as num_layers of lava-dl does
    (the input and flatten entries count). `lenient` lists values out of range in `violations`
    instead of raising.
    Raises NetxFormatError with every problem: a missing file, no HDF5, damage, missing
    entries, layers and neurons that are not supported, a changed layer group; ChipRangeError
    with every violation.
    """
    path = Path(path)
    if not path.is_file():
        found, remedy = no_file(path, "model.net")
        raise _unreadable(path, found, "the path of a NetX file", remedy)
    try:
        with h5py.File(path, "r") as file:
            return _read(file, path, lenient, layers)
    except _DAMAGE as error:
        found = f"{type(error).__name__}: {error}"
        raise _unreadable(path, found, "a complete HDF5 file", "get or write it again") from error


def _unreadable(path: Path, found: str, allowed: str, remedy: str) -> NetxFormatError:
    problem = Problem(path.name, found, allowed, remedy)
    return NetxFormatError(f"cannot read {path}", [problem])


def _read(file: h5py.File, path: Path, lenient: bool, layers: int | None) -> NetxFile:
    if not isinstance(file.get("layer"), h5py.Group) or not len(file["layer"]):
        raise _unreadable(path, "no group 'layer'", "a NetX file", "check what file this is")
    problems: list[Problem] = []
    deployment = _deployment(file, problems)
    names = deployment.layer_names if deployment is not None else ()
    chain = read_chain(file["layer"], names, layers)
    problems += chain.problems
    if problems:
        raise NetxFormatError(f"cannot read {path}", problems)
    graph = _graph(path, chain, deployment, whole=layers is None)
    if deployment is not None and layers is None:
        problems += _contradictions(graph, deployment)
        if hash_group(file["layer"]) != deployment.layer_hash:
            problems.append(_changed(path))
    violations = (*chain.oddities, *range_problems(graph))
    if not lenient:
        if problems:
            raise NetxFormatError(f"cannot trust {path}", problems)
        if violations:
            raise ChipRangeError(f"{path} holds what the chip cannot hold", violations)
    return NetxFile(graph, deployment, (*problems, *violations))


def _deployment(file: h5py.File, problems: list[Problem]) -> Deployment | None:
    if GROUP not in file:
        return None
    try:
        version = read_schema_version(file[GROUP])
        if version != SCHEMA_VERSION:
            found = f"schema_version {version}"
            problems.append(Problem(GROUP, found, str(SCHEMA_VERSION), "use a matching release"))
            return None
        return read_deployment(file[GROUP])
    except _DAMAGE as error:
        problems.append(Problem(GROUP, str(error), "every entry of the group", _WRITE_AGAIN))
        return None


def _graph(path: Path, chain: Chain, deployment: Deployment | None, whole: bool) -> ChipGraph:
    if deployment is None:
        return ChipGraph(path.stem, chain.input_shape, chain.layers, None, None, chain.neurons)
    return ChipGraph(
        deployment.network,
        chain.input_shape,
        chain.layers,
        deployment.timesteps,
        deployment.encoding,
        chain.neurons,
        deployment.class_names if whole else (),
    )


def _contradictions(graph: ChipGraph, deployment: Deployment) -> list[Problem]:
    """Where the deployment group says something else than the layers."""
    last = graph.layers[-1]
    pairs = [
        ("input shape", deployment.input_shape, graph.input_shape),
        ("number of layer names", len(deployment.layer_names), len(graph.layers)),
        ("read-out layer", deployment.readout.layer, last_entry(graph)),
        ("read-out threshold", deployment.readout.v_th_mant, last.neuron.v_th_mant),
    ]
    return [
        Problem(GROUP, f"{what} {found}", f"{allowed}, as in the layers", _WRITE_AGAIN)
        for what, found, allowed in pairs
        if found != allowed
    ]


def _changed(path: Path) -> Problem:
    return Problem(
        path.name,
        "layers whose hash is not the one in the deployment group",
        "the layers that the compiler wrote",
        "somebody changed the file: compile it again, or read it leniently",
    )
