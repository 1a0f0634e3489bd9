"""The same file on a Loihi 2, where Intel's extension of Lava is installed.

Network, feeder, recorders and windows are those of the CPU backend (sim.lava); the ports of
sim._lava_edges.ChipEdge are what differs. This has never been run on silicon: see
docs/hardware.md.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from compiler.errors import EnvironmentProblem, UsageError, one_problem
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from sim.calibration import Calibration, calibrate
from sim.encoding import Drive
from sim.lava import LavaJob, LavaRun, run_lava
from sim.lava_task import Place
from sim.results import SimulationResult

EXTENSION_MODULE = "lava.utils.loihi2_profiler"
"""What lava.utils.loihi.is_installed looks for (lava-nc 0.10.0, lava/utils/loihi.py:108-120)."""

REQUIRED = {
    EXTENSION_MODULE: "which measures power, time, memory and activity",
    "lava.proc.embedded_io.spike": "which takes spikes to the chip and back",
    "lava.proc.embedded_io.state": "which reads voltages",
    "lava.magma.compiler.subcompilers.nc.ncproc_compiler": "which compiles for neuro-cores",
    "nxcore": "which drives the board",
}
"""Modules of Intel's extension that are used, and what for."""

HOW_TO_GET_IT = (
    "it is for members of the Intel Neuromorphic Research Community (INRC) alone: join through "
    "http://neuromorphic.intel.com or inrc_interest@intel.com; members find the package and its "
    "installation under 'Get started with the Lava extension for Loihi' on the INRC's pages, and "
    "run on the INRC's cloud or on a board lent to them"
)

POWER_STEPS = 10_000
"""Steps that a run needs for a power reading (lava-dl, pilotnet_snn/benchmark.ipynb)."""

CHIP = Place("loihi2", whole=False)


def extension_installed() -> bool:
    """Whether Intel's Lava extension for Loihi (lava-loihi) can be imported."""
    return not _absent(EXTENSION_MODULE)


def missing() -> tuple[str, ...]:
    """Names of REQUIRED that cannot be imported from here."""
    return tuple(name for name in REQUIRED if _absent(name))


def _absent(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


def require_extension() -> None:
    """EnvironmentProblem that names every module that is missing, and how to get them."""
    absent = missing()
    if not absent:
        return
    raise one_problem(
        EnvironmentProblem,
        "there is no way to a Loihi 2 from here",
        "--backend loihi2",
        "no module " + "; no module ".join(f"{name}, {REQUIRED[name]}" for name in absent),
        "Intel's Lava extension for Loihi (lava-loihi, with nxcore) in the release that fits "
        "lava-nc 0.10.0, and a Loihi 2 system",
        f"{HOW_TO_GET_IT}. --backend reference and --backend lava run the same file on this CPU",
    )


@dataclass(frozen=True)
class PlacedRun:
    """A run somewhere, and what was needed to read it."""

    calibration: Calibration
    run: LavaRun


def run_at(
    place: Place,
    network: str | os.PathLike[str] | ChipGraph,
    graph: ChipGraph,
    drive: Drive,
    time_limit: float | None = None,
) -> PlacedRun:
    """Calibrate a place with the one-spike probe, then run a network there.

    network: a file or a graph, which `graph` is; drive: its input spikes; time_limit: seconds
    for each of the two runs. Only the last layer is recorded where `place` says so.
    Raises UsageError for a network with input neurons, and what sim.calibration.calibrate and
    sim.lava.run_lava raise.
    """
    if graph.input_neurons is not None:
        raise one_problem(
            UsageError, "this network cannot be fed on a chip", graph.name,
            "input neurons, whose bias changes from sample to sample",
            "a network that takes spikes", "use --backend reference or lava",
        )  # fmt: skip
    found = calibrate(graph, place, time_limit)
    job = LavaJob(network, drive, place=replace(place, latency=found.latency))
    return PlacedRun(found, run_lava([job], time_limit)[0])


def chip_result(placed: PlacedRun, reference: SimulationResult) -> SimulationResult:
    """The chip's answers with the hidden layers' counts of the reference simulator.

    The chip's own spikes are read of the last layer alone.
    """
    own = placed.run.result
    return replace(
        reference,
        backend=own.backend,
        logits_nk=own.logits_nk,
        predictions_n=own.predictions_n,
        readout_spikes=own.readout_spikes,
        seconds=own.seconds,
        engine="",
    )


def describe(placed: PlacedRun, reference: SimulationResult) -> dict[str, Any]:
    """What `sim.run --json` says of a chip: latencies, agreement, measurements, raw profiles."""
    own = placed.run.result
    same = np.all(own.logits_nk == reference.logits_nk, axis=1)
    profiles = placed.run.profile
    return {
        "latency": asdict(placed.calibration.latency),
        "agreement": {
            "samples": len(same),
            "same_logits": int(np.count_nonzero(same)),
            "same_predictions": int(np.sum(own.predictions_n == reference.predictions_n)),
            "first_difference": None if same.all() else int(np.argmin(same)),
        },
        "measured": measured(profiles[0], own.timesteps) if profiles else None,
        "profiles": list(profiles),
    }


def measured(profile: Mapping[str, Any], timesteps: int) -> dict[str, float | None]:
    """Time and energy a sample from one run's profile (sim._lava_edges.PROFILES).

    Power is the whole board's, host input and output included; `dynamic` is what it takes
    above the static power that the profiler measured. None where a reading is missing.
    """
    power, time = profile.get("power", {}), profile.get("time", {})
    total, static = _mean(power.get("total_power")), _mean(power.get("static_total_power"))
    step = _mean(time.get("avg_time_per_step"))
    sample = None if step is None else 1e-6 * step * timesteps
    activity = profile.get("activity", {})
    return {
        "seconds_per_step": None if step is None else 1e-6 * step,
        "seconds_per_sample": sample,
        "total_watts": total,
        "static_watts": static,
        "joules_per_sample": _product(total, sample),
        "dynamic_joules_per_sample": _product(
            None if total is None or static is None else total - static, sample
        ),
        "cores": _count(profile.get("memory", {}).get("core_idx")),
        "synops": _sum(activity.get("syn_ops")),
        "neuron_updates": _sum(activity.get("dendrite_updates")),
    }


def notes(placed: PlacedRun, steps: int) -> list[str]:
    """What a reader of the figures has to know; `steps`: time-steps of the whole run."""
    found = [
        "spikes and operations of the hidden layers are the reference simulator's; of the chip "
        "the last layer alone is read"
    ]
    if steps < POWER_STEPS:
        found.append(
            f"power was read over {steps} time-steps; it is reliable from {POWER_STEPS} on: give "
            "more --samples"
        )
    absent = [
        f"{kind}.{name}"
        for profile in placed.run.profile
        for kind, values in profile.items()
        for name, value in values.items()
        if value is None
    ]
    if absent:
        found.append(f"this release of the extension does not tell {', '.join(absent)}")
    return found


def _array(values: Any) -> Array | None:
    array = None if values is None else np.asarray(values, np.float64)
    return array if array is not None and array.size else None


def _mean(values: Any) -> float | None:
    array = _array(values)
    return None if array is None else float(array.mean())


def _sum(values: Any) -> float | None:
    array = _array(values)
    return None if array is None else float(array.sum())


def _count(values: Any) -> float | None:
    array = _array(values)
    return None if array is None else float(np.unique(array).size)


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other
