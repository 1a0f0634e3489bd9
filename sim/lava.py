"""The same file on Lava's fixed-point CPU backend, spike by spike.

Lava runs in a child process under a time limit: where something is wrong it hangs more
often than it fails. Stock lava-dl loads the file; samples follow each other without a gap,
every layer being reset as a sample reaches it (reset_interval = T).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from compiler.errors import EnvironmentProblem, Problem
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, Shape
from compiler.ir.snn import Encoding
from netx_export import deployment_of, read_netx, write_netx
from sim.encoding import Drive, drive_from_images
from sim.events import by_step, with_events
from sim.reference import FanOuts, check_drive
from sim.results import LayerCounts, SimulationResult
from sim.traces import INPUT, LayerTrace, NetworkTrace

START_SECONDS, SECONDS_PER_SAMPLE = 120.0, 60.0
"""Time that Lava may take unless told otherwise: to start, and for every sample."""

NOT_OBSERVED = -1
"""Stands for the saturations of a layer, which Lava does not report."""

_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.05
_LOG_TAIL = 1500


@dataclass(frozen=True)
class LavaJob:
    """One network and what enters it.

    network: a NetX file, or a graph, which is written to a temporary one; states: record u and
    v of every layer too; entries: as `layers` of netx_export.read_netx.
    """

    network: str | os.PathLike[str] | ChipGraph
    drive: Drive
    states: bool = False
    entries: int | None = None


@dataclass(frozen=True)
class LavaRun:
    """A run in Lava: every spike, and the same counted."""

    trace: NetworkTrace
    result: SimulationResult


@dataclass(frozen=True)
class _Task:
    """One start of a Lava network."""

    path: Path
    graph: ChipGraph
    drive: Drive
    out: Path
    states: bool
    entries: int | None

    @property
    def biased(self) -> bool:
        """Whether the network has input neurons."""
        return self.graph.input_neurons is not None

    @property
    def lead(self) -> int:
        """Steps by which the first layer lags behind the input."""
        return 0 if self.biased else 1

    @property
    def names(self) -> list[str]:
        """Names of Lava's layers."""
        return [INPUT] * self.biased + [layer.name for layer in self.graph.layers]


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
) -> LavaRun:
    """Run images through a NetX file in Lava.

    images_nchw: float in [0, 1], or a Drive; `timesteps` and `encoding` for a file without a
    deployment group; `time_limit` in seconds, start-up included, None for `time_limit_for`;
    `fan_outs` as for sim.reference.simulate.
    Raises EnvironmentProblem if Lava crashes (naming the layer) or does not end in time, and
    what netx_export.read_netx and sim.encoding raise.
    """
    if isinstance(images_nchw, Drive):
        drive = images_nchw
    else:
        graph = _graph_of(network, entries)
        drive = drive_from_images(graph, images_nchw, timesteps, encoding)
    run = run_lava([LavaJob(network, drive, states, entries)], time_limit)[0]
    return replace(run, result=with_events(run.result, run.trace, fan_outs))


def run_lava(jobs: Sequence[LavaJob], time_limit: float | None = None) -> tuple[LavaRun, ...]:
    """Do several runs in one child process, which saves Lava's start-up (seconds).

    `time_limit` is for all together, None for `time_limit_for`. Errors as for simulate_lava.
    """
    limit = time_limit or time_limit_for(sum(job.drive.samples for job in jobs))
    with tempfile.TemporaryDirectory(prefix=f"lava-child-of-{os.getpid()}-") as folder:
        root = Path(folder)
        groups = [_tasks(root / str(index), job) for index, job in enumerate(jobs)]
        tasks = [task for group in groups for task in group]
        (root / "jobs.json").write_text(json.dumps([_prepare(task) for task in tasks]))
        _run_child(root, tasks, limit)
        return tuple(_collect(group) for group in groups)


def time_limit_for(samples: int) -> float:
    """Seconds after which Lava is stopped unless told otherwise."""
    return START_SECONDS + SECONDS_PER_SAMPLE * samples


def _graph_of(network: str | os.PathLike[str] | ChipGraph, entries: int | None = None) -> ChipGraph:
    if isinstance(network, ChipGraph):
        return network
    return read_netx(network, lenient=True, layers=entries).graph


