"""Seconds an inference on Loihi 1, from counted work and published times.

Loihi's cores take a step together: a step lasts as long as its slowest core, and ends with a
barrier across the tiles in use. The models are those of sim.published that have times. There is
none of Loihi 2: no time an operation has been published for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.ir.geometry import Array
from compiler.resources import CoreLoads, ResourceReport
from compiler.resources.traffic import CORES_PER_TILE
from sim.published import TIME, PublishedModel, load_models

_TILES_OF_A_CHIP = 32

PARTS = ("synaptic_operations", "neuron_updates", "spikes", "messages", "routes", "barrier")
"""What the slowest core of a step spends its time on; their sum is the latency."""


@dataclass(frozen=True)
class _Work:
    """Seconds of some samples. seconds_n, least_n: (samples,); parts: (PARTS, samples);
    slowest: how often each layer held the slowest core of a step, in the order of the network."""

    seconds_n: Array
    least_n: Array
    parts: Array
    slowest: Array


def latency_rows(
    report: ResourceReport,
    loads: Iterable[CoreLoads],
    energy: Sequence[Mapping[str, Any]] = (),
    models: Sequence[PublishedModel] | None = None,
) -> list[dict[str, Any]]:
    """The entries of a report's `latency`, one a model that has times.

    report: the core map of Loihi 1; loads: what its cores did, in as many parts as one likes;
    energy: rows of sim.energy.energy_rows, for the energy-delay product.
    `seconds` takes a core's operations one after another; in `seconds_least` its neurons and
    its synapses work at the same time and no neuron is active.
    """
    timed = [m for m in (load_models() if models is None else models) if m.has(TIME)]
    known = [model for model in timed if not model.absent]
    work: dict[str, list[_Work]] = {model.name: [] for model in known}
    for part in loads:
        for model in known:
            work[model.name].append(_work(model, report, part))
    return [_row(model, report, work.get(model.name, []), energy) for model in timed]


def barrier_seconds(model: PublishedModel, tiles: int) -> float:
    """The barrier at the end of a step, across so many tiles of one chip."""
    lines = sorted((line for line in model.lines.values() if line.tiles), key=lambda one: one.tiles)
    if not lines:
        return 0.0
    known, seconds = [line.tiles for line in lines], [line.in_si for line in lines]
    if model.barrier == "linear":
        return float(np.interp(tiles, known, seconds))
    return seconds[max(int(np.searchsorted(known, tiles, side="right")) - 1, 0)]


def _work(model: PublishedModel, report: ResourceReport, loads: CoreLoads) -> _Work:
    kinds = {layer.name: layer.kind for layer in report.network.layers}
    synapse = [
        model.seconds(f"time_synaptic_operation_{kinds[use.layer]}") for use in report.core_map
    ]
    access, update = model.seconds("time_neuron_access"), model.seconds("time_neuron_update")
    synapses = loads.synops * np.array(synapse)[:, None, None]
    leaving = loads.messages_out * model.seconds("time_message_out")
    reaching = loads.messages_in * model.seconds("time_message_in")
    neurons = loads.neurons[:, None, None] * (access + update)
    spikes = loads.spikes * model.seconds("time_spike_out")
    whole = np.broadcast_to(neurons, synapses.shape)
    kept = np.stack([synapses, whole, spikes, leaving + reaching])
    slowest: Array = kept.sum(0).argmax(0)
    core = np.take_along_axis(kept, slowest[None, None], 1)[:, 0]
    barrier = np.full(slowest.shape, barrier_seconds(model, _tiles(report)))
    parts = np.concatenate([core, [_routes(model, loads)], [barrier]])
    idle = loads.neurons[:, None, None] * (access + _least_update(model))
    side = np.maximum((idle + spikes + leaving).max(0), (synapses + reaching).max(0))
    names = [layer.name for layer in report.network.layers]
    layer_of = np.array([names.index(use.layer) for use in report.core_map])
    return _Work(
        parts.sum((0, 1)),
        (side + barrier).sum(0),
        parts.sum(1),
        np.bincount(layer_of[slowest].reshape(-1), minlength=len(names)),
    )


def _least_update(model: PublishedModel) -> float:
    least = "time_neuron_update_least"
    return model.seconds(least if least in model.lines else "time_neuron_update")


def _routes(model: PublishedModel, loads: CoreLoads) -> Array:
    """Seconds of the longest way that a message takes in each step, (steps, samples)."""
    longest = np.zeros(loads.spikes.shape[1:])
    for (across, down), used in loads.routes.items():
        way = model.seconds("time_route")
        way += across * model.seconds("time_hop_east_west")
        way += down * model.seconds("time_hop_north_south")
        longest = np.maximum(longest, used * way)
    return longest


def _tiles(report: ResourceReport) -> int:
    return min(-(-report.cores // CORES_PER_TILE), _TILES_OF_A_CHIP)


def _row(
    model: PublishedModel,
    report: ResourceReport,
    work: Sequence[_Work],
    energy: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": model.name,
        "title": model.title,
        "source": model.source(TIME),
        "chip": report.chip,
        "time_steps": None,
        "seconds": None,
        "seconds_least": None,
        "seconds_per_step": None,
        "parts": None,
        "slowest_layer": None,
        "samples": 0,
        "lower_bound": report.chips > 1,
        "snn_joules": _joules(model, energy),
        "static_joules": None,
        "energy_delay_product": None,
        "note": model.absent or _note(report),
    }
    return row if not work else row | _measured(model, report, work, row["snn_joules"])


def _measured(
    model: PublishedModel, report: ResourceReport, work: Sequence[_Work], joules: float | None
) -> dict[str, Any]:
    seconds_n = np.concatenate([part.seconds_n for part in work])
    parts = np.concatenate([part.parts for part in work], axis=1).mean(1)
    slowest = np.sum([part.slowest for part in work], axis=0)
    seconds, watts = float(seconds_n.mean()), model.watts("static_power_chip")
    steps = int(slowest.sum()) // len(seconds_n)
    return {
        "time_steps": steps,
        "seconds": seconds,
        "seconds_least": float(np.concatenate([part.least_n for part in work]).mean()),
        "seconds_per_step": seconds / steps,
        "parts": dict(zip(PARTS, parts.tolist(), strict=True)),
        "slowest_layer": report.network.layers[int(slowest.argmax())].name,
        "samples": len(seconds_n),
        "static_joules": None if watts is None else watts * seconds * report.chips,
        "energy_delay_product": None if joules is None else joules * seconds,
    }


def _joules(model: PublishedModel, energy: Sequence[Mapping[str, Any]]) -> float | None:
    """Dynamic energy of the whole network by the same model."""
    for row in energy:
        if row["model"] == model.name and row["includes_input_layer"]:
            joules: float | None = row["snn_joules"]
            return joules
    return None


def _note(report: ResourceReport) -> str:
    said = "the slowest core of every step by our core map; no host, no input onto the chip"
    if report.chips > 1:
        said += f"; {report.chips} chips: links between chips are not published: a lower bound"
    if any(violation.hard for violation in report.violations):
        said += "; hypothetical, since the network breaks a rule of Loihi 1 (see the cores)"
    return said
