"""Rounding to the chip's integers. Pure functions on numpy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.chip.fields import BIAS_MANT, HIDDEN_V_TH_MANT, WEIGHT
from compiler.ir.geometry import Array


def round_to_even_integer(values: npt.ArrayLike) -> Array:
    """Nearest even integer, ties to the multiple of four: 2 * round-half-even(x / 2), int64."""
    rounded: Array = 2 * np.rint(np.asarray(values, np.float64) / 2)
    return rounded.astype(np.int64)


def quantize_weight(values: npt.ArrayLike) -> Array:
    """Weights in mantissa units to int32, even, clipped to -256..254."""
    return np.clip(round_to_even_integer(values), WEIGHT.low, WEIGHT.high).astype(np.int32)


def quantize_bias(values: npt.ArrayLike) -> Array:
    """Biases in mantissa units to int32, even, clipped to -4096..4094."""
    return np.clip(round_to_even_integer(values), BIAS_MANT.low, BIAS_MANT.high).astype(np.int32)


def quantize_threshold(value: float) -> int:
    """Nearest odd integer in 1..4095."""
    odd = 2 * int(np.rint((value - 1) / 2)) + 1
    return int(np.clip(odd, HIDDEN_V_TH_MANT.low, HIDDEN_V_TH_MANT.high))
