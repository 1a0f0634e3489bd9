"""Words of synaptic memory and the reach of a tile of neurons: the formulas.

A tile is the part of a layer that one core holds: a range of rows, columns and channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from compiler.ir.geometry import Array, ConvGeometry
from compiler.resources.chips import (
    BLOCK_HEADER_BITS,
    INDEX_BITS,
    SYNAPSES_PER_BLOCK,
    WORD_BITS,
    ChipName,
)
from compiler.resources.shapes import LayerShape

_LOIHI2_DENSE_EXTRA_BITS = 12
"""Bits a synapse of a dense list takes beside its weight; inferred from printed tables."""


@dataclass(frozen=True)
class Tile:
    """Neurons of one core, each range as (first, one past last), in the layer's own shape."""

    channels: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def depth(self) -> int:
        """Number of channels."""
        return self.channels[1] - self.channels[0]

    @property
    def positions(self) -> int:
        """Number of places (row, column)."""
        return (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.depth * self.positions

    def of(self, values: Array) -> Array:
        """That part of an array (..., C, H, W)."""
        part: Array = values[..., slice(*self.channels), slice(*self.rows), slice(*self.columns)]
        return part


def list_words(synapses: int, bits_per_synapse: int) -> int:
    """Words of one list of synapses, in blocks of 64: nengo-loihi block.py:527-549."""
    full, rest = divmod(synapses, SYNAPSES_PER_BLOCK)
    words = full * _block_words(SYNAPSES_PER_BLOCK, bits_per_synapse)
    return words + (_block_words(rest, bits_per_synapse) if rest else 0)


def dense_words_loihi1(inputs: int, neurons: int, weight_bits: int) -> int:
    """One list an input axon, without indices (compression 3 of nengo-loihi block.py:527-549)."""
    return inputs * list_words(neurons, weight_bits)


def dense_words_loihi2(inputs: int, neurons: int, weight_bits: int) -> int:
    """One list an input axon, 12 bits a synapse beside its weight.

    Inferred; it gives the rows of lava-dl tutorials netx/mnist/run.ipynb (12,544, 2,688
    and 256 words) and of netx/oxford (16,128 words) exactly. The vendor's compiler leaves
    most zero weights out, so this is an upper bound.
    """
    return inputs * list_words(neurons, weight_bits + _LOIHI2_DENSE_EXTRA_BITS)


def conv_words_loihi2(taps: int, depth: int, weight_bits: int) -> int:
    """A kernel stored once a core: taps * ceil(channels of the core * weight bits / 64).

    taps: input channels / groups * kernel height * kernel width. Inferred; it gives the
    rows of lava-dl tutorials netx/pilotnet_snn and yolo_kp.
    """
    return taps * -(-depth * weight_bits // WORD_BITS)


def conv_words_loihi1(layer: LayerShape, tile: Tile, weight_bits: int) -> int:
    """One list for every crop of the kernel that occurs, shared by places with the same crop.

    The scheme of nengo-loihi (conv.py, conv2d_loihi_weights), carried over to padding,
    dilation and groups: with population axons an input place refers to the list of its
    crop, and an index says where a synapse ends.
    """
    bits = weight_bits + index_bits(tile.neurons)
    fan_in = layer.input_shape[0] // layer.geometry.groups
    rows = kernel_crops(layer.geometry, 0, layer.kernel[0], layer.input_shape[1], tile.rows)
    columns = kernel_crops(layer.geometry, 1, layer.kernel[1], layer.input_shape[2], tile.columns)
    return sum(list_words(fan_in * tile.depth * r * c, bits) for r in rows for c in columns)


def index_bits(targets: int) -> int:
    """Smallest width of an index that tells `targets` compartments apart."""
    needed = max(targets - 1, 0).bit_length()
    return next((bits for bits in INDEX_BITS if bits >= needed), INDEX_BITS[-1])


@lru_cache(maxsize=4096)
def kernel_crops(
    geometry: ConvGeometry, axis: int, kernel: int, size: int, outputs: tuple[int, int]
) -> tuple[int, ...]:
    """Numbers of kernel elements in each distinct crop that an input row (or column) uses."""
    crops = {
        used
        for position in range(size)
        if (used := _elements_used(geometry, axis, kernel, position, outputs))
    }
    return tuple(len(crop) for crop in crops)


def taps_in_use(
    geometry: ConvGeometry, axis: int, kernel: int, size: int, outputs: tuple[int, int]
) -> Array:
    """How many kernel elements each input row (or column) uses: int64 (size,)."""
    used = [len(_elements_used(geometry, axis, kernel, place, outputs)) for place in range(size)]
    counts: Array = np.array(used, np.int64)
    return counts


def read_range(layer: LayerShape, axis: int, outputs: tuple[int, int]) -> tuple[int, int]:
    """First and one past last input row (axis 0) or column (1) that a range of outputs reads."""
    geometry = layer.geometry
    before, stride = geometry.padding[axis][0], geometry.stride[axis]
    reach = geometry.dilation[axis] * (layer.kernel[axis] - 1) + 1
    first = outputs[0] * stride - before
    last = (outputs[1] - 1) * stride - before + reach
    size = layer.input_shape[1 + axis]
    return (min(max(first, 0), size), min(max(last, 0), size))


def places_read(layer: LayerShape, axis: int, outputs: tuple[int, int]) -> tuple[int, ...]:
    """Input rows (axis 0) or columns (1) that a range of outputs reads; all for a dense layer.

    A stride or dilation wider than the kernel leaves places between that nobody reads.
    """
    size = layer.input_shape[1 + axis]
    if layer.kind != "conv":
        return tuple(range(size))
    return _places_read(layer.geometry, axis, layer.kernel[axis], size, outputs)


@lru_cache(maxsize=4096)
def _places_read(
    geometry: ConvGeometry, axis: int, kernel: int, size: int, outputs: tuple[int, int]
) -> tuple[int, ...]:
    return tuple(np.flatnonzero(taps_in_use(geometry, axis, kernel, size, outputs)).tolist())


def words(chip: ChipName, layer: LayerShape, tile: Tile, weight_bits: int) -> int:
    """Words of synaptic memory that a tile takes on its core."""
    if layer.kind == "input":
        return 0
    if layer.kind == "dense":
        dense = dense_words_loihi1 if chip == "loihi1" else dense_words_loihi2
        return dense(layer.inputs, tile.neurons, weight_bits)
    if chip == "loihi1":
        return conv_words_loihi1(layer, tile, weight_bits)
    taps = layer.input_shape[0] // layer.geometry.groups * layer.kernel[0] * layer.kernel[1]
    return conv_words_loihi2(taps, tile.depth, weight_bits)


def input_area(layer: LayerShape, tile: Tile) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the input that a tile reads; all of them for a dense layer."""
    _, height, width = layer.input_shape
    if layer.kind != "conv":
        return ((0, height), (0, width))
    return (read_range(layer, 0, tile.rows), read_range(layer, 1, tile.columns))


def _elements_used(
    geometry: ConvGeometry, axis: int, kernel: int, position: int, outputs: tuple[int, int]
) -> tuple[int, ...]:
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    offset = position + geometry.padding[axis][0]
    return tuple(
        k
        for k in range(kernel)
        if (offset - k * dilation) % stride == 0
        and outputs[0] <= (offset - k * dilation) // stride < outputs[1]
    )


def _block_words(synapses: int, bits_per_synapse: int) -> int:
    return -(-(synapses * bits_per_synapse + BLOCK_HEADER_BITS) // WORD_BITS)
