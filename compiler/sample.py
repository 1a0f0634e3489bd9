"""One image on its way through the chip: which neurons spike at which step."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.ir.synthetic import SyntheticSet
from sim.reference import trace
from sim.traces import LayerTrace, NetworkTrace

MOST_NEURONS = 64
"""Neurons of a layer that are shown; of a larger layer so many, evenly spread."""


def sample_run(chip: ChipGraph, synthetic: SyntheticSet) -> dict[str, Any]:
    """The report's `sample`: the first held-out synthetic image in the integer simulator.

    The input's spikes are not in it, since a rate code's spikes are the image itself.
    """
    run = trace_sample(chip, synthetic)
    return {
        "ann_answer": int(synthetic.logits_nk[synthetic.validation][0].argmax()),
        "answer": int(run.voltage_nk[0].argmax()),
        "timesteps": run.timesteps,
        "layers": [layer_rows(layer) for layer in run.layers],
    }


def trace_sample(chip: ChipGraph, synthetic: SyntheticSet) -> NetworkTrace:
    """Every spike of that image, the input's too."""
    return trace(chip, synthetic.pixels(synthetic.validation)[:1])


def layer_rows(layer: LayerTrace) -> dict[str, Any]:
    """Spikes of a layer's neurons in C, H, W order over the steps of the first sample.

    rows: one string a shown neuron, a character a step, `1` for a spike and `0` for none.
    """
    spikes_tn = layer.spikes_tnchw[:, 0].reshape(len(layer.spikes_tnchw), -1)
    neurons = spikes_tn.shape[1]
    shown = _spread(neurons)
    return {
        "layer": layer.name,
        "neurons": neurons,
        "spikes": int(spikes_tn.sum()),
        "rows": ["".join("01"[spike] for spike in spikes_tn[:, neuron]) for neuron in shown],
    }


def _spread(neurons: int) -> Array:
    if neurons <= MOST_NEURONS:
        return np.arange(neurons)
    return np.linspace(0, neurons - 1, MOST_NEURONS).round().astype(np.int64)
