"""A simulation shared out to several processes: the same result as in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from compiler.distributed import World
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from sim.reference import simulate
from sim.results import LayerCounts, SimulationResult


def simulate_share(
    world: World, graph: ChipGraph, images_nchw: Array, **settings: Any
) -> SimulationResult | None:
    """Run this process's part of the images; the whole result in the main process, else None.

    settings: those of sim.reference.simulate. Every sample starts from rest and has the same
    number in its input code as in one process, so that no count depends on the parts.
    """
    part = world.share(len(images_nchw))
    mine = None
    if part.stop > part.start:
        mine = simulate(graph, images_nchw[part], first_index=part.start, **settings)
    found = [result for result in world.gather(mine) if result is not None]
    return merge(found) if found else None


def merge(parts: Sequence[SimulationResult]) -> SimulationResult:
    """One result of those of consecutive samples; `seconds` is that of the slowest."""
    first = parts[0]
    return dataclasses.replace(
        first,
        logits_nk=np.concatenate([part.logits_nk for part in parts]),
        predictions_n=np.concatenate([part.predictions_n for part in parts]),
        input_chw=np.sum([part.input_chw for part in parts], axis=0),
        input_n=np.concatenate([part.input_n for part in parts]),
        input_nt=np.concatenate([part.input_nt for part in parts]),
        layers=tuple(
            _merge_layer(layers) for layers in zip(*(p.layers for p in parts), strict=True)
        ),
        readout_spikes=sum(part.readout_spikes for part in parts),
        seconds=max(part.seconds for part in parts),
    )


def _merge_layer(parts: Sequence[LayerCounts]) -> LayerCounts:
    return dataclasses.replace(
        parts[0],
        spikes_chw=np.sum([part.spikes_chw for part in parts], axis=0),
        spikes_n=np.concatenate([part.spikes_n for part in parts]),
        saturations=sum(part.saturations for part in parts),
        spikes_nt=np.concatenate([part.spikes_nt for part in parts]),
        events_nt=np.concatenate([part.events_nt for part in parts], axis=1),
    )
