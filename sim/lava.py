"""The same file on Lava's fixed-point CPU backend, spike by spike.

Lava runs in a child process under a time limit: where something is wrong it hangs more
often than it fails. Stock lava-dl loads the file; samples follow each other without a gap,
every layer being reset as a sample reaches it (reset_interval = T).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.errors import EnvironmentProblem, Problem
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import products
from compiler.ir.snn import Encoding
from netx_export import deployment_of, read_netx, write_netx
from sim.child import end_group, start_child, wait_for
from sim.encoding import Drive, drive_from_images
from sim.events import with_events
from sim.lava_task import CPU, Place, Task, collect, prepare
from sim.reference import FanOuts, check_drive
from sim.results import SimulationResult
from sim.traces import NetworkTrace

START_SECONDS, SECONDS_PER_SAMPLE = 120.0, 60.0
"""Time that Lava may take unless told otherwise: to start, and for every sample."""

PRODUCTS_PER_SECOND = 2e6
"""Products of weights and inputs, spikes or not, for whose time it may take longer: a tenth of
what it does on one core (the preset cifar10: 1e9 a sample in 32 steps, in 40 to 50 seconds)."""

Progress = Callable[[int, int], None]

_LOG_TAIL = 1500


@dataclass(frozen=True)
class LavaJob:
    """One network and what enters it.

    network: a NetX file, or a graph, which is written to a temporary one; states: record u and
    v of every layer too, on the CPU alone; entries: as `layers` of netx_export.read_netx; place:
    where it runs.
    """

    network: str | os.PathLike[str] | ChipGraph
    drive: Drive
    states: bool = False
    entries: int | None = None
    place: Place = CPU


@dataclass(frozen=True)
class LavaRun:
    """A run in Lava: every spike that was recorded, the same counted, and what was measured.

    profile: what the chip's profilers said, start by start, as sim._lava_edges.PROFILES names
    it; empty on the CPU.
    """

    trace: NetworkTrace
    result: SimulationResult
    profile: tuple[dict[str, Any], ...] = ()


def simulate_lava(
    network: str | os.PathLike[str] | ChipGraph,
    images_nchw: npt.ArrayLike | Drive,
    *,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
    states: bool = False,
    entries: int | None = None,
    time_limit: float | None = None,
    fan_outs: FanOuts = (),
    progress: Progress | None = None,
) -> LavaRun:
    """Run images through a NetX file in Lava.

    images_nchw: float in [0, 1], or a Drive; `timesteps` and `encoding` for a file without a
    deployment group; `time_limit` in seconds, start-up included, None for `time_limit_for`;
    `fan_outs` as for sim.reference.simulate; `progress` is called with the time-steps that
    every layer has done and their total.
    Raises EnvironmentProblem if Lava crashes (naming the layer) or does not end in time, and
    what netx_export.read_netx and sim.encoding raise.
    """
    if isinstance(images_nchw, Drive):
        drive = images_nchw
    else:
        graph = _graph_of(network, entries)
        drive = drive_from_images(graph, images_nchw, timesteps, encoding)
    run = run_lava([LavaJob(network, drive, states, entries)], time_limit, progress)[0]
    return replace(run, result=with_events(run.result, run.trace, fan_outs))


def run_lava(
    jobs: Sequence[LavaJob], time_limit: float | None = None, progress: Progress | None = None
) -> tuple[LavaRun, ...]:
    """Do several runs in one child process, which saves Lava's start-up (seconds).

    `time_limit` is for all together, None for `time_limit_for`. Errors and `progress` as for
    simulate_lava.
    """
    with tempfile.TemporaryDirectory(prefix=f"lava-child-of-{os.getpid()}-") as folder:
        root = Path(folder)
        groups = [_tasks(root / str(index), job) for index, job in enumerate(jobs)]
        tasks = [task for group in groups for task in group]
        (root / "jobs.json").write_text(json.dumps([prepare(task) for task in tasks]))
        _run_child(root, tasks, time_limit or time_limit_for(tasks), progress)
        return tuple(_run_of(group) for group in groups)


def time_limit_for(tasks: Sequence[Task]) -> float:
    """Seconds after which Lava is stopped unless told otherwise."""
    samples = sum(task.drive.samples for task in tasks)
    work = sum(_products(task.graph) * task.drive.timesteps * task.drive.samples
               for task in tasks)  # fmt: skip
    return START_SECONDS + SECONDS_PER_SAMPLE * samples + work / PRODUCTS_PER_SECOND


def usual_seconds(graph: ChipGraph, samples: int) -> float:
    """Seconds that so many samples take on one core, starting aside, for a file with its T."""
    usual = 10 * PRODUCTS_PER_SECOND
    return _products(graph) * (graph.timesteps or 1) * samples / usual


def _products(graph: ChipGraph) -> int:
    """Products of a time-step where every input is multiplied."""
    return sum(products(layer.weight, layer.shape) for layer in graph.layers)


def _graph_of(network: str | os.PathLike[str] | ChipGraph, entries: int | None = None) -> ChipGraph:
    if isinstance(network, ChipGraph):
        return network
    return read_netx(network, lenient=True, layers=entries).graph


def _tasks(folder: Path, job: LavaJob) -> list[Task]:
    """The starts that a job needs: one, or one a sample where synapses hold spikes back.

    Lava resets neurons between samples, but not the spikes that are under way in a delay.
    """
    folder.mkdir()
    graph = _graph_of(job.network, job.entries)
    check_drive(graph, job.drive)
    if isinstance(job.network, ChipGraph):
        path = folder / "network.net"
        steps, code = job.drive.timesteps, graph.encoding or Encoding()
        written = replace(graph, timesteps=steps, encoding=code)
        write_netx(written, path, deployment_of(written), lenient=True)
    else:
        path = Path(job.network).resolve()
    delayed = any(layer.delay is not None for layer in graph.layers)
    drives = list(_one_by_one(job.drive)) if delayed else [job.drive]
    return [
        Task(path, graph, drive, folder / str(index), job.states, job.entries, job.place)
        for index, drive in enumerate(drives)
    ]


def _one_by_one(drive: Drive) -> Iterator[Drive]:
    for sample in range(drive.samples):
        spikes, bias = drive.spikes_tnchw, drive.bias_nchw
        yield Drive(
            drive.timesteps,
            None if spikes is None else spikes[:, sample : sample + 1],
            None if bias is None else bias[sample : sample + 1],
        )


def _run_child(
    root: Path, tasks: Sequence[Task], time_limit: float, progress: Progress | None
) -> None:
    environment = dict(os.environ, OMP_NUM_THREADS="1", MPLBACKEND="Agg")
    own = str(Path(__file__).resolve().parent.parent)
    given = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = own if not given else os.pathsep.join((own, given))
    command = [sys.executable, "-m", "sim._lava_child", str(root), str(os.getpid())]
    tell = None if progress is None else lambda: progress(*_steps_done(root, tasks))
    with (root / "log").open("wb") as log:
        child = start_child(command, environment, log)
        try:
            status = wait_for(child, time_limit, tell)
        except subprocess.TimeoutExpired:
            raise _timeout(root, tasks, time_limit) from None
        finally:
            end_group(child)
    if status != 0 or (root / "current").read_text() != "done":
        raise _crash(root, tasks, status)


def _steps_done(root: Path, tasks: Sequence[Task]) -> tuple[int, int]:
    """Time-steps that every layer has done, and those to do."""
    steps = [task.drive.timesteps * task.drive.samples for task in tasks]
    at = _current_index(root)
    if at is None:
        return 0, sum(steps)
    try:
        reached = int(np.load(tasks[at].out / "progress.npy").min(initial=steps[at]))
    except (OSError, ValueError, EOFError):  # the child is about to write it
        reached = 0
    return sum(steps[:at]) + reached, sum(steps)


def _timeout(root: Path, tasks: Sequence[Task], limit: float) -> EnvironmentProblem:
    """An error that says how far each layer came."""
    where, found = "Lava", "no network built yet"
    task = _current(root, tasks)
    if task is not None and (task.out / "progress.npy").is_file():
        reached = np.load(task.out / "progress.npy").tolist()
        slowest = int(np.argmin(reached))
        where = task.names[task.recorded[slowest]]
        steps = task.drive.timesteps * task.drive.samples
        found = f"{reached[slowest]} of {steps} time-steps and more done by layer {where}"
    problem = Problem(
        where,
        f"{found} after {limit:g} s",
        "an end within the time limit",
        "run fewer samples in Lava, or allow it more time",
    )
    return EnvironmentProblem("Lava did not finish in time and was stopped", [problem])


def _current(root: Path, tasks: Sequence[Task]) -> Task | None:
    index = _current_index(root)
    return None if index is None else tasks[index]


def _current_index(root: Path) -> int | None:
    marker = root / "current"
    text = marker.read_text() if marker.is_file() else ""
    return int(text) if text.isdigit() else None


def _crash(root: Path, tasks: Sequence[Task], status: int) -> EnvironmentProblem:
    """An error that names the layer whose process died, or what Lava said last."""
    task = _current(root, tasks)
    where = "Lava" if task is None else task.path.name
    trouble = (root / "log").read_text(errors="replace")[-_LOG_TAIL:]
    if task is not None and (task.out / "failure.json").is_file():
        report = json.loads((task.out / "failure.json").read_text())
        trouble = report["trouble"]
        where = report["layer"]
        if where.isdigit():
            where = task.names[int(where)]
    last = [line for line in trouble.strip().splitlines() if line.strip()][-1:]
    problem = Problem(
        where,
        f"Lava stopped with status {status}: {last[0] if last else 'no message'}",
        "a network that Lava can run",
        "check the file with netx_export.read_netx; the reference simulator does not need Lava",
    )
    return EnvironmentProblem("Lava failed", [problem])


def _run_of(group: Sequence[Task]) -> LavaRun:
    profiles = [json.loads((task.out / "profile.json").read_text()) for task in group]
    return LavaRun(*collect(group), tuple(profile for profile in profiles if profile))
