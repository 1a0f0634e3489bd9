"""Sums of eight weight rows at a time, looked up instead of added.

Where inputs spike often, adding a row of weights for each spike costs more than looking up the
sum of every eight inputs in a table of all their patterns: one addition for eight inputs, however
many of them spike (the method of the four Russians).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.geometry import Array

BITS = 8
"""Inputs of an entry. Four are slower at every activity, as benchmarks/crossover.py measures."""

CROSSOVERS = ((10_000, 0.01), (40_000, 0.03), (80_000, 0.12), (160_000, 0.2))
"""(bytes of a tile's weights, share of spikes from which its table is quicker), measured by
benchmarks/crossover.py with 1 MB of second-level cache. A table takes 32 times the weights;
beyond the last it is never used."""

_ALIGNMENT = 64


@dataclass(frozen=True)
class Table:
    """sums: (groups, tiles, entries, 256, lanes), every run's inputs eight at a time.

    crossover: share of spikes among the inputs from which it is quicker than the rows.
    """

    sums: Array
    crossover: float


def table_for(weight: Array, runs: Array) -> Table | None:
    """The table of a layer; None where it would not be quicker.

    weight: (groups, tiles, fan_in, lanes); runs: as in LayerPlan. Floats have none: their sums
    depend on the order.
    """
    if weight.dtype.kind == "f":
        return None
    for most, crossover in CROSSOVERS:
        if weight[0, 0].nbytes <= most:
            return Table(pattern_sums(weight, runs), crossover)
    return None


def pattern_sums(weight: Array, runs: Array) -> Array:
    """(groups, tiles, entries, 256, lanes): sums of the rows of all patterns."""
    groups, tiles, _, lanes = weight.shape
    lengths = runs[:, 1].tolist()
    entries = sum(-(-length // BITS) for length in lengths)
    padded = np.zeros((groups, tiles, entries * BITS, lanes), weight.dtype)
    row = to = 0
    for length in lengths:
        padded[:, :, to : to + length] = weight[:, :, row : row + length]
        row, to = row + length, to + -(-length // BITS) * BITS
    padded = padded.reshape(groups, tiles, entries, BITS, lanes)
    sums = aligned((groups, tiles, entries, 1 << BITS, lanes), weight.dtype)
    sums[:, :, :, 0] = 0
    for bit in range(BITS):
        # sums of a few rows may leave 16 bits; the whole sum is back within them
        half = 1 << bit
        np.add(sums[:, :, :, :half], padded[:, :, :, bit, None], out=sums[:, :, :, half : 2 * half])
    return sums


def aligned(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """An empty array at an address that vector instructions like."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