def _tasks(folder: Path, job: LavaJob) -> list[_Task]:
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
        _Task(path, graph, drive, folder / str(index), job.states, job.entries)
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


def _prepare(task: _Task) -> dict[str, Any]:
    """Write the input file; return what the child has to know."""
    task.out.mkdir()
    path = task.out / "input.npy"
    drive = task.drive
    if drive.spikes_tnchw is not None:
        spikes = np.moveaxis(drive.spikes_tnchw, 1, 0)
        np.save(path, _to_lava(spikes.reshape(-1, *spikes.shape[2:]), task.graph.layers[0].kind))
    elif drive.bias_nchw is not None:
        np.save(path, _to_lava(drive.bias_nchw, "conv"))
    return {
        "net": str(task.path),
        "input": str(path),
        "out": str(task.out),
        "biased": task.biased,
        "entries": task.entries,
        "states": task.states,
        "timesteps": drive.timesteps,
        "samples": drive.samples,
        "lead": task.lead,
    }


def _to_lava(rows_chw: Array, kind: str) -> Array:
    """Rows (.., C, H, W) in the order that Lava's layer takes: (.., W, H, C), or flat C, H, W."""
    if kind == "dense":
        return rows_chw.reshape(len(rows_chw), -1)
    return np.ascontiguousarray(rows_chw.transpose(0, 3, 2, 1))


def _from_lava(rows: Array, shape: Shape) -> Array:
    """Rows of a layer in Lava's order to (.., C, H, W)."""
    return rows.reshape(len(rows), *shape[::-1]).transpose(0, 3, 2, 1)


def _run_child(root: Path, tasks: Sequence[_Task], time_limit: float) -> None:
    environment = dict(os.environ, OMP_NUM_THREADS="1", MPLBACKEND="Agg")
    own = str(Path(__file__).resolve().parent.parent)
    given = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = own if not given else os.pathsep.join((own, given))
    command = [sys.executable, "-m", "sim._lava_child", str(root), str(os.getpid())]
    with (root / "log").open("wb") as log:
        child = _start(command, environment, log)
        try:
            status = child.wait(timeout=time_limit)
        except subprocess.TimeoutExpired:
            raise _timeout(root, tasks, time_limit) from None
        finally:
            _end_group(child)
    if status != 0 or (root / "current").read_text() != "done":
        raise _crash(root, tasks, status)


