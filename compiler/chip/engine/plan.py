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

from compiler.chip.engine.tables import Table, aligned, table_for
from compiler.chip.execute import worst_sum
from compiler.chip.fields import DECAY_BITS, STATE_LIMIT, STATE_SHIFT
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

_LARGE_WORDS = 64
_INT16_TOP = (1 << 15) - 1
_INT32_TOP = (1 << 31) - 1
_STATE_ROOM = 1 << 25
"""Both states and their sum, beside the sum of weights, within 32 bits."""


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
        """Bytes of a plane: whole words of 8.

        Large ones are odd multiples of 64, so that the same place of all planes does not fall
        into the same few lines of the processor's cache.
        """
        words = -(-(self.shape[1] + sum(self.padding[0])) * self.row // 64)
        return words * 8 if words < _LARGE_WORDS else (-(-words // 8) | 1) * 64

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
    one place's first input to that of the next one below, beside it, and in the next group;
    keep_u, keep_v: shares of 4096 that u and v keep in a step (of 1 in float); threshold: on
    the scale of v; reach: the most that one step can add to v where neither u nor v decays;
    subtract: whether a spike takes the threshold off v, in float alone, or sets it to 0.
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
    reach: int
    subtract: bool = False

    def may_clip(self, timesteps: int) -> bool:
        """Whether v may leave its 24 bits: from below the threshold up, or step by step down."""
        top = STATE_LIMIT - 1
        return max(self.threshold, 0) + self.reach > top or timesteps * self.reach > top

    @property
    def lanes(self) -> int:
        """Output channels of a tile."""
        return int(self.weight.shape[3])

    @cached_property
    def table(self) -> Table | None:
        """Sums of rows to look up; None for a single place of the output, or where no use."""
        single = self.shape[1] * self.shape[2] == 1
        return None if single else table_for(self.weight, self.runs)


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
    dtype, reach = _type_and_reach(layer)
    lags = np.zeros(1, np.int64)
    if layer.kind == "conv":
        rows, groups = _conv_rows(layer)
        runs, step = _conv_runs(layer, planes[0], groups)
    else:
        rows, lags = _dense_rows(layer, before)
        runs = np.stack([np.zeros_like(lags), np.full_like(lags, np.prod(before)), lags], 1)
        groups, step = 1, (0, 0, 0)
    lanes = _lanes(rows.shape[2], dtype)
    return LayerPlan(
        layer.shape,
        planes,
        np.ascontiguousarray(runs, np.int64),
        _weight_tiles(rows, lanes, dtype),
        _bias_tiles(layer, groups, lanes),
        rows.shape[2],
        step,
        *_neuron(layer),
        reach << STATE_SHIFT,
        isinstance(layer, SnnLayer) and layer.reset == "subtract",
    )


def _neuron(layer: Layer) -> tuple[float, float, float]:
    """What u and v keep of themselves in a step, and the threshold, as the engine takes them."""
    unity = 1 << DECAY_BITS
    if isinstance(layer, SnnLayer):
        threshold = np.float32(np.inf if layer.readout else layer.threshold)
        u, v = (float(np.float32(1 - decay / unity)) for decay in (layer.i_decay, layer.v_decay))
        return (u, v, float(threshold))
    neuron = layer.neuron
    u, v = float(unity - neuron.i_decay), float(unity - neuron.v_decay)
    return (u, v, float(neuron.v_th_mant << STATE_SHIFT))


def _type_and_reach(layer: Layer) -> tuple[np.dtype[np.generic], int]:
    """The narrowest type in which every sum of weights is exact, and the most that one step's
    sum of weights and bias can be; 0 for floats, to which it does not matter."""
    if isinstance(layer, SnnLayer):
        return np.dtype(np.float32), 0
    worst = worst_sum(layer)
    reach = worst + (0 if layer.bias is None else int(np.abs(layer.bias).max()))
    if (reach << STATE_SHIFT) + _STATE_ROOM > _INT32_TOP:
        raise OverflowError(f"layer {layer.name}: a sum of weights may reach {worst}")
    return np.dtype(np.int16 if worst <= _INT16_TOP else np.int32), reach


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
    weight = _channels_last(np.asarray(layer.weight), before).T
    if isinstance(layer, SnnLayer) or layer.delay is None:
        return weight[None], np.zeros(1, np.int64)
    delay = _channels_last(np.asarray(layer.delay), before).T
    lags = np.unique(delay).astype(np.int64)
    return np.concatenate([np.where(delay == lag, weight, 0) for lag in lags])[None], lags


def _channels_last(values: Array, before: Shape) -> Array:
    """(outputs, C * H * W) to (outputs, H * W * C)."""
    return np.moveaxis(values.reshape(-1, *before), 1, -1).reshape(len(values), -1)


def _weight_tiles(rows: Array, lanes: int, dtype: np.dtype[np.generic]) -> Array:
    groups, fan_in, outputs = rows.shape
    tiles = -(-outputs // lanes)
    tiled = aligned((groups, tiles, fan_in, lanes), dtype)
    for tile in range(tiles):
        part = rows[:, :, tile * lanes : (tile + 1) * lanes]
        tiled[:, tile, :, : part.shape[2]] = part
        tiled[:, tile, :, part.shape[2] :] = 0
    return tiled


def _bias_tiles(layer: Layer, groups: int, lanes: int) -> Array:
    """(1 or H * W, groups, tiles, lanes): a bias a channel, or one a neuron; shifted as v is."""
    bias = np.zeros(layer.shape[0]) if layer.bias is None else np.asarray(layer.bias)
    by_place = bias.reshape(layer.shape[0], -1).T
    by_group = by_place.reshape(len(by_place), groups, -1)
    tiles = -(-by_group.shape[2] // lanes)
    kind = np.float32 if isinstance(layer, SnnLayer) else np.int32
    tiled = aligned((len(by_place), groups, tiles * lanes), np.dtype(kind))
    tiled[...] = 0
    tiled[:, :, : by_group.shape[2]] = by_group
    if kind is np.int32:
        tiled <<= STATE_SHIFT
    return tiled.reshape(len(by_place), groups, tiles, lanes)
