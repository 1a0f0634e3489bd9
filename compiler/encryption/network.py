"""An SnnGraph as a stack of SLAYER blocks, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from compiler.chip.fields import READOUT_V_TH_MANT
from compiler.encryption.blocks import FoldedConv, FoldedDense, NeuronBias
from compiler.ir.geometry import Array, frozen
from compiler.ir.snn import SnnGraph, SnnLayer

WEIGHT_SCALE = 64
"""SLAYER's scale: a weight of 1.0 is the mantissa 64. A power of two, so export is exact."""

DECAY_ONE = 4096


@dataclass(frozen=True)
class Surrogate:
    """SLAYER's spike derivative: height * exp(-|v - threshold| / width) a layer.

    `width` is in thresholds; `height` is in 1 / threshold. For a rate code over T steps a
    height near 2 / T makes the summed derivative match the slope of the firing rate.
    """

    width: float = 1.0
    height: float = 0.0625


class SlayerNetwork(torch.nn.Module):  # type: ignore[misc]
    """Trainable SLAYER blocks of an SnnGraph, delay_shift off, quantization in the loop."""

    def __init__(self, graph: SnnGraph, surrogate: Surrogate) -> None:
        super().__init__()
        self.graph = graph
        self.blocks = torch.nn.ModuleList(_block(layer, surrogate) for layer in graph.layers)

    def forward(self, spikes_tnhwc: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Read-out voltage (N, classes) on SLAYER's scale, and the hidden layers' spike counts.

        Counts are (N, H, W, C).
        """
        hidden: list[torch.Tensor] = []
        spikes = spikes_tnhwc
        for block in self.blocks[:-1]:
            spikes, counts = block.folded(spikes)
            hidden.append(counts)
        return self.blocks[-1].folded(spikes)[0], hidden

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


def _block(layer: SnnLayer, surrogate: Surrogate) -> Any:
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
    weight: Array = block.synapse.weight.detach().double().numpy() * WEIGHT_SCALE
    bias: Array = block.neuron.norm.raw.detach().double().numpy() * WEIGHT_SCALE
    return replace(
        layer,
        weight=frozen(weight.reshape(layer.weight.shape), np.float64),
        bias=frozen(bias, np.float64),
    )
