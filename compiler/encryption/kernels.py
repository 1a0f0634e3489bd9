"""Fused current, voltage and spike of SLAYER's CUBA neuron, forward and backward.

Layout is (t, n, m): time, sample, neuron. Values are on SLAYER's scale, where 1.0 is 4096
in the chip's state (64 weight mantissas); arithmetic is integer, as on the chip. Forward:
lava-dl 0.6.0 slayer/neuron/dynamics/leaky_integrator.py and spike/spike.py, with the chip's
wrap of u and clip of v added. Backward: the same files' `_li_dynamics_bwd` and
`_spike_backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch

from compiler.chip.fields import STATE_LIMIT
from compiler.chip.neuron import decay_toward_zero
from compiler.encryption.neuron import NeuronConstants, step_weights

_LIMIT = np.int32(STATE_LIMIT)
_TOP = np.int32(STATE_LIMIT - 1)
_STATE_SCALE = np.float32(4096.0)

_POW2 = (2.0 ** -np.arange(128)).astype(np.float32)
_LOG2E = np.float32(np.log2(np.e))
_LAST = np.int32(127)
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32((-np.log(2.0)) ** k / f)
    for k, f in ((1, 1), (2, 2), (3, 6), (4, 24), (5, 120), (6, 720))
)


@numba.njit(parallel=True, cache=True)
def forward(drive, bias, keep_u, keep_v, threshold, clip, spikes, voltage, counts):  # type: ignore[no-untyped-def]
    """Fill `spikes` (0.0 and 1.0), `voltage` (before reset), float32 (t, n, m), and `counts`.

    counts: float32 (n, m), spikes summed over time.

    drive: float32 (t, n, m), weighted spikes; bias: float32 (m,); keep_u, keep_v: int32
    share of 4096 kept a step; threshold: int32 on the state's scale, strict; clip: whether
    u wraps and v clips at 24 bits as on the chip.
    """
    steps, samples, neurons = drive.shape
    for n in numba.prange(samples):
        u = np.zeros(neurons, np.int32)
        v = np.zeros(neurons, np.int32)
        fired_times = counts[n]
        fired_times[:] = np.float32(0.0)
        for t in range(steps):
            arriving = drive[t, n]
            out = spikes[t, n]
            trace = voltage[t, n]
            for m in range(neurons):
                new_u = np.int32(
                    decay_toward_zero(u[m], keep_u) + np.int32(arriving[m] * _STATE_SCALE)
                )
                if clip:
                    if new_u > _LIMIT:
                        new_u = np.int32(new_u - _LIMIT - _LIMIT)
                    elif new_u <= -_LIMIT:
                        new_u = np.int32(new_u + _LIMIT + _LIMIT)
                new_v = np.int32(
                    decay_toward_zero(v[m], keep_v) + new_u + np.int32(bias[m] * _STATE_SCALE)
                )
                if clip:
                    new_v = min(max(new_v, np.int32(-_TOP)), _TOP)
                trace[m] = np.float32(new_v) / _STATE_SCALE
                fired = new_v > threshold
                out[m] = np.float32(1.0) if fired else np.float32(0.0)
                fired_times[m] += out[m]
                u[m] = new_u
                v[m] = np.int32(0) if fired else new_v


@numba.njit(parallel=True, cache=True)
def backward(  # type: ignore[no-untyped-def]
    grad_spikes,
    grad_counts,
    voltage,
    keep_u,
    keep_v,
    threshold,
    inverse_tau,
    height,
    linear,
    grad_drive,
    grad_bias,
):
    """Fill grad_drive (t, n, m) and grad_bias (n, m) from the gradients of spikes and counts.

    surrogate = height * exp(-d), or height * max(0, 1 - d) if `linear`, where
    d = |v - threshold| * inverse_tau; keep_u, keep_v: float32 shares.
    """
    steps, samples, neurons = voltage.shape
    for n in numba.prange(samples):
        of_u = np.zeros(neurons, np.float32)
        of_v = np.zeros(neurons, np.float32)
        total = grad_bias[n]
        of_count = grad_counts[n]
        total[:] = np.float32(0.0)
        for back in range(steps):
            t = steps - 1 - back
            arriving = grad_spikes[t, n]
            trace = voltage[t, n]
            out = grad_drive[t, n]
            for m in range(neurons):
                distance = abs(trace[m] - threshold) * inverse_tau
                p = distance * _LOG2E
                k = min(np.int32(p + np.float32(0.5)), _LAST)
                f = p - np.float32(k)
                poly = np.float32(1.0) + f * (
                    _C1 + f * (_C2 + f * (_C3 + f * (_C4 + f * (_C5 + f * _C6))))
                )
                slope = height * poly * _POW2[k]
                if linear:
                    slope = height * max(np.float32(0.0), np.float32(1.0) - distance)
                of_v[m] = keep_v * of_v[m] + slope * (arriving[m] + of_count[m])
                of_u[m] = keep_u * of_u[m] + of_v[m]
                total[m] += of_v[m]
                out[m] = of_u[m]


@numba.njit(parallel=True, cache=True)
def integrate(drive, bias, keep_u, keep_v, voltage):  # type: ignore[no-untyped-def]
    """Voltage (n, m) after the last step of a read-out neuron, clipped as on the chip; float32."""
    steps, samples, neurons = drive.shape
    for n in numba.prange(samples):
        u = np.zeros(neurons, np.int32)
        v = np.zeros(neurons, np.int32)
        for t in range(steps):
            arriving = drive[t, n]
            for m in range(neurons):
                new_u = np.int32(
                    decay_toward_zero(u[m], keep_u) + np.int32(arriving[m] * _STATE_SCALE)
                )
                if new_u > _LIMIT:
                    new_u = np.int32(new_u - _LIMIT - _LIMIT)
                elif new_u <= -_LIMIT:
                    new_u = np.int32(new_u + _LIMIT + _LIMIT)
                new_v = np.int32(
                    decay_toward_zero(v[m], keep_v) + new_u + np.int32(bias[m] * _STATE_SCALE)
                )
                u[m] = new_u
                v[m] = min(max(new_v, np.int32(-_TOP)), _TOP)
        for m in range(neurons):
            voltage[n, m] = np.float32(v[m]) / _STATE_SCALE


class _Fire(torch.autograd.Function):  # type: ignore[misc]
    """Drive (t, n, m) and bias (m) to spikes (t, n, m) and their sum over time (n, m).

    The sum is an output of its own so that a loss on firing rates needs no tensor over time.
    """

    @staticmethod
    def forward(
        ctx: Any, drive: Any, bias: Any, constants: NeuronConstants
    ) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = torch.empty_like(drive)
        voltage = torch.empty_like(drive)
        counts = torch.empty_like(drive[0])
        forward(
            drive.detach().numpy(),
            bias.detach().numpy(),
            *_integers(constants),
            True,
            spikes.numpy(),
            voltage.numpy(),
            counts.numpy(),
        )
        ctx.save_for_backward(voltage)
        ctx.constants = constants
        return spikes, counts

    @staticmethod
    def backward(
        ctx: Any, grad_spikes: Any, grad_counts: Any
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        (voltage,) = ctx.saved_tensors
        grad_drive = torch.empty_like(voltage)
        grad_bias = torch.empty_like(voltage[0])
        backward(
            grad_spikes.contiguous().numpy(),
            grad_counts.contiguous().numpy(),
            voltage.numpy(),
            *_floats(ctx.constants),
            ctx.constants.linear,
            grad_drive.numpy(),
            grad_bias.numpy(),
        )
        return grad_drive, grad_bias.sum(0), None


class _ReadOut(torch.autograd.Function):  # type: ignore[misc]
    """Voltage of the integer read-out forward; gradient of the plain sum backward."""

    @staticmethod
    def forward(ctx: Any, drive: Any, bias: Any, constants: NeuronConstants) -> torch.Tensor:
        keep_u, keep_v, _ = _integers(constants)
        voltage = torch.empty_like(drive[0])
        integrate(drive.detach().numpy(), bias.detach().numpy(), keep_u, keep_v, voltage.numpy())
        ctx.weights = step_weights(drive.shape[0], constants)
        return voltage

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_drive, of_bias = ctx.weights
        return of_drive.reshape(-1, 1, 1) * grad, of_bias * grad.sum(0), None


def _integers(constants: NeuronConstants) -> tuple[Any, ...]:
    """keep_u, keep_v and the threshold on the state's scale."""
    fields = (constants.keep_current, constants.keep_voltage, constants.threshold)
    return tuple(map(np.int32, fields))


def _floats(constants: NeuronConstants) -> tuple[Any, ...]:
    """keep_u, keep_v, level, inverse width and height of the surrogate."""
    fields = (
        constants.share_current,
        constants.share_voltage,
        constants.level,
        constants.inverse_width,
        constants.slope,
    )
    return tuple(map(np.float32, fields))


fire: Callable[..., tuple[torch.Tensor, torch.Tensor]] = _Fire.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to spikes (t, n, m) and counts (n, m)."""

read_out: Callable[..., torch.Tensor] = _ReadOut.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to the last voltage (n, m)."""
