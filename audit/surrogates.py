"""Derivatives that an attacker puts in place of the spike's, and the pass back through time.

A spike is a step of the voltage, and its derivative is zero almost everywhere. A surrogate
gradient replaces it by a bump around the threshold (Neftci, Mostafa and Zenke, IEEE Signal
Processing Magazine 2019). How well gradients then guide an attack depends on the bump, so that
a network is only as safe as under the best of them (Xu et al., arXiv 2209.03358).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from compiler.chip.fields import DECAY_BITS, STATE_SHIFT
from compiler.ir.chip import CubaFields
from compiler.ir.geometry import Array

_UNITY = 1 << DECAY_BITS


@dataclass(frozen=True)
class Surrogate:
    """h(x) with x = (v - threshold) / threshold; every h has area 1.

    code: the number of h in the kernel; width: w in the formula.
    """

    name: str
    code: int
    width: float


EXPONENTIAL = Surrogate("exponential", 0, 1.0)
"""exp(-|x| / w) / 2w"""

LINEAR = Surrogate("linear", 1, 1.0)
"""max(0, 1 - |x| / w) / w"""

FAST_SIGMOID = Surrogate("fast-sigmoid", 2, 0.5)
"""1 / (2w (1 + |x| / w)^2)"""

ARCTAN = Surrogate("arctan", 3, 0.5)
"""1 / (pi w (1 + (x / w)^2))"""

RECTANGULAR = Surrogate("rectangular", 4, 1.0)
"""1 / 2w where |x| < w"""

SURROGATES = (EXPONENTIAL, LINEAR, FAST_SIGMOID, ARCTAN, RECTANGULAR)
"""Those that the audit tries, each as an attack of its own."""


def gradient_of_drive(
    grad_spikes_tnm: Array,
    v_tnm: Array,
    spikes_tnm: Array,
    fields: CubaFields,
    surrogate: Surrogate,
) -> Array:
    """Gradient of a loss by the sums of weights of every step, float32 (T, N, M).

    grad_spikes_tnm: float32, the loss by the spikes; v_tnm: int32 before reset; spikes_tnm:
    uint8. The path of v through a step that fired ends there, as the hard reset has it.
    """
    grad_drive = np.empty_like(grad_spikes_tnm)
    threshold = fields.v_th_mant << STATE_SHIFT
    _backward(
        grad_spikes_tnm,
        v_tnm,
        spikes_tnm,
        np.float32(1 - fields.i_decay / _UNITY),
        np.float32(1 - fields.v_decay / _UNITY),
        np.float32(threshold),
        surrogate.code,
        np.float32(1 / (threshold * surrogate.width)),
        np.float32(1 / (fields.v_th_mant * surrogate.width)),
        grad_drive,
    )
    return grad_drive


@numba.njit(cache=True)
def _slopes(code, v, threshold, inverse_width, height, slope):  # type: ignore[no-untyped-def]
    """Fill `slope` (m,) with the surrogate's values at the voltages v (m,)."""
    one, half = np.float32(1), np.float32(0.5)
    for m in range(v.shape[0]):
        x = abs(np.float32(v[m]) - threshold) * inverse_width
        if code == 0:
            slope[m] = half * height * np.exp(-x)
        elif code == 1:
            slope[m] = height * max(np.float32(0), one - x)
        elif code == 2:
            slope[m] = half * height / ((one + x) * (one + x))
        elif code == 3:
            slope[m] = height / (np.float32(np.pi) * (one + x * x))
        else:
            slope[m] = half * height if x < one else np.float32(0)


@numba.njit(parallel=True, cache=True)
def _backward(  # type: ignore[no-untyped-def]
    grad_spikes, v, spikes, keep_u, keep_v, threshold, code, inverse_width, height, grad_drive
):
    steps, samples, neurons = v.shape
    for n in numba.prange(samples):
        of_u = np.zeros(neurons, np.float32)
        of_v = np.zeros(neurons, np.float32)
        slope = np.empty(neurons, np.float32)
        for back in range(steps):
            t = steps - 1 - back
            _slopes(code, v[t, n], threshold, inverse_width, height, slope)
            arriving, fired, out = grad_spikes[t, n], spikes[t, n], grad_drive[t, n]
            for m in range(neurons):
                kept = keep_v * np.float32(1 - fired[m])
                of_v[m] = kept * of_v[m] + slope[m] * arriving[m]
                of_u[m] = keep_u * of_u[m] + of_v[m]
                out[m] = of_u[m]
