"""Cut a network into tiles, one a core. The vendor's partitioner is not public; this is ours.

A layer too large for a core is cut over output channels until its synapses fit, then
into strips of columns until its neurons fit, then over rows. On Loihi 2 a strip has a
power of two columns: inferred from the tiles printed in lava-dl's tutorials
netx/pilotnet_snn/benchmark.ipynb and yolo_kp/run.ipynb, which this reproduces but for
the dense layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from compiler.ir.geometry import Array
from compiler.resources.chips import Chip
from compiler.resources.memory import Tile, places_read, words
from compiler.resources.shapes import LayerShape, NetworkShape

_POP16_CHANNELS = 32
_POP16_PLACES = 1024
"""A 16-bit population axon tells 32 channels and 10 bits of places apart: nengo-loihi
block.py:612-631."""


@dataclass(frozen=True)
class CoreUse:
    """What one core holds, and how much of its memory that takes."""

    core: int
    layer: str
    tile: Tile
    words: int
    input_axons: int
    output_axons: int

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.tile.neurons


class SharedPlaces(NamedTuple):
    """A range of channels, first and one past last, and the rows and columns in order."""

    channels: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def of(self, values: Array) -> Array:
        """That part of an array (..., C, H, W)."""
        part = values[..., slice(*self.channels), :, :][..., _index(self.rows), :]
        found: Array = part[..., _index(self.columns)]
        return found


def _index(places: tuple[int, ...]) -> slice | list[int]:
    """Places as a slice where there are none between, which copies nothing."""
    whole = len(places) == places[-1] + 1 - places[0]
    return slice(places[0], places[-1] + 1) if whole else list(places)


@dataclass(frozen=True)
class Grid:
    """A layer's tiles, which are a grid: their number, and the distinct ranges of each axis."""

    tiles: int
    channels: frozenset[tuple[int, int]]
    rows: frozenset[tuple[int, int]]
    columns: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, tiles: Sequence[Tile]) -> Grid:
        """The grid that the tiles are."""
        return cls(
            len(tiles),
            frozenset(tile.channels for tile in tiles),
            frozenset(tile.rows for tile in tiles),
            frozenset(tile.columns for tile in tiles),
        )


def partition(network: NetworkShape, chip: Chip, weight_bits: int) -> list[CoreUse]:
    """Tiles of all layers in order, each on a core of its own.

    Where a core has too many output axons its layer is cut finer, as far as it goes. A
    tile that fits no core is returned as it is; the design rules report it.
    """
    caps = [chip.neurons.value] * len(network.layers)
    while True:
        tiles = _tiles(network, chip, weight_bits, caps)
        crowded = _crowded(network, chip, tiles)
        crowded = [i for i in crowded if max(tile.neurons for tile in tiles[i]) > 1]
        if not crowded:
            return _uses(network, chip, weight_bits, tiles)
        for i in crowded:
            caps[i] = max(tile.neurons for tile in tiles[i]) // 2


def _tiles(
    network: NetworkShape, chip: Chip, weight_bits: int, caps: Sequence[int]
) -> list[list[Tile]]:
    tiles: list[list[Tile]] = []
    for layer, cap in zip(network.layers, caps, strict=True):
        before = Grid.of(tiles[-1] if tiles else ())
        tiles.append(_split(layer, before, chip, weight_bits, cap))
    return tiles


