"""What Lava makes of a dense weight matrix when it loads and first runs it.

lava-dl shifts the integers left to fill 8 bits and keeps the shift as an exponent
(`lava/lib/dl/netx/utils.py`, optimize_weight_bits). It drops the sign mode it found, so
Lava finds its own by other rules, then clips and truncates
(`lava/utils/weightutils.py`; `lava/proc/dense/models.py`, run_spk). Where the two rules
differ, weights change silently.
"""

from __future__ import annotations

import math

import numpy as np

from compiler.errors import Problem
from compiler.ir.geometry import Array

_BITS = 8


def weights_in_lava(weight: Array) -> Array | None:
    """The integers that Lava's fixed-point Dense multiplies with; None where it cannot load.

    weight: integers (out, in). Conv weights are used as they are and need no such check.
    """
    highest, lowest = int(weight.max()), int(weight.min())
    if highest == lowest == 0:
        return None
    if (highest > 254 and lowest < 0) or (lowest < -256 and highest > 0):
        weight = np.clip(weight, -256, 254)
        highest, lowest = int(weight.max()), int(weight.min())
    shift = _shift(highest, lowest)
    if shift < 0:
        return None
    stored = weight.astype(np.int64) << shift
    mixed = lowest < 0 <= highest
    drop = _BITS - _stored_bits(weight, shift, mixed)
    effective: Array = _clip_and_truncate(stored, drop) >> shift
    return effective


def _shift(highest: int, lowest: int) -> int:
    """Left shift that lava-dl chooses for the range of a matrix."""
    if highest < 0:
        return math.floor(math.log2(-256 / lowest))
    if lowest >= 0:
        return math.floor(math.log2(255 / highest))
    scales = [-128 / lowest] + ([127 / highest] if highest > 0 else [])
    return math.floor(math.log2(min(scales))) + 1


def _stored_bits(weight: Array, shift: int, mixed: bool) -> int:
    """Number of weight bits that lava-dl announces."""
    power = _BITS
    while power > 0 and np.any(weight % (1 << power)):
        power -= 1
    return _BITS - shift - (power - int(mixed))


def _clip_and_truncate(stored: Array, drop: int) -> Array:
    """Lava's own clip to 8 bits, by the sign mode it finds itself, and truncation."""
    if stored.min() >= 0:
        return _floor(np.clip(stored, 0, 255), drop)
    if stored.max() <= 0:
        return -_floor(np.clip(-stored, 0, 255), drop)
    return _floor(np.clip(stored, -256, 255), drop + 1)


def _floor(values: Array, bits: int) -> Array:
    return (values >> bits) << bits


def dense_weight_problem(name: str, weight: Array) -> Problem | None:
    """A problem if Lava would compute with other weights than those given."""
    effective = weights_in_lava(np.asarray(weight))
    if effective is None and not np.any(weight):
        return Problem(
            name,
            "a dense weight matrix of zeros only",
            "at least one weight that is not 0 (lava-dl cannot load it otherwise)",
            "set one weight to 2, or remove the layer",
        )
    if effective is None:
        found = f"dense weights {int(np.min(weight))}..{int(np.max(weight))}"
        return Problem(name, found, "weights -256..254", "scale the layer down")
    changed = int((effective != weight).sum())
    if changed == 0:
        return None
    return Problem(
        name,
        f"{changed} dense weights that Lava would change when it loads them",
        "weights of both signs in -256..254, or of one sign within what Lava keeps",
        "make sure that the matrix has a positive and a negative weight",
    )
