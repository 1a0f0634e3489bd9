"""The group `layer` of a NetX file as a chain of ChipLayers.

Follows what lava-dl 0.6.0 does with the same entries (lava/lib/dl/netx/hdf5.py), and names
what it would refuse, ignore or crash on. Orders on file: shapes (C, H, W); kernel size,
stride, padding and dilation (H, W); conv weights (out, in / groups, H, W); a bias per
neuron of a conv layer (W, H, C).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import h5py
import numpy as np

from compiler.chip.fields import READOUT_V_TH_MANT
from compiler.errors import Problem
from compiler.ir.chip import ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import Array, ConvGeometry, Shape, frozen
from netx_export.checks import MAX_DELAY
from netx_export.entries import Entry

NO_NEURON = CubaFields(v_th_mant=1 << 17, i_decay=0, v_decay=4096)
"""What lava-dl takes for a dense layer without a neuron group: u sums up for ever, v is u,
and `1 << 18 - 1` is meant as 2**18 - 1 but is 2**17 (lava/lib/dl/netx/hdf5.py:351-357)."""

_REWRITE = "export the network again"


@dataclass
class Chain:
    """Layers read so far. `shape` is the output of the last one, None where it is unknown;
    `kind` is input, conv or dense; `flatten` is set by an entry that waits for a dense layer.
    """

    names: tuple[str, ...]
    problems: list[Problem]
    oddities: list[Problem]
    input_shape: Shape = (0, 0, 0)
    layers: tuple[ChipLayer, ...] = ()
    neurons: ChipInput | None = None
    shape: Shape | None = None
    kind: str = "none"
    flatten: bool = False
    count: int = 0

    def next_name(self, kind: str, index: int) -> str:
        """Name of the next layer with neurons."""
        name = self.names[self.count] if self.count < len(self.names) else f"{kind}{index}"
        self.count += 1
        return name

    @property
    def flat(self) -> bool:
        """Whether lava-dl would see the last output as one axis."""
        return self.kind == "dense"


def read_chain(group: h5py.Group, names: tuple[str, ...], limit: int | None) -> Chain:
    """Read the first `limit` entries (all for None); problems are collected, not raised."""
    chain = Chain(names, [], [])
    count = len(group) if limit is None else min(limit, len(group))
    for index in range(count):
        entry = Entry(f"layer {index}", group.get(str(index)))
        if not isinstance(entry.group, h5py.Group):
            entry.problem("no such entry", f"entries 0 to {len(group) - 1}", _REWRITE)
        else:
            _read_entry(chain, entry, index)
        chain.problems += entry.problems
        chain.oddities += entry.oddities
    if not chain.layers and not chain.problems:
        chain.problems.append(Problem("layer", "no conv or dense layer", "at least one", _REWRITE))
    _mark_readout(chain)
    return chain


def _read_entry(chain: Chain, entry: Entry, index: int) -> None:
    kind = entry.text("type")
    if kind is None:
        chain.shape = None
    elif kind == "input":
        _read_input(chain, entry, index)
    elif kind == "flatten":
        if chain.flat:
            entry.problem("a flatten behind a dense layer", "one behind conv or input", "remove it")
        chain.flatten = True
    elif kind in ("conv", "dense"):
        entry.name = chain.next_name(kind, index)
        (_read_conv if kind == "conv" else _read_dense)(chain, entry)
    else:
        entry.problem(
            f"layer type {kind!r}",
            "input, flatten, conv, dense",
            "lower it to these (pooling becomes a conv layer), or read fewer layers",
        )
        chain.shape, chain.kind = None, "unknown"


def _mark_readout(chain: Chain) -> None:
    """Mark the last layer as read-out if its threshold is meant never to be reached."""
    if chain.layers and chain.layers[-1].neuron.v_th_mant >= READOUT_V_TH_MANT:
        chain.layers = (*chain.layers[:-1], replace(chain.layers[-1], readout=True))


def _read_input(chain: Chain, entry: Entry, index: int) -> None:
    if index:
        entry.problem("an input entry that is not the first", "input first", _REWRITE)
    shape = entry.integers("shape")
    if shape is None:
        return
    if shape.ndim > 1 or shape.size > 3 or shape.min() < 1:
        entry.problem(f"shape {shape.tolist()}", "(C, H, W)", _REWRITE)
        return
    sizes = [int(size) for size in shape.reshape(-1)]
    sizes += [1] * (3 - len(sizes))
    chain.shape = chain.input_shape = (sizes[0], sizes[1], sizes[2])
    chain.kind = "input"
    if "neuron" in entry:
        neuron = _neuron(entry)
        weight, bias = entry.integer("weight", 64), entry.integer("bias", 0)
        if neuron is not None and weight is not None and bias is not None:
            chain.neurons = ChipInput("input", chain.input_shape, neuron, weight, bias)
        chain.kind = "dense" if shape.size < 2 else "input neurons"


def _neuron(entry: Entry) -> CubaFields | None:
    """The neuron of a layer; what lava-dl never reads is noted where it would matter."""
    group = entry.group["neuron"]
    if not isinstance(group, h5py.Group):
        entry.problem("a neuron entry that is no group", "a group", _REWRITE)
        return None
    inner = Entry(entry.name, group, entry.problems, entry.oddities)
    kind = inner.text("type")
    if kind is not None and kind not in ("CUBA", "LOIHI"):
        inner.problem(f"neuron {kind!r}", "CUBA (or LOIHI)", "train with CUBA neurons")
        return None
    if "messageBits" in inner:
        inner.problem("messageBits", "no such entry (lava-dl crashes on it)", "remove it")
    for key, harmless in (("refDelay", 1), ("gradedSpike", 0), ("weight_exp", 0), ("wgtExp", 0)):
        value = inner.integer(key, harmless)
        if value is not None and value != harmless:
            inner.oddity(f"{key} {value}, which lava-dl ignores", f"{key} {harmless}", "change it")
    values = [inner.integer(key) for key in ("vThMant", "iDecay", "vDecay")]
    if kind is None or None in values:
        return None
    threshold, i_decay, v_decay = cast("list[int]", values)
    return CubaFields(threshold, i_decay, v_decay)


def _declared(entry: Entry) -> Array | None:
    shape = entry.integers("shape")
    if shape is not None and (shape.ndim > 1 or shape.size > 3 or shape.min() < 1):
        entry.problem(f"shape {shape.tolist()}", "one to three sizes", _REWRITE)
        return None
    return shape


def _weight(entry: Entry) -> Array | None:
    if isinstance(entry.group.get("weight"), h5py.Group):
        entry.problem("complex weights", "real weights", "train with CUBA neurons")
        return None
    return entry.integers("weight")


def _read_conv(chain: Chain, entry: Entry) -> None:
    before, kind = chain.shape, chain.kind
    chain.shape, chain.kind = None, "conv"
    if kind == "none":
        found = "a conv layer without an input entry"
        entry.problem(found, "an input entry with a shape first", _REWRITE)
    elif kind == "dense":
        entry.problem("a conv layer behind a flat one", "conv behind input or conv", "reorder them")
        before = None
    if "neuron" not in entry:
        entry.problem("no entry 'neuron'", "a neuron", _REWRITE)
        return
    neuron, weight, declared = _neuron(entry), _weight(entry), _declared(entry)
    geometry = _geometry(entry)
    if neuron is None or weight is None or declared is None or geometry is None:
        return
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4:
        entry.problem(f"weight of shape {weight.shape}", "(out, in, H, W)", _REWRITE)
        return
    chain.shape = _conv_output(entry, before, weight, geometry, declared)
    if chain.shape is None or before is None:
        return
    bias = _conv_bias(entry, chain.shape)
    delay = entry.integers("delay") if "delay" in entry else None
    if delay is not None and delay.any():
        entry.oddity("a delay on a conv layer, which lava-dl ignores", "no delay", "remove it")
    chain.layers += (
        ChipLayer(
            entry.name,
            "conv",
            before,
            chain.shape,
            frozen(weight, np.int32),
            bias,
            neuron,
            geometry,
        ),
    )


def _geometry(entry: Entry) -> ConvGeometry | None:
    stride, padding, dilation = (entry.pair(key) for key in ("stride", "padding", "dilation"))
    groups = entry.integer("groups")
    if stride is None or padding is None or dilation is None or groups is None:
        return None
    if min(*stride, *dilation, groups) < 1:
        entry.problem("a stride, dilation or groups of 0", "at least 1", _REWRITE)
        return None
    both = ((padding[0], padding[0]), (padding[1], padding[1]))
    return ConvGeometry(stride, both, dilation, groups)


def _conv_output(
    entry: Entry, before: Shape | None, weight: Array, geometry: ConvGeometry, declared: Array
) -> Shape | None:
    """Output shape, checked against the file's own word for it and against the weights."""
    if before is None:
        return None
    found = (int(weight.shape[1]) * geometry.groups, int(weight.shape[0]) % geometry.groups)
    if found != (before[0], 0):
        entry.problem(
            f"weight of shape {weight.shape} in {geometry.groups} groups",
            f"{before[0]} input channels",
            _REWRITE,
        )
        return None
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    rows, columns = geometry.output_size(before[1:], kernel)
    expected: Shape = (int(weight.shape[0]), rows, columns)
    if tuple(declared.reshape(-1).tolist()) != expected or min(expected) < 1:
        entry.problem(f"shape {declared.tolist()}", f"{expected} by its geometry", _REWRITE)
        return None
    return expected


