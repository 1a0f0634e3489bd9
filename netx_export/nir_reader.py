"""A NIR file, of this project or of another framework, to ChipGraph.

Nothing is rounded: a network of somebody else is taken where its numbers are the chip's, up to
a power of two a layer, and else refused with the list of everything that does not fit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from compiler.chip import fields
from compiler.errors import ChipRangeError, NirFormatError, Problem
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape, frozen
from netx_export.checks import expected_shape, no_file, range_problems, structure_problems
from netx_export.nir_chain import Link, read_links
from netx_export.nir_metadata import Metadata, read_metadata
from netx_export.nir_neurons import (
    LEAKY,
    SILENT,
    Trouble,
    decays,
    gain,
    leak_bias,
    threshold,
)
from netx_export.nir_writer import UNIT
from netx_export.reader import NetxFile

MOST_DOUBLINGS = 12
"""Powers of two that are tried to make a layer's weights and biases even integers."""

_MOST_PIXELS = 1 << 16
"""Larger strides, paddings and numbers of groups are no network's."""

_RELATIVE, _ABSOLUTE = 1e-6, 1e-3
"""How far from an integer a number may be that 32-bit floats were computed with."""
_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_nir(
    path: str | os.PathLike[str], lenient: bool = False, dt: float | None = None
) -> NetxFile:
    """Read a NIR file.

    dt: length of a time-step in seconds, for leaky neurons in a file that does not say it.
    `lenient` lists values out of range in `violations` instead of raising.
    Raises NirFormatError with every problem: a missing file, no NIR, nodes and edges that are no
    chain of layers, numbers that are not the chip's, another dt than the file's; ChipRangeError
    with every violation.
    """
    path = Path(path)
    found, metadata = _open(path)
    given, links, problems = read_links(found)
    if given is None or problems:
        raise NirFormatError(f"{path} is no network for the chip", problems)
    graph = _graph(path, _Scale(metadata.unit == UNIT, _dt(dt, metadata)), given, links, metadata)
    violations = tuple(range_problems(graph))
    if violations and not lenient:
        raise ChipRangeError(f"{path} holds what the chip cannot hold", violations)
    return NetxFile(graph, metadata.deployment, violations)


def _dt(given: float | None, metadata: Metadata) -> float | None:
    """The time-step that the file says, or the one given where it says none."""
    if given is None or metadata.dt is None or given == metadata.dt:
        return metadata.dt if given is None else given
    problem = Problem(
        "dt", f"{given:g} s given, {metadata.dt:g} s in the file", "the file's own",
        "leave dt (--dt) out",
    )  # fmt: skip
    raise NirFormatError("two time-steps for one network", [problem])


def _open(path: Path) -> tuple[nir.NIRGraph, Metadata]:
    if not path.is_file():
        found, remedy = no_file(path, "model.nir")
        raise _unreadable(path, found, "the path of a NIR file", remedy)
    try:
        # nir 1.0.8 infers wrong types for groups and for kernels that are not square
        found = nir.read(path, type_check=False)
        if not isinstance(found, nir.NIRGraph):
            raise _unreadable(path, f"a single {type(found).__name__}", "a graph", "wrap it")
        return found, read_metadata(found.metadata)
    except _DAMAGE as error:
        words = f"{type(error).__name__}: {error}"
        raise _unreadable(path, words, "a complete NIR file", "get or write it again") from error


def _unreadable(path: Path, found: str, allowed: str, remedy: str) -> NirFormatError:
    problem = Problem(path.name, found, allowed, remedy)
    return NirFormatError(f"cannot read {path}", [problem])


@dataclass(frozen=True)
class _Scale:
    """own: the numbers are the chip's own; dt: seconds a step, None where nobody says it."""

    own: bool
    dt: float | None


def _graph(
    path: Path, scale: _Scale, given: nir.Input, links: list[Link], metadata: Metadata
) -> ChipGraph:
    shape = _input_shape(given)
    size, problems, layers = shape, [], []
    for index, link in enumerate(links):
        last = index == len(links) - 1
        try:
            layer = _layer(link, size, scale, last)
        except Trouble as trouble:
            problems.append(Problem(link.name, *trouble.words))
            layer = None
        except _DAMAGE as error:
            words = f"{type(error).__name__}: {error}"
            problems.append(Problem(link.name, words, "a node as NIR defines it", "correct it"))
            layer = None
        if layer is None:
            # what follows is still looked at where the node says its own shape
            size = _said_shape(link.neuron)
        else:
            layers.append(layer)
            size = layer.shape
    graph = _named(path, shape, tuple(layers), metadata)
    problems += structure_problems(graph) if not problems else []
    if problems:
        raise NirFormatError(f"{path} is no network for the chip", problems)
    return graph


