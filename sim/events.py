"""Counts a sample and step from recorded spikes, as the reference simulator makes them itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.geometry import Array
from sim.reference import FanOuts
from sim.results import SimulationResult
from sim.synops import synaptic_operations
from sim.traces import NetworkTrace


def by_step(spikes_tnchw: Array) -> Array:
    """Spikes of a layer per sample and step, int32 (n, T)."""
    counts: Array = spikes_tnchw.sum((2, 3, 4), dtype=np.int32).T
    return counts


def with_events(
    result: SimulationResult, trace: NetworkTrace, fan_outs: FanOuts
) -> SimulationResult:
    """`result` with `events_nt` counted from the spikes that arrived at every layer.

    fan_outs: as for sim.reference.simulate; without any, `result` is returned as it is.
    """
    if not fan_outs:
        return result
    arriving = [trace.input, *trace.layers]
    layers = tuple(
        replace(counts, events_nt=np.stack([_events(before.spikes_tnchw, fan) for fan in fans]))
        for counts, before, fans in zip(result.layers, arriving, fan_outs, strict=False)
    )
    return replace(result, layers=layers)


def _events(spikes_tnchw: Array, fan_chw: Array) -> Array:
    """Operations per sample and step, int64 (n, T)."""
    return np.stack([synaptic_operations(fan_chw, spikes) for spikes in spikes_tnchw], axis=1)
