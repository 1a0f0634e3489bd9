"""A layer's arrays in the order in which the event-driven engine reads them.

Spikes lie in planes, one a sample and time-step: a bit a neuron, channels last, least
significant bit first, with the zeros of the next layer's padding around them. The inputs of
one output place are then a few runs of bits, and every bit has a row of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from compiler.chip.execute import worst_sum
from compiler.chip.fields import DECAY_BITS, STATE_SHIFT
from compiler.ir.chip import ChipLayer
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape
from compiler.ir.snn import SnnLayer

Layer = ChipLayer | SnnLayer

NO_PADDING: tuple[Pair, Pair] = ((0, 0), (0, 0))

BLOCK = 16
"""Lanes that the engine takes through time together; tiles are multiples of it."""

_LANES = {np.dtype(np.int16): (16, 32, 64, 128), np.dtype(np.int32): (16, 32, 64),
          np.dtype(np.float32): (16, 32, 64)}  # fmt: skip
_TILE_COST = 3
"""What a tile costs beside its lanes, in BLOCKs: its spikes are looked at once more."""

_ALIGNMENT = 64
_INT16_TOP = (1 << 15) - 1
_INT32_TOP = (1 << 31) - 1
_STATE_ROOM = 1 << 25
"""Both states and their sum, beside the sum of weights, within 32 bits."""

_LARGEST_TABLE = 4 << 20
"""Bytes; a table that leaves the second cache is no quicker than the weights."""


@dataclass(frozen=True)
class Plane:
    """Bits of one sample and step. shape: (C, H, W); padding as in ConvGeometry, in neurons."""

    shape: Shape
    padding: tuple[Pair, Pair] = NO_PADDING

    @property
    def row(self) -> int:
        """Bits from a neuron to the one below it."""
        return (self.shape[2] + sum(self.padding[1])) * self.shape[0]

    @property
    def first(self) -> int:
        """Bit of the first neuron."""
        return self.padding[0][0] * self.row + self.padding[1][0] * self.shape[0]

    @property
    def size(self) -> int:
        """Bytes of a plane, whole words of 8."""
        bits = (self.shape[1] + sum(self.padding[0])) * self.row
        return -(-bits // 64) * 8

    def spread(self, values_chw: Array) -> Array:
        """int64 (bits of a plane,): every neuron's value at its bit, 0 elsewhere."""
        channels, height, width = self.shape
        rows = np.arange(height)[:, None, None] * self.row
        bits = self.first + rows + np.arange(width)[:, None] * channels + np.arange(channels)
        spread = np.zeros(self.size * 8, np.int64)
        spread[bits] = np.moveaxis(np.asarray(values_chw), 0, -1)
        return spread