def _named(
    path: Path, shape: Shape, layers: tuple[ChipLayer, ...], metadata: Metadata
) -> ChipGraph:
    deployment = metadata.deployment
    if deployment is None:
        return ChipGraph(metadata.network or path.stem, shape, layers)
    return ChipGraph(
        deployment.network, shape, layers, deployment.timesteps, deployment.encoding,
        class_names=deployment.class_names,
    )  # fmt: skip


def _input_shape(given: nir.Input) -> Shape:
    return _three(given.input_type["input"])


def _said_shape(neuron: nir.NIRNode) -> Shape:
    return _three(np.shape(neuron.r))


def _three(sizes: Any) -> Shape:
    """(C, H, W) of sizes that may be (C, H, W) or (F,)."""
    found = [int(size) for size in np.atleast_1d(sizes)]
    if len(found) not in (1, 3):
        found = [int(np.prod(found))]
    channels, height, width = found if len(found) == 3 else (found[0], 1, 1)
    return (channels, height, width)


def _layer(link: Link, before: Shape, scale: _Scale, last: bool) -> ChipLayer:
    """One layer; Trouble says what about it the chip cannot do."""
    kind = "conv" if isinstance(link.synapse, nir.Conv2d) else "dense"
    if kind == "dense" and before[1:] != (1, 1) and not link.flattened:
        found = f"a dense layer on a signal of shape {before}"
        raise Trouble(found, "a Flatten before it", "add the Flatten")
    dt = _clock(link, scale)
    i_decay, v_decay = decays(link.neuron, dt)
    silent = isinstance(link.neuron, SILENT)
    level = float(fields.READOUT_V_TH_MANT) if silent else threshold(link.neuron)
    bias = _bias(link, dt, i_decay)
    weight, bias, doublings = _integers(link.synapse.weight, bias, gain(link.neuron, dt), scale)
    if not silent:
        level = _level(level * 2**doublings, scale.own, plain=(i_decay, v_decay) == (4096, 0))
    said = str(link.neuron.metadata.get("read", ""))
    readout = silent or (last and said == "voltage")
    geometry = _geometry(link.synapse) if kind == "conv" else ConvGeometry()
    weight, geometry = _grouped(link.synapse, weight, geometry)
    shape = _shape(link.name, kind, before, weight, geometry)
    neuron = CubaFields(int(level), i_decay, v_decay)
    by_place = link.synapse.metadata.get("bias") == "place"
    stored = None if bias is None else frozen(_fewest(bias, shape, by_place), np.int32)
    return ChipLayer(
        link.name, kind, before, shape, frozen(weight, np.int32), stored, neuron, geometry,
        readout=readout,
    )  # fmt: skip


def _clock(link: Link, scale: _Scale) -> float:
    """Seconds a step; of no account for neurons without time constants."""
    if scale.dt is not None:
        return scale.dt
    if isinstance(link.neuron, LEAKY):
        found = f"a {type(link.neuron).__name__}, and no length of a time-step"
        raise Trouble(found, "a time-step in seconds", "give dt (--dt)")
    return 1.0


def _bias(link: Link, dt: float, i_decay: int) -> Array | None:
    """What is added to v in every step, in the file's unit; None where the file says none."""
    early = np.asarray(getattr(link.synapse, "bias", 0.0), np.float64)
    if isinstance(link.synapse, nir.Conv2d):
        early = early[:, None, None]
    if link.border is not None:
        early = early + link.border
    if i_decay != 4096 and np.any(early):
        found = "a bias of the synapse, which the current's decay would smooth"
        raise Trouble(found, "a bias of v", "give it to the neuron as v_leak")
    late = leak_bias(link.neuron, dt)
    total: Array = early * gain(link.neuron, dt) + (0.0 if late is None else late)
    said = link.synapse.metadata.get("bias")
    return None if said in ("none", None) and not np.any(total) else total