def _conv_bias(entry: Entry, shape: Shape) -> Array | None:
    """Bias (C,), or (C, H, W) from (W, H, C) on file."""
    if "bias" not in entry:
        return None
    bias = entry.integers("bias")
    if bias is None:
        return None
    if bias.shape == shape[::-1]:
        return frozen(bias.transpose(2, 1, 0), np.int32)
    if bias.shape == shape[:1]:
        return frozen(bias, np.int32)
    allowed = f"{shape[:1]} a channel or {shape[::-1]} (W, H, C) a neuron"
    entry.problem(f"bias of shape {bias.shape}", allowed, _REWRITE)
    return None


def _read_dense(chain: Chain, entry: Entry) -> None:
    before, kind, flatten = chain.shape, chain.kind, chain.flatten
    chain.shape, chain.kind, chain.flatten = None, "dense", False
    if kind in ("conv", "input neurons") and not flatten:
        entry.problem("a dense layer behind a shape", "a flatten entry between", _REWRITE)
    neuron = _neuron(entry) if "neuron" in entry else NO_NEURON
    weight, declared = _weight(entry), _declared(entry)
    if declared is None or weight is None or neuron is None:
        return
    out = int(np.prod(declared))
    weight = weight.reshape(out, -1) if weight.ndim == 1 and weight.size % out == 0 else weight
    if weight.ndim != 2 or weight.shape[0] != out:
        entry.problem(f"weight of shape {weight.shape}", f"({out}, in)", _REWRITE)
        return
    chain.shape = (out, 1, 1)
    if kind == "none":
        before = chain.input_shape = (int(weight.shape[1]), 1, 1)
    if before is None:
        return
    if weight.shape[1] != before[0] * before[1] * before[2]:
        entry.problem(f"weight of shape {weight.shape}", f"inputs of shape {before}", _REWRITE)
        return
    delay = _delay(entry, weight) if "delay" in entry else None
    bias = _dense_bias(entry, out)
    chain.layers += (
        ChipLayer(
            entry.name,
            "dense",
            before,
            chain.shape,
            frozen(weight, np.int32),
            bias,
            neuron,
            delay=delay,
        ),
    )


