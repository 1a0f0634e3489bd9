"""The constants of a SLAYER neuron in the form that every engine of the training takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from compiler.chip.fields import DECAY_ONE
from compiler.encryption.quiet import SCALE_RHO_MULT, TAU_RHO_MULT

STATE_SCALE = 4096
"""The chip's state in a value of 1.0 on SLAYER's scale: 64 mantissas, shifted by 6 bits."""


@dataclass(frozen=True)
class NeuronConstants:
    """keep_current, keep_voltage: shares of 4096; threshold: strict, on the state's scale.

    Of the surrogate gradient slope * exp(-d) or, if `linear`, slope * max(0, 1 - d), where
    d = |v - level| * inverse_width, on SLAYER's scale: level, inverse_width, slope;
    share_current and share_voltage are the kept shares as floats.
    """

    keep_current: int
    keep_voltage: int
    threshold: int
    share_current: float
    share_voltage: float
    level: float
    inverse_width: float
    slope: float
    linear: bool = False


def constants_of(neuron: Any) -> NeuronConstants:
    """Of a `slayer.neuron.cuba.Neuron` with shared decays.

    An attribute `linear_surrogate`, which SLAYER's neuron has not, says that the surrogate is
    piecewise linear; without it, it is SLAYER's exponential.
    """
    keep_current = DECAY_ONE - int(neuron.cx_current_decay)
    keep_voltage = DECAY_ONE - int(neuron.cx_voltage_decay)
    width = float(neuron.tau_rho) * TAU_RHO_MULT
    return NeuronConstants(
        keep_current=keep_current,
        keep_voltage=keep_voltage,
        threshold=round(float(neuron.threshold) * STATE_SCALE),
        share_current=keep_current / DECAY_ONE,
        share_voltage=keep_voltage / DECAY_ONE,
        level=float(neuron.threshold) + float(neuron.threshold_eps),
        inverse_width=1 / width,
        slope=float(neuron.scale_rho) * SCALE_RHO_MULT / 2 / width,
        linear=bool(getattr(neuron, "linear_surrogate", False)),
    )


def step_weights(steps: int, constants: NeuronConstants) -> tuple[torch.Tensor, float]:
    """d v[last] / d drive[t], (T,), and d v[last] / d bias, of a neuron that never fires."""
    share: list[float] = []
    voltage = of_bias = 0.0
    for power in range(steps):
        voltage = constants.share_voltage * voltage + constants.share_current**power
        of_bias = constants.share_voltage * of_bias + 1
        share.append(voltage)
    return torch.tensor(share[::-1]), of_bias
