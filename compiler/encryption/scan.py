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


class _State:
    """u and v (n, m), int32, and their step."""

    def __init__(self, drive: torch.Tensor, bias: torch.Tensor, constants: NeuronConstants) -> None:
        self.constants = constants
        self.u = torch.zeros(drive.shape[1:], dtype=torch.int32, device=drive.device)
        self.v = torch.zeros_like(self.u)
        self.bias = (bias * STATE_SCALE).to(torch.int32)

    def step(self, drive: torch.Tensor) -> torch.Tensor:
        """v before reset after one step of `drive` (n, m)."""
        arriving = (drive * _GRID).round().to(torch.int32) * (STATE_SCALE // _GRID)
        u = _decayed(self.u, self.constants.keep_current) + arriving
        u = torch.where(u > STATE_LIMIT, u - 2 * STATE_LIMIT, u)
        self.u = torch.where(u <= -STATE_LIMIT, u + 2 * STATE_LIMIT, u)
        v = _decayed(self.v, self.constants.keep_voltage) + self.u + self.bias
        self.v = v.clamp(-_TOP, _TOP)
        return self.v


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
        spikes, trace = torch.empty_like(drive), torch.empty_like(drive)
        state = _State(drive, bias, constants)
        for t in range(len(drive)):
            voltage = state.step(drive[t])
            fired = voltage > constants.threshold
            trace[t] = voltage / STATE_SCALE
            spikes[t] = fired
            state.v = voltage.masked_fill(fired, 0)
        ctx.save_for_backward(trace)
        ctx.constants = constants
        return spikes, spikes.sum(0)

    @staticmethod
    def backward(
        ctx: Any, of_spikes: torch.Tensor, of_counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        (trace,) = ctx.saved_tensors
        constants = ctx.constants
        of_drive = torch.empty_like(trace)
        of_u, of_v, of_bias = (torch.zeros_like(trace[0]) for _ in range(3))
        for t in range(len(trace) - 1, -1, -1):
            slope = _surrogate(trace[t], constants)
            of_v = constants.share_voltage * of_v + slope * (of_spikes[t] + of_counts)
            of_u = constants.share_current * of_u + of_v
            of_bias = of_bias + of_v
            of_drive[t] = of_u
        return of_drive, of_bias.sum(0), None


class _ReadOut(torch.autograd.Function):  # type: ignore[misc]
    """Drive (t, n, m) and bias (m) to the last voltage (n, m); gradient of the plain sum."""

    @staticmethod
    def forward(
        ctx: Any, drive: torch.Tensor, bias: torch.Tensor, constants: NeuronConstants
    ) -> torch.Tensor:
        state = _State(drive, bias, constants)
        for t in range(len(drive)):
            state.step(drive[t])
        ctx.weights = step_weights(len(drive), constants)
        return state.v / STATE_SCALE

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_drive, of_bias = ctx.weights
        shares = of_drive.to(grad.device).reshape(-1, 1, 1)
        return shares * grad, of_bias * grad.sum(0), None


fire: Callable[..., tuple[torch.Tensor, torch.Tensor]] = _Fire.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to spikes (t, n, m) and counts (n, m)."""

read_out: Callable[..., torch.Tensor] = _ReadOut.apply
"""Drive (t, n, m), bias (m,) and NeuronConstants to the last voltage (n, m)."""
