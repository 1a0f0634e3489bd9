"""An SnnGraph as a stack of SLAYER blocks, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from compiler.chip.fields import DECAY_ONE, READOUT_V_TH_MANT
from compiler.encryption import native
from compiler.encryption.blocks import FoldedConv, FoldedDense, NeuronBias
from compiler.encryption.fused import Buffers, FusedLayer, FusedNetwork
from compiler.encryption.native import LayerShape
from compiler.encryption.neuron import NeuronConstants, constants_of
from compiler.ir.geometry import Array, ConvGeometry, frozen
from compiler.ir.snn import SnnGraph, SnnLayer

WEIGHT_SCALE = 64
"""SLAYER's scale: a weight of 1.0 is the mantissa 64. A power of two, so export is exact."""

_NEVER = (1 << 31) - 1
"""A threshold that v, which is clipped at 24 bits, cannot reach."""

Engine = Literal["native", "numba", "torch"]

_BYTES = {"native": 16, "numba": 32, "torch": 32, "gpu": 16}
"""What a neuron's time-step takes in a training step: spikes, voltages, gradients. torch: 22 were
measured on the CPU for VGG9; of its operations 9 are on a GPU, the rest is room for cuDNN's."""


@dataclass(frozen=True)
class Surrogate:
    """What stands in for the derivative of a spike, a function of d = |v - threshold| / width.

    SLAYER's is height * exp(-d); if `linear`, it is height * max(0, 1 - d) (Bellec et al. 2018).
    `width` is in thresholds; `height` is in 1 / threshold. For a rate code over T steps a
    height near 2 / T makes the summed derivative match the slope of the firing rate.
    """

    width: float = 1.0
    height: float = 0.0625
    linear: bool = False


