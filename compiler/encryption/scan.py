"""The neuron of kernels.py in torch operations, step by step: for any device.

SLAYER's own CUDA kernel is not used: it compares v with a threshold cut to an integer, so that
v is reset without a spike where it equals the threshold. Here the chip's integers are computed,
with the strict comparison, on the CPU and on the GPU alike. A convolution that is not exact
(Winograd's, or one in TF32) is rounded back to the weights' grid before it enters the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from compiler.chip.fields import DECAY_ONE, STATE_LIMIT
from compiler.encryption.neuron import STATE_SCALE, NeuronConstants, step_weights

_GRID = 32
"""Steps of a quantized weight in 1.0 on SLAYER's scale: even mantissas of 64."""

_TOP = STATE_LIMIT - 1


def _decayed(state: torch.Tensor, keep: int) -> torch.Tensor:
    """toward0(state * keep / 4096) in 32 bits."""
    if keep == DECAY_ONE:
        return state
    size = state.abs()
    kept = (size >> 12) * keep + (((size & (DECAY_ONE - 1)) * keep) >> 12)
    return kept * state.sign()


def _wrapped(state: torch.Tensor) -> torch.Tensor:
    """u within 24 bits."""
    state = torch.where(state > STATE_LIMIT, state - 2 * STATE_LIMIT, state)
    return torch.where(state <= -STATE_LIMIT, state + 2 * STATE_LIMIT, state)


def _added(drive: torch.Tensor, bias: torch.Tensor, constants: NeuronConstants) -> torch.Tensor:
    """What each step adds to v, int32 (t, n, m): u and the bias.

    All steps at once where u keeps nothing: on a GPU it is the number of operations that takes
    the time, not their size.
    """
    arriving = (drive * _GRID).round().to(torch.int32).mul_(STATE_SCALE // _GRID)
    if constants.keep_current:
        u = torch.zeros_like(arriving[0])
        for now in arriving:
            u = _wrapped(_decayed(u, constants.keep_current) + now)
            now.copy_(u)
    else:
        arriving = _wrapped(arriving)
    return arriving.add_((bias * STATE_SCALE).to(torch.int32))


def _surrogate(voltage: torch.Tensor, constants: NeuronConstants) -> torch.Tensor:
    distance = (voltage - constants.level).abs() * constants.inverse_width
    shape = (1 - distance).clamp_min(0) if constants.linear else torch.exp(-distance)
    return constants.slope * shape


class _Fire(torch.autograd.Function):  # type: ignore[misc]
    """Drive (t, n, m) and bias (m) to spikes (t, n, m) and their sum over time (n, m)."""

    @staticmethod
    def forward(
        ctx: Any, drive: torch.Tensor, bias: torch.Tensor, constants: NeuronConstants
    ) -> tuple[torch.Tensor, torch.Tensor]:
        voltages = _added(drive, bias, constants)
        v = torch.zeros_like(voltages[0])
        for now in voltages:
            now.add_(_decayed(v, constants.keep_voltage)).clamp_(-_TOP, _TOP)
            v = now.masked_fill(now > constants.threshold, 0)
        spikes = (voltages > constants.threshold).to(drive.dtype)
        ctx.save_for_backward(voltages / STATE_SCALE)
        ctx.constants = constants
        return spikes, spikes.sum(0)

    @staticmethod
    def backward(
        ctx: Any, of_spikes: torch.Tensor, of_counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        (trace,) = ctx.saved_tensors
        constants = ctx.constants
        of_voltages = _surrogate(trace, constants).mul_(of_spikes + of_counts)
        of_v = torch.zeros_like(trace[0])
        for now in reversed(of_voltages.unbind()):
            of_v = now.add_(of_v, alpha=constants.share_voltage)
        of_bias = of_voltages.sum((0, 1))
        if constants.keep_current:
            of_u = torch.zeros_like(trace[0])
            for now in reversed(of_voltages.unbind()):
                of_u = now.add_(of_u, alpha=constants.share_current)
        return of_voltages, of_bias, None


class _ReadOut(torch.autograd.Function):  # type: ignore[misc]
    """Drive (t, n, m) and bias (m) to the last voltage (n, m); gradient of the plain sum."""

    @staticmethod
    def forward(
        ctx: Any, drive: torch.Tensor, bias: torch.Tensor, constants: NeuronConstants
    ) -> torch.Tensor:
        added = _added(drive, bias, constants)
        v = torch.zeros_like(added[0])
        for now in added:
            v = (_decayed(v, constants.keep_voltage) + now).clamp_(-_TOP, _TOP)
        ctx.weights = step_weights(len(drive), constants)
        return v / STATE_SCALE

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_drive, of_bias = ctx.weights
        shares = of_drive.to(grad.device).reshape(-1, 1, 1)
        return shares * grad, of_bias * grad.sum(0), None


fire: Callable[..., tuple[torch.Tensor, torch.Tensor]] = _Fire.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to spikes (t, n, m) and counts (n, m)."""

read_out: Callable[..., torch.Tensor] = _ReadOut.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to the last voltage (n, m)."""
