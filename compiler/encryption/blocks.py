"""lava-dl SLAYER blocks for training on the chip's integers, computed with time in the batch.

The blocks are SLAYER's own classes with SLAYER's parameters and export; only the way
synapse and neuron are computed differs. Spikes are (T, N, H, W, C) in memory, so that folding
time into the batch is a view. They are equal to stock SLAYER's; gradients are equal within
float rounding.
"""

from __future__ import annotations

import torch

from compiler.chip.execute import apply_synapses
from compiler.chip.fields import BIAS_MANT
from compiler.encryption import kernels, scan
from compiler.encryption.neuron import constants_of
from compiler.encryption.quiet import quantize, slayer
from compiler.ir.geometry import ConvGeometry, Shape


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


class _Folded:
    """What the folded convolution and dense blocks share. Mixed into SLAYER's classes."""

    chip_shape: Shape
    geometry: ConvGeometry | None
    readout: bool
    scanned: bool = False
    """The neurons in torch operations: always so on a GPU."""

    def bias_per_neuron(self) -> torch.Tensor:
        """The bias of every neuron, flat in (H, W, C) order."""
        bias: torch.Tensor = self.neuron.norm.per_neuron(self.chip_shape)  # type: ignore[attr-defined]
        return bias

    def folded(self, spikes_tnhwc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Spikes (T, N, H, W, C) in; spikes in the same order out, and their counts (N, H, W, C).

        A read-out gives its voltage (N, C) twice: it has no spikes.
        """
        steps, samples = spikes_tnhwc.shape[:2]
        drive = apply_synapses(
            spikes_tnhwc.reshape(steps * samples, *spikes_tnhwc.shape[2:]),
            self.folded_weight(),
            self.geometry,
        )
        channels, height, width = self.chip_shape
        drive = drive.reshape(steps, samples, -1)
        bias = self.bias_per_neuron()
        constants = constants_of(self.neuron)  # type: ignore[attr-defined]
        neurons = scan if self.scanned or drive.is_cuda else kernels
        if self.readout:
            voltage = neurons.read_out(drive, bias, constants)
            return voltage, voltage
        spikes, counts = neurons.fire(drive, bias, constants)
        shape = (samples, height, width, channels)
        return spikes.reshape(steps, *shape), counts.reshape(shape)

    def folded_weight(self) -> torch.Tensor:
        """The rounded weight, (O, I, rows, columns) or (O, I)."""
        raise NotImplementedError


class FoldedConv(_Folded, slayer.block.cuba.Conv):  # type: ignore[misc]
    """`slayer.block.cuba.Conv` with time folded into the batch."""

    def folded_weight(self) -> torch.Tensor:
        """The rounded weight of SLAYER's synapse without its axis of time."""
        weight: torch.Tensor = self.synapse.pre_hook_fx(self.synapse.weight)
        return weight.squeeze(-1)


class FoldedDense(_Folded, slayer.block.cuba.Dense):  # type: ignore[misc]
    """`slayer.block.cuba.Dense` with time folded into the batch; its weight is in C, H, W order."""

    def folded_weight(self) -> torch.Tensor:
        """The rounded weight of SLAYER's synapse without its axis of time."""
        weight: torch.Tensor = self.synapse.pre_hook_fx(self.synapse.weight)
        return weight.flatten(1)
