"""lava-dl SLAYER blocks for training on the chip's integers, computed with time in the batch.

The blocks are SLAYER's own classes with SLAYER's parameters and export; only the way
synapse and neuron are computed differs. Tensors keep SLAYER's shape (N, C, H, W, T) or
(N, C, T), but lie in memory as (T, N, H, W, C), so that folding time into the batch is a
view. Spikes are equal to stock SLAYER's; gradients are equal within float rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from compiler.chip.execute import apply_synapses
from compiler.chip.fields import BIAS_MANT
from compiler.encryption import kernels
from compiler.encryption.quiet import SCALE_RHO_MULT, TAU_RHO_MULT, quantize, slayer
from compiler.ir.geometry import ConvGeometry, Shape

STATE_SCALE = 4096
DECAY_ONE = 4096


class NeuronBias(torch.nn.Module):  # type: ignore[misc]
    """SLAYER `norm` module that adds a trainable constant: current + quantized(bias).

    raw: float parameter on SLAYER's scale, shape (C,) or (C, H, W). The value used is
    rounded to an even mantissa and clipped to the chip's field, straight-through. It has
    no `pre_hook_fx`, which would round to 8 bits.
    """

    def __init__(self, raw: torch.Tensor, scale: int) -> None:
        super().__init__()
        self.raw = torch.nn.Parameter(raw)
        self.scale = scale

    @property
    def bias(self) -> torch.Tensor:
        """The bias as the chip holds it, on SLAYER's scale."""
        low, high = BIAS_MANT.low / self.scale, BIAS_MANT.high / self.scale
        rounded: torch.Tensor = quantize(self.raw, step=2 / self.scale)
        return rounded.clamp(low, high)

    def forward(self, current_nct: torch.Tensor) -> torch.Tensor:
        """Add the bias to a current of shape (N, C, T) or (N, C, H, W, T)."""
        bias = self.bias
        spatial = current_nct.dim() - 2 - bias.dim()
        return current_nct + bias.reshape(1, *bias.shape, *([1] * spatial), 1)

    def per_neuron(self, shape: Shape) -> torch.Tensor:
        """The bias of every neuron, flat in (H, W, C) order."""
        bias = self.bias
        full = bias.reshape(-1, 1, 1) if bias.dim() == 1 else bias
        return full.expand(shape).permute(1, 2, 0).reshape(-1)