def _split(layer: LayerShape, before: Grid, chip: Chip, weight_bits: int, cap: int) -> list[Tile]:
    """Tiles of one layer: fewer channels while the synapses do not fit, then fewer places.

    On Loihi 1 fewer places need fewer crops of the kernel, and so fewer synapses too: where
    one channel alone does not fit, all channels are tried again on half the places.
    """
    whole = layer.shape[0]
    if layer.kind == "dense":
        whole = _dense_depth(layer, chip, weight_bits)
    by_places = layer.kind == "conv" and chip.name == "loihi1"
    depth = whole
    while True:
        tiles = cut(layer, depth, cap, chip.column_strips)
        most = max(tile.depth for tile in tiles)
        too_many_words = any(
            words(chip.name, layer, tile, weight_bits) > chip.words.value for tile in tiles
        )
        too_many_axons = any(
            input_axons(chip, layer, tile, before) > chip.input_axons.value for tile in tiles
        )
        if too_many_words and most > 1:
            depth = -(-most // 2)
        elif too_many_words and by_places and max(tile.positions for tile in tiles) > 1:
            cap, depth = max(tile.positions for tile in tiles) // 2, whole
        elif too_many_axons and layer.kind == "conv" and cap > most:
            cap = max(cap // 2, most)
        else:
            return tiles


def _dense_depth(layer: LayerShape, chip: Chip, weight_bits: int) -> int:
    """Most neurons of a dense layer whose synapses fit one core, at least 1."""
    fits, too_many = 1, min(layer.shape[0], chip.neurons.value) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        tile = Tile((0, middle), (0, 1), (0, 1))
        if words(chip.name, layer, tile, weight_bits) <= chip.words.value:
            fits = middle
        else:
            too_many = middle
    return fits


def cut(layer: LayerShape, depth: int, cap: int, column_strips: bool) -> list[Tile]:
    """Tiles of at most `depth` channels and `cap` neurons: strips of columns first, then rows."""
    channels, height, width = layer.shape
    depth = min(depth, cap)
    rows, columns = height, cap // (height * depth)
    if columns == 0:
        rows, columns = cap // depth, 1
    if column_strips:
        columns = 1 << (columns.bit_length() - 1)
    return [
        Tile(channel_range, row_range, column_range)
        for channel_range in _ranges(channels, depth)
        for row_range in _ranges(height, rows)
        for column_range in _ranges(width, columns, even=not column_strips)
    ]


def input_axons(chip: Chip, layer: LayerShape, tile: Tile, before: Grid) -> int:
    """Axons that end on a core.

    Dense: one a presynaptic neuron. Conv: a population axon serves all channels that lie
    on one source core together, where the tile reads any of them; on Loihi 1 one is needed
    for every place that the tile reads, on Loihi 2 (inferred) one for all places.
    """
    if layer.kind == "input":
        return 0
    if layer.kind == "dense":
        return layer.inputs
    read = _channels_read(layer, tile.channels)
    groups = max(sum(_overlap(one, read) is not None for one in before.channels), 1)
    if chip.name == "loihi2":
        return groups
    rows, columns = places_read(layer, 0, tile.rows), places_read(layer, 1, tile.columns)
    return groups * len(rows) * len(columns)


def output_axons(chip: Chip, tile: Tile, after: LayerShape | None, targets: Grid) -> int:
    """Axons that start on a core.

    Loihi 1: one for every place (for every neuron, where a dense layer follows) and every
    core it reaches, two slots where 16-bit population axons do not suffice. Loihi 2
    (inferred): one a place, or one a neuron before a dense layer and at the output.
    """
    if chip.name == "loihi2":
        return tile.positions if after is not None and after.kind == "conv" else tile.neurons
    if after is None:
        return 0
    if after.kind == "dense":
        return tile.neurons * targets.tiles
    small = after.input_shape[0] <= _POP16_CHANNELS
    small = small and after.input_shape[1] * after.input_shape[2] <= _POP16_PLACES
    return (1 if small else 2) * _places_sent(tile, after, targets)


def _places_sent(tile: Tile, after: LayerShape, targets: Grid) -> int:
    """Places of `tile`, each as often as a core of the next conv layer reads it.

    Tiles are a grid of ranges, so that the sum over them is a product of three sums.
    """
    return (
        sum(
            _overlap(tile.channels, _channels_read(after, one)) is not None
            for one in targets.channels
        )
        * sum(len(_within(tile.rows, places_read(after, 0, one))) for one in targets.rows)
        * sum(len(_within(tile.columns, places_read(after, 1, one))) for one in targets.columns)
    )


def shared_places(tile: Tile, after: LayerShape, target: Tile) -> SharedPlaces | None:
    """The part of `tile` that `target` reads, or None; a dense layer reads all of it."""
    if after.kind == "dense":
        return SharedPlaces(tile.channels, tuple(range(*tile.rows)), tuple(range(*tile.columns)))
    channels = _overlap(tile.channels, _channels_read(after, target.channels))
    rows = _within(tile.rows, places_read(after, 0, target.rows))
    columns = _within(tile.columns, places_read(after, 1, target.columns))
    return SharedPlaces(channels, rows, columns) if channels and rows and columns else None


def _channels_read(layer: LayerShape, wanted: tuple[int, int]) -> tuple[int, int]:
    inputs, groups = layer.input_shape[0], layer.geometry.groups
    if groups == 1:
        return (0, inputs)
    outputs = layer.shape[0] // groups
    first, last = wanted[0] // outputs, (wanted[1] - 1) // outputs
    return (first * (inputs // groups), (last + 1) * (inputs // groups))


def _crowded(network: NetworkShape, chip: Chip, tiles: Sequence[Sequence[Tile]]) -> list[int]:
    """Layers of which some core has too many output axons."""
    return [
        i
        for i in range(len(tiles))
        if max(_output_axons(network, chip, tiles, i)) > chip.output_axons.value
    ]


def _output_axons(
    network: NetworkShape, chip: Chip, tiles: Sequence[Sequence[Tile]], i: int
) -> list[int]:
    last = i + 1 == len(tiles)
    after = None if last else network.layers[i + 1]
    targets = Grid.of(() if last else tiles[i + 1])
    return [output_axons(chip, tile, after, targets) for tile in tiles[i]]


def _uses(
    network: NetworkShape, chip: Chip, weight_bits: int, tiles: Sequence[Sequence[Tile]]
) -> list[CoreUse]:
    uses: list[CoreUse] = []
    for i, layer in enumerate(network.layers):
        before = Grid.of(tiles[i - 1] if i else ())
        leaving = _output_axons(network, chip, tiles, i)
        for tile, out in zip(tiles[i], leaving, strict=True):
            uses.append(
                CoreUse(
                    len(uses),
                    layer.name,
                    tile,
                    words(chip.name, layer, tile, weight_bits),
                    input_axons(chip, layer, tile, before),
                    out,
                )
            )
    return uses


def _ranges(size: int, most: int, even: bool = True) -> list[tuple[int, int]]:
    """Cut 0..size into as few ranges of at most `most` as possible, of even sizes if asked."""
    if even:
        most = -(-size // -(-size // most))
    return [(first, min(first + most, size)) for first in range(0, size, most)]


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int] | None:
    first, last = max(a[0], b[0]), min(a[1], b[1])
    return (first, last) if first < last else None


def _within(part: tuple[int, int], places: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(place for place in places if part[0] <= place < part[1])