def _start(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a child at the head of a group of its own, its noise going to a file."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and every process that Lava started.

    Python's resource tracker, which frees Lava's shared memory, ignores SIGTERM and ends by
    itself; so SIGTERM comes first.
    """
    for kind in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            os.killpg(child.pid, kind)
            while time.monotonic() < deadline:
                child.poll()
                os.killpg(child.pid, 0)
                time.sleep(_POLL_SECONDS)
        except ProcessLookupError:
            break
    child.wait()


def _timeout(root: Path, tasks: Sequence[_Task], limit: float) -> EnvironmentProblem:
    """An error that says how far each layer came."""
    where, found = "Lava", "no network built yet"
    task = _current(root, tasks)
    if task is not None and (task.out / "progress.npy").is_file():
        reached = np.load(task.out / "progress.npy").tolist()
        slowest = int(np.argmin(reached))
        where = task.names[slowest]
        steps = task.drive.timesteps * task.drive.samples
        found = f"{reached[slowest]} of {steps} time-steps and more done by layer {where}"
    problem = Problem(
        where,
        f"{found} after {limit:g} s",
        "an end within the time limit",
        "run fewer samples in Lava, or allow it more time",
    )
    return EnvironmentProblem("Lava did not finish in time and was stopped", [problem])


def _current(root: Path, tasks: Sequence[_Task]) -> _Task | None:
    marker = root / "current"
    if not marker.is_file() or not marker.read_text().isdigit():
        return None
    return tasks[int(marker.read_text())]


def _crash(root: Path, tasks: Sequence[_Task], status: int) -> EnvironmentProblem:
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


def _collect(tasks: Sequence[_Task]) -> LavaRun:
    """Recordings of a job's starts as one run."""
    traces = [_trace(task) for task in tasks]
    trace = traces[0] if len(traces) == 1 else _joined(traces)
    seconds = sum(float((task.out / "seconds").read_text()) for task in tasks)
    return LavaRun(trace, _count(tasks[0].graph, trace, seconds))


def _trace(task: _Task) -> NetworkTrace:
    shapes = [task.graph.input_shape] * task.biased + [layer.shape for layer in task.graph.layers]
    layers = [
        _layer_trace(task, index, name, shape)
        for index, (name, shape) in enumerate(zip(task.names, shapes, strict=True))
    ]
    if task.drive.spikes_tnchw is not None:
        layers.insert(0, LayerTrace(INPUT, task.drive.spikes_tnchw))
    steps, samples = task.drive.timesteps, task.drive.samples
    # the recorder also wrote once for every T steps that pass before the first sample ends
    first = (len(shapes) - 2 + task.lead) // steps + 1
    rows = np.load(task.out / "voltage.npy")[first : first + samples]
    voltage = _from_lava(rows, shapes[-1]).reshape(samples, -1).astype(np.int64)
    return NetworkTrace("lava", layers[0], tuple(layers[1:]), voltage)


def _layer_trace(task: _Task, index: int, name: str, shape: Shape) -> LayerTrace:
    def window(kind: str) -> Array:
        rows = np.load(task.out / f"{index}.{kind}.npy", mmap_mode="r")
        start, steps = index + task.lead, task.drive.timesteps
        chosen = rows[start : start + steps * task.drive.samples]
        chw = _from_lava(chosen, shape).reshape(task.drive.samples, steps, *shape)
        return np.ascontiguousarray(np.moveaxis(chw, 0, 1))

    if not task.states:
        return LayerTrace(name, window("spikes"))
    return LayerTrace(name, window("spikes"), window("u"), window("v"))


def _joined(traces: Sequence[NetworkTrace]) -> NetworkTrace:
    """Runs of single samples as one."""

    def layer(parts: Sequence[LayerTrace]) -> LayerTrace:
        def join(arrays: Sequence[Array | None]) -> Array | None:
            present = [array for array in arrays if array is not None]
            return np.concatenate(present, axis=1) if present else None

        spikes = np.concatenate([part.spikes_tnchw for part in parts], axis=1)
        u, v = join([part.u_tnchw for part in parts]), join([part.v_tnchw for part in parts])
        return LayerTrace(parts[0].name, spikes, u, v)

    inputs = layer([trace.input for trace in traces])
    layers = zip(*(trace.layers for trace in traces), strict=True)
    voltage = np.concatenate([trace.voltage_nk for trace in traces])
    return NetworkTrace("lava", inputs, tuple(layer(parts) for parts in layers), voltage)


def _count(graph: ChipGraph, trace: NetworkTrace, seconds: float) -> SimulationResult:
    layers = tuple(
        LayerCounts(
            layer.name, *_sums(layer.spikes_tnchw), NOT_OBSERVED, by_step(layer.spikes_tnchw)
        )
        for layer in trace.layers
    )
    last = trace.layers[-1].spikes_tnchw
    readout = graph.layers[-1].readout
    counts = last.sum(axis=0, dtype=np.int64).reshape(trace.samples, -1)
    logits = trace.voltage_nk if readout else counts
    input_chw, input_n = _sums(trace.input.spikes_tnchw)
    return SimulationResult(
        backend="lava",
        timesteps=trace.timesteps,
        logits_nk=logits,
        predictions_n=logits.argmax(axis=1),
        input_chw=input_chw,
        input_n=input_n,
        input_nt=by_step(trace.input.spikes_tnchw),
        layers=layers,
        readout_spikes=int(counts.sum()) if readout else 0,
        seconds=seconds,
    )


def _sums(spikes_tnchw: Array) -> tuple[Array, Array]:
    """Spikes per neuron (C, H, W) and per sample (N,), int64."""
    per_sample = spikes_tnchw.sum(axis=(0, 2, 3, 4), dtype=np.int64)
    return spikes_tnchw.sum(axis=(0, 1), dtype=np.int64), per_sample