@dataclass(frozen=True)
class LayerPlan:
    """What the engine needs of one layer.

    planes: of its input and its output; runs: int64 (runs, 3), of the input bits of one place
    of the output: first bit, number of bits, steps that they are held back; weight: (groups,
    tiles, fan_in, lanes), int16 or int32 or float32; bias: (1 or H * W, groups, tiles, lanes),
    int32 shifted as the state is, or float32; outputs: channels of a group; step: bits from
    one place's first input to that of the next one below, beside it, and in the next group.
    """

    shape: Shape
    planes: tuple[Plane, Plane]
    runs: Array
    weight: Array
    bias: Array
    outputs: int
    step: tuple[int, int, int]
    keep_u: float
    keep_v: float
    threshold: float

    @property
    def lanes(self) -> int:
        """Output channels of a tile."""
        return int(self.weight.shape[3])

    @property
    def crossover(self) -> float:
        """Share of spikes among its inputs from which the table is quicker than the rows."""
        return 0.1

    @property
    def fours(self) -> int:
        """Entries of a tile's table: every run's bits four by four."""
        return int((-(-self.runs[:, 1] // 4)).sum())

    @cached_property
    def table(self) -> Array | None:
        """(groups, tiles, fours, 16, lanes): sums of every four weight rows, for all patterns.

        None for floats, whose sums depend on the order, for a single place of the output,
        and where it would be too large.
        """
        groups, tiles, _, lanes = self.weight.shape
        entry = 16 * lanes * self.weight.itemsize
        single = self.shape[1] * self.shape[2] == 1
        if self.weight.dtype.kind == "f" or single or self.fours * entry > _LARGEST_TABLE:
            return None
        padded = np.zeros((groups, tiles, self.fours * 4, lanes), self.weight.dtype)
        row = to = 0
        for bits in self.runs[:, 1].tolist():
            padded[:, :, to : to + bits] = self.weight[:, :, row : row + bits]
            row, to = row + bits, to + -(-bits // 4) * 4
        padded = padded.reshape(groups, tiles, self.fours, 4, lanes)
        table = aligned((groups, tiles, self.fours, 16, lanes), self.weight.dtype)
        table[...] = 0
        for pattern in range(1, 16):
            chosen = [bit for bit in range(4) if pattern >> bit & 1]
            # sums of a few rows may leave 16 bits; the whole sum is back within them
            table[:, :, :, pattern] = padded[:, :, :, chosen].sum(3, dtype=self.weight.dtype)
        return table


def aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """An empty array at an address that vector instructions like."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def plan_layers(layers: Sequence[Layer], input_shape: Shape) -> tuple[LayerPlan, ...]:
    """Plans of a chain of layers.

    Raises OverflowError for a layer whose sums of weights do not fit the engine's 32 bits.
    """
    plans, before = [], input_shape
    planes = [Plane(input_shape, _padding(layers[0]))]
    for index, layer in enumerate(layers):
        after = layers[index + 1 :]
        planes.append(Plane(layer.shape, _padding(after[0]) if after else NO_PADDING))
        plans.append(_plan(layer, before, (planes[-2], planes[-1])))
        before = layer.shape
    return tuple(plans)


def _padding(layer: Layer) -> tuple[Pair, Pair]:
    return layer.geometry.padding if layer.kind == "conv" else NO_PADDING


def _plan(layer: Layer, before: Shape, planes: tuple[Plane, Plane]) -> LayerPlan:
    dtype = _dtype(layer)
    lags = np.zeros(1, np.int64)
    if layer.kind == "conv":
        rows, groups = _conv_rows(layer)
        runs, step = _conv_runs(layer, planes[0], groups)
    else:
        rows, lags = _dense_rows(layer, before)
        runs = np.stack([np.zeros_like(lags), np.full_like(lags, np.prod(before)), lags], 1)
        groups, step = 1, (0, 0, 0)
    outputs = rows.shape[2]
    lanes = _lanes(outputs, dtype)
    bias = _bias(layer, groups)
    if isinstance(layer, SnnLayer):
        unity = float(1 << DECAY_BITS)
        keeps = [float(np.float32(1 - decay / unity)) for decay in (layer.i_decay, layer.v_decay)]
        threshold = float(np.float32(np.inf if layer.readout else layer.threshold))
        tiled = _tiles(bias.astype(np.float32), lanes)
    else:
        keeps = [float((1 << DECAY_BITS) - d) for d in (layer.neuron.i_decay, layer.neuron.v_decay)]
        threshold = float(layer.neuron.v_th_mant << STATE_SHIFT)
        tiled = _tiles(bias.astype(np.int32) << STATE_SHIFT, lanes)
    return LayerPlan(
        layer.shape,
        planes,
        np.ascontiguousarray(runs, np.int64),
        _weight_tiles(rows, lanes, dtype),
        tiled,
        outputs,
        step,
        keeps[0],
        keeps[1],
        threshold,
    )


def _dtype(layer: Layer) -> np.dtype[np.generic]:
    """The narrowest type in which every sum of weights is exact."""
    if isinstance(layer, SnnLayer):
        return np.dtype(np.float32)
    worst = worst_sum(layer)
    bias = 0 if layer.bias is None else int(np.abs(layer.bias).max())
    if (worst + bias << STATE_SHIFT) + _STATE_ROOM > _INT32_TOP:
        raise OverflowError(f"layer {layer.name}: a sum of weights may reach {worst}")
    return np.dtype(np.int16 if worst <= _INT16_TOP else np.int32)


def _lanes(outputs: int, dtype: np.dtype[np.generic]) -> int:
    """Lanes of a tile: the fewest blocks in all, tiles counted with what each costs."""

    def cost(lanes: int) -> tuple[int, int]:
        return (-(-outputs // lanes) * (lanes // BLOCK + _TILE_COST), -lanes)

    return min(_LANES[dtype], key=cost)


def _conv_rows(layer: Layer) -> tuple[Array, int]:
    """Weight rows (groups, kH * kW * inputs of a group, outputs of a group), and the groups.

    Narrow groups are joined, with zeros between them, until they fill a block of lanes.
    """
    groups = layer.geometry.groups
    outputs, inputs, height, width = layer.weight.shape
    each = outputs // groups
    joined = next(m for m in range(1, groups + 1) if groups % m == 0 and
                  (m * each >= BLOCK or m == groups))  # fmt: skip
    weight = np.asarray(layer.weight).reshape(groups // joined, joined, each, inputs, height, width)
    rows = np.zeros((groups // joined, height, width, joined, inputs, joined, each), weight.dtype)
    for k in range(joined):
        rows[:, :, :, k, :, k, :] = weight[:, k].transpose(0, 3, 4, 2, 1)
    merged = groups // joined
    return rows.reshape(merged, height * width * joined * inputs, joined * each), merged


def _conv_runs(layer: Layer, plane: Plane, groups: int) -> tuple[Array, tuple[int, int, int]]:
    """Runs of bits under the kernel, and the bits from one place or group to the next."""
    geometry: ConvGeometry = layer.geometry
    height, width = layer.weight.shape[2:]
    channels = plane.shape[0]
    inputs = channels // groups
    down = np.arange(height) * geometry.dilation[0] * plane.row
    if groups == 1 and geometry.dilation[1] == 1:
        first, bits = down, width * channels
    else:
        across = np.arange(width) * geometry.dilation[1] * channels
        first, bits = (down[:, None] + across).reshape(-1), inputs
    runs = np.stack([first, np.full_like(first, bits), np.zeros_like(first)], 1)
    return runs, (geometry.stride[0] * plane.row, geometry.stride[1] * channels, inputs)


def _dense_rows(layer: Layer, before: Shape) -> tuple[Array, Array]:
    """Weight rows (1, inputs, outputs), channels last, once for every delay; and the delays."""
    order = np.arange(int(np.prod(before))).reshape(before)
    order = np.moveaxis(order, 0, -1).reshape(-1)
    weight = np.asarray(layer.weight)[:, order].T
    if isinstance(layer, SnnLayer) or layer.delay is None:
        return weight[None], np.zeros(1, np.int64)
    delay = np.asarray(layer.delay)[:, order].T
    lags = np.unique(delay).astype(np.int64)
    return np.concatenate([np.where(delay == lag, weight, 0) for lag in lags])[None], lags


def _weight_tiles(rows: Array, lanes: int, dtype: np.dtype[np.generic]) -> Array:
    groups, fan_in, outputs = rows.shape
    tiles = -(-outputs // lanes)
    tiled = aligned((groups, tiles, fan_in, lanes), dtype)
    for tile in range(tiles):
        part = rows[:, :, tile * lanes : (tile + 1) * lanes]
        tiled[:, tile, :, : part.shape[2]] = part
        tiled[:, tile, :, part.shape[2] :] = 0
    return tiled


def _bias(layer: Layer, groups: int) -> Array:
    """(1, groups, outputs), or (H * W, groups, outputs) where neurons of a channel differ."""
    if layer.bias is None:
        return np.zeros((1, groups, layer.shape[0] // groups))
    bias = np.asarray(layer.bias)
    places = bias.reshape(layer.shape[0], -1).T
    return places.reshape(len(places), groups, -1)


def _tiles(bias: Array, lanes: int) -> Array:
    places, groups, outputs = bias.shape
    tiles = -(-outputs // lanes)
    tiled = aligned((places, groups, tiles * lanes), bias.dtype)
    tiled[:, :, :outputs] = bias
    tiled[:, :, outputs:] = 0
    return tiled.reshape(places, groups, tiles, lanes)
