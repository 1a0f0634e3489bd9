"""The one neuron step: Loihi's current-based leaky integrate-and-fire, batched over time.

Source of the arithmetic: lava-nc 0.10.0 lava/proc/lif/models.py:138-196 (PyLifModelBitAcc).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from compiler.chip.fields import DECAY_BITS, STATE_LIMIT, STATE_SHIFT
from compiler.ir.chip import CubaFields
from compiler.ir.geometry import Array

_UNITY = np.int32(1 << DECAY_BITS)
_MASK = np.int32((1 << DECAY_BITS) - 1)
_BITS = np.int32(DECAY_BITS)
_LIMIT = np.int32(STATE_LIMIT)
_TOP = np.int32(STATE_LIMIT - 1)
_SHIFT = np.int32(STATE_SHIFT)


@dataclass(frozen=True)
class NeuronRun:
    """Result of running a layer's neurons.

    spikes_tnm: uint8; voltage_nm: int32 after the last step; saturations: (n,) number of
    clips of v per sample; u_tnm and v_tnm: int32 traces (v before reset), or None.
    """

    spikes_tnm: Array
    voltage_nm: Array
    saturations: Array
    u_tnm: Array | None = None
    v_tnm: Array | None = None


def run_neurons(
    current_tnm: Array, bias_m: Array, fields: CubaFields, traces: bool = False
) -> NeuronRun:
    """Run the neurons of a layer from rest for all steps.

    current_tnm: integer-valued float32, float64 or int32 sums of weights a step, unshifted;
    bias_m: int32 mantissas, one a neuron.
    """
    steps, samples, neurons = current_tnm.shape
    spikes = np.empty((steps, samples, neurons), np.uint8)
    voltage = np.zeros((samples, neurons), np.int32)
    saturations = np.zeros(samples, np.int64)
    shape = (steps, samples, neurons) if traces else (0, samples, neurons)
    u_trace, v_trace = np.empty(shape, np.int32), np.empty(shape, np.int32)
    _integrate(
        current_tnm,
        np.ascontiguousarray(bias_m, dtype=np.int32),
        np.int32((1 << DECAY_BITS) - fields.i_decay),
        np.int32((1 << DECAY_BITS) - fields.v_decay),
        np.int32(fields.v_th_mant << STATE_SHIFT),
        spikes,
        voltage,
        saturations,
        u_trace,
        v_trace,
    )
    if not traces:
        return NeuronRun(spikes, voltage, saturations)
    return NeuronRun(spikes, voltage, saturations, u_trace, v_trace)


@numba.njit(cache=True, inline="always")  # type: ignore[untyped-decorator]
def decay_toward_zero(state: np.int32, keep: np.int32) -> np.int32:
    """toward0(state * keep / 4096) without leaving 32 bits."""
    size = np.int32(abs(state))
    kept = np.int32(
        np.int32((size >> _BITS) * keep) + np.int32(np.int32((size & _MASK) * keep) >> _BITS)
    )
    return np.int32(kept if state >= 0 else -kept)


@numba.njit(parallel=True, cache=True)
def _integrate(  # type: ignore[no-untyped-def]
    current,
    bias,
    keep_u,
    keep_v,
    threshold,
    spikes,
    voltage,
    saturations,
    u_trace,
    v_trace,
):
    steps, samples, neurons = current.shape
    traced = u_trace.shape[0] > 0
    for n in numba.prange(samples):
        u = np.zeros(neurons, np.int32)
        v = np.zeros(neurons, np.int32)
        clipped = 0
        for t in range(steps):
            arriving = current[t, n]
            out = spikes[t, n]
            for m in range(neurons):
                total = np.int64(decay_toward_zero(u[m], keep_u)) + (np.int64(arriving[m]) << 6)
                if total > _LIMIT:
                    total -= 2 * _LIMIT
                elif total <= -_LIMIT:
                    total += 2 * _LIMIT
                new_u = np.int32(total)
                new_v = np.int32(
                    decay_toward_zero(v[m], keep_v) + new_u + np.int32(bias[m] << _SHIFT)
                )
                if new_v > _TOP:
                    new_v = _TOP
                    clipped += 1
                elif new_v < -_TOP:
                    new_v = np.int32(-_TOP)
                    clipped += 1
                if traced:
                    u_trace[t, n, m] = new_u
                    v_trace[t, n, m] = new_v
                fired = new_v > threshold
                out[m] = fired
                u[m] = new_u
                v[m] = np.int32(0) if fired else new_v
        voltage[n] = v
        saturations[n] = clipped


@numba.njit(parallel=True, cache=True)
def integrate_and_fire_float(current, bias, keep_u, keep_v, threshold, subtract):  # type: ignore[no-untyped-def]
    """The same neuron in float, for a network whose weights are not yet integers.

    current: float32 (t, n, m); bias: float32 (m,); keep_u, keep_v: share kept a step;
    threshold: float; subtract: whether a spike takes it off v instead of setting v to 0. Returns
    uint8 spikes (t, n, m) and the float32 voltage (n, m) after the last step.
    """
    steps, samples, neurons = current.shape
    spikes = np.empty((steps, samples, neurons), np.uint8)
    voltage = np.zeros((samples, neurons), np.float32)
    for n in numba.prange(samples):
        u = np.zeros(neurons, np.float32)
        v = voltage[n]
        for t in range(steps):
            arriving = current[t, n]
            out = spikes[t, n]
            for m in range(neurons):
                new_u = u[m] * keep_u + arriving[m]
                new_v = v[m] * keep_v + new_u + bias[m]
                fired = new_v > threshold
                out[m] = fired
                u[m] = new_u
                left = new_v - threshold if subtract else np.float32(0.0)
                v[m] = left if fired else new_v
    return spikes, voltage