def _dense_bias(entry: Entry, out: int) -> Array | None:
    if "bias" not in entry:
        return None
    bias = entry.integers("bias")
    if bias is None:
        return None
    if bias.size not in (1, out):
        entry.problem(f"bias of shape {bias.shape}", f"({out},)", _REWRITE)
        return None
    return frozen(np.broadcast_to(bias.reshape(-1), (out,)), np.int32)


def _delay(entry: Entry, weight: Array) -> Array | None:
    """Delays (out, in); one axis means outputs, or inputs where their number fits only those."""
    delay = entry.integers("delay")
    if delay is None:
        return None
    if delay.min() < 0:
        entry.problem(f"delay {int(delay.min())}", f"0..{MAX_DELAY}", _REWRITE)
        return None
    if delay.max() > MAX_DELAY:
        found = f"delay {int(delay.max())}, which lava-dl cuts to {MAX_DELAY}"
        entry.oddity(found, f"0..{MAX_DELAY}", "shorten it")
        delay = np.minimum(delay, MAX_DELAY)
    if delay.ndim == 1 and delay.size == weight.shape[0]:
        delay = delay.reshape(-1, 1)
    elif (delay.ndim == 1 and delay.size != weight.shape[1]) or (
        delay.ndim > 1 and (delay.shape != weight.shape)
    ):
        entry.problem(f"delay of shape {delay.shape}", f"{weight.shape}", _REWRITE)
        return None
    return frozen(np.broadcast_to(delay, weight.shape), np.int32)
