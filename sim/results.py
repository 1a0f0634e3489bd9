"""What a simulation returns, whichever backend ran it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.ir.geometry import Array


def _none(*axes: int) -> Array:
    return np.zeros(axes, np.int64)


@dataclass(frozen=True)
class LayerCounts:
    """Activity of one layer over all samples.

    spikes_chw: int64 (C, H, W), spikes of every neuron summed over samples and steps;
    spikes_n: int64 (n,), spikes of the layer per sample; saturations: clips of v;
    spikes_nt: int32 (n, T), spikes of the layer per sample and step; events_nt: int64
    (tables, n, T), for every table of fan-outs that was given for this layer the operations
    that the arriving spikes cause. The last two are empty where a backend tells none.
    """

    name: str
    spikes_chw: Array
    spikes_n: Array
    saturations: int
    spikes_nt: Array = field(default_factory=lambda: _none(0, 0))
    events_nt: Array = field(default_factory=lambda: _none(0, 0, 0))


@dataclass(frozen=True)
class SimulationResult:
    """Predictions and activity of a run of `timesteps` steps a sample.

    logits_nk: int64 read-out per class (voltage of a read-out layer, spike count
    otherwise); predictions_n: the largest logit, the first of equals; input_chw and
    input_n: input spikes per neuron and per sample; readout_spikes: spikes that a
    read-out layer fired, which destroy its voltage and must be 0; input_nt: int32 (n, T),
    input spikes per sample and step; engine: what ran the reference: `c++` or `numba`.
    """

    backend: str
    timesteps: int
    logits_nk: Array
    predictions_n: Array
    input_chw: Array
    input_n: Array
    layers: tuple[LayerCounts, ...]
    readout_spikes: int
    seconds: float
    input_nt: Array = field(default_factory=lambda: _none(0, 0))
    engine: str = ""

    @property
    def samples(self) -> int:
        """Number of samples run."""
        return int(self.predictions_n.shape[0])
