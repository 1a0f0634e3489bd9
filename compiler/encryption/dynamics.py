"""Leak and slow currents for a network that was converted for neurons without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.chip.fields import DECAY_ONE, HIDDEN_V_TH_MANT
from compiler.chip.fixed_point import quantize_threshold
from compiler.ir.geometry import frozen
from compiler.ir.snn import SnnGraph, SnnLayer

_TYPICAL_STEPS = 4
"""Steps between two spikes at which the leak is made up for; faster and slower rates change."""


def with_decays(graph: SnnGraph, current_decay: int, voltage_decay: int) -> SnnGraph:
    """Hidden neurons with the decays (of 4096) and thresholds that roughly keep their rates.

    A current that decays by d of 4096 delivers 4096 / d times a spike's weight, and a voltage
    that keeps the share k a step reaches (1 - k^n) / (n (1 - k)) of what n steps brought. The
    threshold is multiplied by both. The read-out keeps its sum over all steps.
    """
    if (current_decay, voltage_decay) == (DECAY_ONE, 0):
        return graph
    gain = DECAY_ONE / current_decay
    kept = 1 - voltage_decay / DECAY_ONE
    gain *= float(np.mean(kept ** np.arange(_TYPICAL_STEPS)))
    return graph.with_layers(
        tuple(
            layer if layer.readout else _slowed(layer, gain, current_decay, voltage_decay)
            for layer in graph.layers
        )
    )


def _slowed(layer: SnnLayer, gain: float, current_decay: int, voltage_decay: int) -> SnnLayer:
    threshold = layer.threshold * gain
    # the bias enters v directly, so that it is not delivered several times as a spike is
    bias = None if layer.bias is None else layer.bias * (DECAY_ONE / current_decay)
    smaller = min(1.0, HIDDEN_V_TH_MANT.high / threshold)
    return replace(
        layer,
        weight=frozen(layer.weight * smaller, np.float64),
        bias=None if bias is None else frozen(bias * smaller, np.float64),
        threshold=float(quantize_threshold(threshold * smaller)),
        i_decay=current_decay,
        v_decay=voltage_decay,
    )