class SlayerNetwork(torch.nn.Module):  # type: ignore[misc]
    """Trainable SLAYER blocks of an SnnGraph, delay_shift off, quantization in the loop.

    `engine` is how the blocks are computed: `native`, by compiled kernels; `numba`, by torch's
    convolutions and numba's neurons; `torch`, by torch operations alone, on any device. None
    takes the first that can: native needs a C++ compiler, and the CPU.
    """

    def __init__(self, graph: SnnGraph, surrogate: Surrogate, engine: Engine | None = None) -> None:
        super().__init__()
        self.graph = graph
        self.blocks = torch.nn.ModuleList(_block(layer, surrogate) for layer in graph.layers)
        self.engine = engine or self._quickest()
        self.fused = FusedNetwork(self._fused_layers(), Buffers())
        for block in self.blocks:
            block.scanned = self.engine == "torch"  # type: ignore[assignment]

    def _quickest(self) -> Engine:
        takes = FusedNetwork.takes(tuple(layer.shape for layer in self._fused_layers()))
        return "native" if takes and native.available() else "numba"

    def _fused_layers(self) -> tuple[FusedLayer, ...]:
        return tuple(
            FusedLayer(_layer_shape(layer), _constants(block))
            for layer, block in zip(self.graph.layers, self.blocks, strict=True)
        )

    def forward(self, spikes_tnhwc: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Read-out voltage (N, classes) on SLAYER's scale, and the hidden layers' spike counts.

        spikes_tnhwc: uint8 or float32, 0 and 1; float32 where a gradient shall flow to them,
        which the compiled kernels do not offer. Counts are (N, H, W, C).
        """
        voltage, counts, _ = self.run(spikes_tnhwc)
        return voltage, counts

    def run(
        self, spikes_tnhwc: torch.Tensor, keep_spikes: bool = False
    ) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
        """As `forward`, with the hidden layers' spikes (T, N, H, W, C) where they are kept."""
        if self.engine == "native" and not (spikes_tnhwc.is_cuda or spikes_tnhwc.requires_grad):
            parameters = [
                tensor
                for block in self.blocks
                for tensor in (block.folded_weight(), block.bias_per_neuron())
            ]
            voltage, *hidden = self.fused.run(spikes_tnhwc, parameters, keep_spikes)
            layers = len(self.blocks) - 1
            return voltage, hidden[:layers], hidden[layers:]
        spikes, counts, kept = spikes_tnhwc.float(), [], []
        for block in self.blocks[:-1]:
            spikes, count = block.folded(spikes)
            counts.append(count)
            kept += [spikes] if keep_spikes else []
        return self.blocks[-1].folded(spikes)[0], counts, kept

    def bytes_per_sample(self) -> int:
        """Memory that a sample takes in a training step, beside weights and their gradients."""
        neurons = sum(math.prod(layer.shape) for layer in self.graph.layers)
        on_gpu = next(self.parameters()).is_cuda
        return _BYTES["gpu" if on_gpu else self.engine] * self.graph.timesteps * neurons

    def samples_within(self, memory_bytes: int) -> int:
        """Samples that run at once within so much memory where nothing is learnt; 1 at least.

        Their spikes alone are kept then, an eighth at most of what a training step keeps.
        """
        return max(1, 8 * memory_bytes // self.bytes_per_sample())

    def stock_forward(self, spikes_nchwt: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The same by lava-dl's own code alone; hidden spikes as (N, C, H, W, T) or (N, C, T)."""
        hidden: list[torch.Tensor] = []
        spikes = spikes_nchwt
        for block in self.blocks:
            if isinstance(block, FoldedDense) and spikes.dim() == 5:
                spikes = spikes.flatten(1, 3)
            if block.readout:
                _, voltage = block.neuron.dynamics(block.synapse(spikes))
                return voltage[..., -1], hidden
            spikes = block(spikes)
            hidden.append(spikes)
        raise ValueError("the network has no read-out layer")

    def to_graph(self) -> SnnGraph:
        """The trained network: weights and biases float, in mantissas, not yet rounded."""
        layers = tuple(
            _trained_layer(layer, block)
            for layer, block in zip(self.graph.layers, self.blocks, strict=True)
        )
        return self.graph.with_layers(layers)


def _constants(block: Any) -> NeuronConstants:
    constants = constants_of(block.neuron)
    return replace(constants, threshold=_NEVER) if block.readout else constants


def _layer_shape(layer: SnnLayer) -> LayerShape:
    if layer.kind == "conv":
        kernel = (layer.weight.shape[2], layer.weight.shape[3])
        return LayerShape(layer.input_shape, layer.shape, kernel, layer.geometry, False)
    return LayerShape(layer.input_shape, layer.shape, layer.input_shape[1:], ConvGeometry(), True)


def _block(layer: SnnLayer, surrogate: Surrogate) -> Any:
    if layer.reset != "zero":
        raise ValueError(f"{layer.name}: SLAYER's neuron has no reset `{layer.reset}`")
    threshold = (READOUT_V_TH_MANT if layer.readout else layer.threshold) / WEIGHT_SCALE
    neuron = {
        "threshold": threshold,
        "current_decay": layer.i_decay / DECAY_ONE,
        "voltage_decay": layer.v_decay / DECAY_ONE,
        "scale": WEIGHT_SCALE,
        "norm": lambda: _bias_module(layer),
        **gradient_parameters(surrogate),
    }
    block = _conv(layer, neuron) if layer.kind == "conv" else _dense(layer, neuron)
    block.neuron.linear_surrogate = surrogate.linear
    with torch.no_grad():
        weight = torch.tensor(layer.weight / WEIGHT_SCALE, dtype=torch.float32)
        block.synapse.weight.copy_(weight.reshape(block.synapse.weight.shape))
    block.chip_shape = layer.shape
    block.readout = layer.readout
    block.geometry = layer.geometry if layer.kind == "conv" else None
    return block


def gradient_parameters(surrogate: Surrogate) -> dict[str, float]:
    """tau_grad and scale_grad that give SLAYER's exponential the wished width and height.

    SLAYER: tau_rho = 100 tau_grad threshold, scale_rho = 0.1 scale_grad, height =
    scale_rho / (2 tau_rho) (lava-dl slayer/neuron/cuba.py:20-21, spike/spike.py:16-18).
    """
    tau_grad = surrogate.width / 100
    return {"tau_grad": tau_grad, "scale_grad": 20 * surrogate.height * surrogate.width}


def _bias_module(layer: SnnLayer) -> NeuronBias:
    bias = np.zeros(layer.shape[0]) if layer.bias is None else layer.bias
    raw = torch.tensor(np.asarray(bias) / WEIGHT_SCALE, dtype=torch.float32)
    return NeuronBias(raw, WEIGHT_SCALE)


def _conv(layer: SnnLayer, neuron: dict[str, Any]) -> FoldedConv:
    geometry = layer.geometry
    return FoldedConv(
        neuron,
        layer.input_shape[0],
        layer.shape[0],
        layer.weight.shape[2:],
        stride=geometry.stride,
        padding=tuple(before for before, _ in geometry.padding),
        dilation=geometry.dilation,
        groups=geometry.groups,
        delay_shift=False,
    )


def _dense(layer: SnnLayer, neuron: dict[str, Any]) -> FoldedDense:
    return FoldedDense(neuron, layer.weight.shape[1], layer.weight.shape[0], delay_shift=False)


def _trained_layer(layer: SnnLayer, block: Any) -> SnnLayer:
    weight: Array = block.synapse.weight.detach().double().cpu().numpy() * WEIGHT_SCALE
    bias: Array = block.neuron.norm.raw.detach().double().cpu().numpy() * WEIGHT_SCALE
    return replace(
        layer,
        weight=frozen(weight.reshape(layer.weight.shape), np.float64),
        bias=frozen(bias, np.float64),
    )