def _integers(
    weight: Array, bias: Array | None, by: float, scale: _Scale
) -> tuple[Array, Array | None, int]:
    """Weights and biases as integers, and the power of two that made them even."""
    exact = np.asarray(weight, np.float64) * by
    added = np.zeros(1) if bias is None else bias
    for doublings in range(1 if scale.own else MOST_DOUBLINGS + 1):
        grain = 1 if scale.own else 2
        values = [part * 2.0**doublings for part in (exact, added)]
        whole = [grain * np.rint(part / grain) for part in values]
        if all(_same(one, other) for one, other in zip(values, whole, strict=True)):
            kept = None if bias is None else whole[1].astype(np.int64)
            return whole[0].astype(np.int64), kept, doublings
    found = "weights or biases that are no integers"
    allowed = f"even integers, after doubling them at most {MOST_DOUBLINGS} times"
    raise Trouble(found, allowed, "quantize the network before it is written as NIR")


def _same(one: Array, other: Array) -> bool:
    return np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE)


def _level(level: float, own: bool, plain: bool) -> int:
    """The threshold as an integer.

    Without decays v is even, so that every threshold has the same effect as the odd number
    at or above the even one below it.
    """
    if not own and plain:
        return 2 * int(np.floor(level / 2)) + 1
    whole = round(level)
    if not _same(np.array(level), np.array(whole)):
        raise Trouble(f"a threshold of {level:g}", "an integer", "choose another scale")
    return int(whole)


def _geometry(node: nir.Conv2d) -> ConvGeometry:
    if isinstance(node.padding, str):
        found = f"padding {node.padding!r}"
        raise Trouble(found, "numbers", "write the padding out in pixels")
    rows, columns = _pair(node, "padding", 0)
    groups, _ = _pair(node, "groups", 1)
    return ConvGeometry(
        _pair(node, "stride", 1),
        ((rows, rows), (columns, columns)),
        _pair(node, "dilation", 1),
        groups,
    )


def _pair(node: nir.Conv2d, name: str, least: int) -> Pair:
    """(height, width) of what a node says as one number or as two; Trouble below `least`."""
    said = getattr(node, name)
    numbers = np.atleast_1d(said)
    if numbers.dtype.kind not in "iuf" or not np.all(numbers == np.floor(numbers)):
        raise Trouble(f"{name} {said}", f"whole numbers from {least} on", "correct the node")
    if not numbers.size or numbers.min() < least or numbers.max() > _MOST_PIXELS:
        raise Trouble(f"{name} {said}", f"{least} to {_MOST_PIXELS}", "correct the node")
    return (int(numbers.flat[0]), int(numbers.flat[-1]))


def _grouped(
    node: nir.NIRNode, weight: Array, geometry: ConvGeometry
) -> tuple[Array, ConvGeometry]:
    """Put groups that were written out as zeros together again."""
    groups = int(node.metadata.get("groups", 1)) if isinstance(node, nir.Conv2d) else 1
    if groups <= 1 or geometry.groups != 1 or any(size % groups for size in weight.shape[:2]):
        return weight, geometry
    outs, ins = weight.shape[0] // groups, weight.shape[1] // groups
    parts, rest = [], weight.copy()
    for group in range(groups):
        rows, columns = (slice(group * size, (group + 1) * size) for size in (outs, ins))
        parts.append(weight[rows, columns])
        rest[rows, columns] = 0
    if np.any(rest):
        return weight, geometry
    together = ConvGeometry(geometry.stride, geometry.padding, geometry.dilation, groups)
    return np.concatenate(parts), together


def _shape(name: str, kind: str, before: Shape, weight: Array, geometry: ConvGeometry) -> Shape:
    probe = ChipLayer(name, kind, before, before, weight, None, CubaFields(1), geometry)
    return expected_shape(probe)


def _fewest(bias: Array, shape: Shape, by_place: bool) -> Array:
    """A bias (out,) where every place of a channel has the same, unless the file keeps places."""
    full = np.broadcast_to(bias.reshape(bias.shape if bias.ndim == 3 else (-1, 1, 1)), shape)
    same = not by_place and np.all(full == full[:, :1, :1])
    return full[:, 0, 0] if same else full
