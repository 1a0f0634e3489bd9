"""The integrate-and-fire neuron with soft reset, and the slopes that stand in for its spike's.

v[t] = v'[t-1] + current[t]; s[t] = 1 where v[t] > theta; v'[t] = v[t] - theta * s[t]. Leak 1.0
and the strict comparison are the code's. No gradient passes through the reset (code: the mask is
cast to float), so that backward dv[t]/dv[t-1] = 1: a cumulative sum against time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from audit.privatesnn.settings import GAMMA
from audit.surrogates import (
    ARCTAN,
    EXPONENTIAL,
    FAST_SIGMOID,
    LINEAR,
    RECTANGULAR,
    Surrogate,
)

Slope = Callable[[Tensor], Tensor]
"""h(x) with x = v / theta - 1; the spike's derivative by v is h(x) / theta."""


_BLOCK = 1024
"""Neurons that the loop over time runs through together: their state stays in the cache."""


def published_slope(x: Tensor) -> Tensor:
    """0.3 * max(0, 1 - |x|), with which the network is trained."""
    return GAMMA * (1 - x.abs()).clamp_min(0)


_FORMULAS: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        EXPONENTIAL.name: lambda x, w: torch.exp(-x.abs() / w) / (2 * w),
        LINEAR.name: lambda x, w: (1 - x.abs() / w).clamp_min(0) / w,
        FAST_SIGMOID.name: lambda x, w: 1 / (2 * w * (1 + x.abs() / w).square()),
        ARCTAN.name: lambda x, w: 1 / (math.pi * w * (1 + (x / w).square())),
        RECTANGULAR.name: lambda x, w: (x.abs() < w).float() / (2 * w),
    }
)


def slope_of(surrogate: Surrogate) -> Slope:
    """The attacker's surrogate for torch; the same formulas as in audit.surrogates."""
    formula, width = _FORMULAS[surrogate.name], surrogate.width
    return lambda x: formula(x, width)


def fire(current_tn: Tensor, threshold: float, slope: Slope = published_slope) -> Tensor:
    """Spikes, float32 of 0 and 1, for currents (T, ...), the neurons starting at v = 0."""
    spikes: Tensor = _Fire.apply(current_tn.contiguous(), threshold, slope)  # type: ignore[no-untyped-call]
    return spikes


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, threshold: float, slope: Slope) -> Tensor:
        voltage, spikes = integrate(current, threshold)
        if ctx.needs_input_grad[0]:
            slopes = slope(voltage.div_(threshold).sub_(1)).div_(threshold)
            ctx.save_for_backward(slopes)
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        grad = grad_spikes * slopes
        for t in range(len(grad) - 2, -1, -1):
            grad[t] += grad[t + 1]
        return grad, None, None


def integrate(current_tn: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Voltages before the reset and spikes, both float32 (T, ...)."""
    voltage, spikes = torch.empty_like(current_tn), torch.empty_like(current_tn)
    if current_tn.device.type == "cpu":
        steps = len(current_tn)
        flat = [part.view(steps, -1).numpy() for part in (current_tn, voltage, spikes)]
        _integrate(*flat, np.float32(threshold))
        return voltage, spikes
    left = torch.zeros_like(current_tn[0])
    for t, current in enumerate(current_tn):
        voltage[t] = left + current
        spikes[t] = voltage[t] > threshold
        left = voltage[t] - threshold * spikes[t]
    return voltage, spikes


@numba.njit(cache=True)
def _integrate(current, voltage, spikes, threshold):  # type: ignore[no-untyped-def]
    steps, neurons = current.shape
    for begin in range(0, neurons, _BLOCK):
        end = min(begin + _BLOCK, neurons)
        left = np.zeros(end - begin, np.float32)
        for t in range(steps):
            for m in range(begin, end):
                v = left[m - begin] + current[t, m]
                s = np.float32(1) if v > threshold else np.float32(0)
                voltage[t, m], spikes[t, m] = v, s
                left[m - begin] = v - threshold * s