class _Fire(torch.autograd.Function):  # type: ignore[misc]
    """Drive (t, n, m) and bias (m) to spikes (t, n, m) and their sum over time (n, m).

    The sum is an output of its own so that a loss on firing rates needs no tensor over time.
    """

    @staticmethod
    def forward(
        ctx: Any, drive: Any, bias: Any, constants: _Constants
    ) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = torch.empty_like(drive)
        voltage = torch.empty_like(drive)
        counts = torch.empty_like(drive[0])
        kernels.forward(
            drive.detach().numpy(),
            bias.detach().numpy(),
            *constants.integers(),
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
        kernels.backward(
            grad_spikes.contiguous().numpy(),
            grad_counts.contiguous().numpy(),
            voltage.numpy(),
            *ctx.constants.floats(),
            grad_drive.numpy(),
            grad_bias.numpy(),
        )
        return grad_drive, grad_bias.sum(0), None


class _Constants:
    """The neuron's constants in the types the kernels want."""

    def __init__(self, neuron: Any) -> None:
        self.keep_u = DECAY_ONE - int(neuron.cx_current_decay)
        self.keep_v = DECAY_ONE - int(neuron.cx_voltage_decay)
        self.threshold = float(neuron.threshold)
        self.eps = float(neuron.threshold_eps)
        self.tau = float(neuron.tau_rho) * TAU_RHO_MULT
        self.height = float(neuron.scale_rho) * SCALE_RHO_MULT / 2 / self.tau

    def integers(self) -> tuple[Any, ...]:
        """keep_u, keep_v and the threshold on the state's scale, as int32."""
        threshold = round(self.threshold * STATE_SCALE)
        return (np.int32(self.keep_u), np.int32(self.keep_v), np.int32(threshold))

    def floats(self) -> tuple[Any, ...]:
        """keep_u, keep_v, threshold, 1 / width and height of the surrogate, as float32."""
        shares = (self.keep_u / DECAY_ONE, self.keep_v / DECAY_ONE)
        return tuple(
            np.float32(x) for x in (*shares, self.threshold + self.eps, 1 / self.tau, self.height)
        )


class _Folded:
    """What the folded convolution and dense blocks share. Mixed into SLAYER's classes."""

    chip_shape: Shape
    geometry: ConvGeometry | None
    readout: bool

    def folded(self, spikes_tnhwc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spikes (T, N, H, W, C) in; spikes in the same order out, and their counts (N, H, W, C).

        A read-out gives its voltage (N, C) twice: it has no spikes.
        """
        steps, samples = spikes_tnhwc.shape[:2]
        drive = apply_synapses(
            spikes_tnhwc.reshape(steps * samples, *spikes_tnhwc.shape[2:]),
            self._folded_weight(),
            self.geometry,
        )
        channels, height, width = self.chip_shape
        drive = drive.reshape(steps, samples, -1)
        bias = self.neuron.norm.per_neuron(self.chip_shape)  # type: ignore[attr-defined]
        constants = _Constants(self.neuron)  # type: ignore[attr-defined]
        if self.readout:
            voltage = _read_out(drive, bias, constants)
            return voltage, voltage
        spikes, counts = _Fire.apply(drive, bias, constants)
        shape = (samples, height, width, channels)
        return spikes.reshape(steps, *shape), counts.reshape(shape)

    def _folded_weight(self) -> torch.Tensor:
        raise NotImplementedError


class FoldedConv(_Folded, slayer.block.cuba.Conv):  # type: ignore[misc]
    """`slayer.block.cuba.Conv` with time folded into the batch."""

    def _folded_weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.synapse.pre_hook_fx(self.synapse.weight)
        return weight.squeeze(-1)


class FoldedDense(_Folded, slayer.block.cuba.Dense):  # type: ignore[misc]
    """`slayer.block.cuba.Dense` with time folded into the batch; its weight is in C, H, W order."""

    def _folded_weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.synapse.pre_hook_fx(self.synapse.weight)
        return weight.flatten(1)


class _Clip(torch.autograd.Function):  # type: ignore[misc]
    """Voltage of the integer read-out forward; gradient of the plain sum backward."""

    @staticmethod
    def forward(ctx: Any, drive: Any, bias: Any, constants: _Constants) -> torch.Tensor:
        keep_u, keep_v, _ = constants.integers()
        voltage = torch.empty_like(drive[0])
        kernels.integrate(
            drive.detach().numpy(), bias.detach().numpy(), keep_u, keep_v, voltage.numpy()
        )
        ctx.weights = _step_weights(drive.shape[0], constants)
        return voltage

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_drive, of_bias = ctx.weights
        return of_drive.reshape(-1, 1, 1) * grad, of_bias * grad.sum(0), None


def _step_weights(steps: int, constants: _Constants) -> tuple[torch.Tensor, torch.Tensor]:
    """d v[last] / d drive[t], and d v[last] / d bias, of the linear integrator."""
    keep_u, keep_v = constants.keep_u / DECAY_ONE, constants.keep_v / DECAY_ONE
    share, current = [], 0.0
    voltage = 0.0
    for power in range(steps):
        current = keep_u**power
        voltage = keep_v * voltage + current
        share.append(voltage)
    of_bias = sum(keep_v**k for k in range(steps))
    return torch.tensor(share[::-1]), torch.tensor(float(of_bias))


_read_out: Callable[..., torch.Tensor] = _Clip.apply
