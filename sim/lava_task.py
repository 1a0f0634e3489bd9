"""One start of a Lava network: what it is given, where it runs, and its recordings as a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, Shape
from sim.encoding import Drive
from sim.events import by_step
from sim.results import LayerCounts, SimulationResult
from sim.traces import INPUT, LayerTrace, NetworkTrace

NOT_OBSERVED = -1
"""Stands for the saturations of a layer, which Lava does not report."""


@dataclass(frozen=True)
class Latency:
    """Steps that a signal is on its way; the defaults are those of Lava's CPU backend.

    input: from the feeder to the first layer, whose synapse holds spikes for one step; spikes:
    from a layer to its recorder; states: from the step after which a variable is to be read to
    the one after which it is.
    """

    input: int = 1
    spikes: int = 0
    states: int = 0


@dataclass(frozen=True)
class Place:
    """Where a network runs.

    latency: what reset and read-out count on; whole: whether every layer is recorded, or the
    last alone, which is all that is cheap to get off a chip; detour: on the CPU, steps by which
    signals are held up beyond `Latency()`, as a chip's host does; its states are 0 or less.
    """

    backend: Literal["lava", "loihi2"] = "lava"
    latency: Latency = Latency()
    whole: bool = True
    detour: Latency = Latency(0, 0, 0)


CPU = Place()


@dataclass(frozen=True)
class Task:
    """One start of a network; `entries` as `layers` of netx_export.read_netx."""

    path: Path
    graph: ChipGraph
    drive: Drive
    out: Path
    states: bool
    entries: int | None
    place: Place = CPU

    @property
    def biased(self) -> bool:
        """Whether the network has input neurons."""
        return self.graph.input_neurons is not None

    @property
    def lead(self) -> int:
        """Steps by which the first layer lags behind the input."""
        return 0 if self.biased else self.place.latency.input

    @property
    def names(self) -> list[str]:
        """Names of Lava's layers."""
        return [INPUT] * self.biased + [layer.name for layer in self.graph.layers]

    @property
    def shapes(self) -> list[Shape]:
        """Shapes (C, H, W) of Lava's layers."""
        return [self.graph.input_shape] * self.biased + [ly.shape for ly in self.graph.layers]

    @property
    def recorded(self) -> range:
        """Indices of the layers whose spikes are recorded."""
        count = len(self.names)
        return range(0 if self.place.whole else count - 1, count)

    @property
    def drain(self) -> int:
        """Steps after which the last layer ends behind the input."""
        return len(self.names) - 1 + self.lead

    @property
    def voltage_read(self) -> tuple[int, int]:
        """(phase, first): v is read after the steps t with (t - 1) % T == phase, t from 1.

        The last step of a sample in the last layer is the one before its reset; `first` is the
        number of readings before that of the first sample.
        """
        behind = self.drain - 1 - self.place.latency.states
        return behind % self.drive.timesteps, behind // self.drive.timesteps + 1


def prepare(task: Task) -> dict[str, Any]:
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
        "drain": task.drain + task.place.latency.spikes,
        "recorded": list(task.recorded),
        "voltage_phase": task.voltage_read[0],
        "backend": task.place.backend,
        "detour": asdict(task.place.detour),
    }


def _to_lava(rows_chw: Array, kind: str) -> Array:
    """Rows (.., C, H, W) in the order that Lava's layer takes: (.., W, H, C), or flat C, H, W."""
    if kind == "dense":
        return rows_chw.reshape(len(rows_chw), -1)
    return np.ascontiguousarray(rows_chw.transpose(0, 3, 2, 1))


def _from_lava(rows: Array, shape: Shape) -> Array:
    """Rows of a layer in Lava's order to (.., C, H, W)."""
    return rows.reshape(len(rows), *shape[::-1]).transpose(0, 3, 2, 1)


def collect(tasks: Sequence[Task]) -> tuple[NetworkTrace, SimulationResult]:
    """Recordings of a job's starts as one run, and the same counted."""
    traces = [_trace(task) for task in tasks]
    trace = traces[0] if len(traces) == 1 else _joined(traces)
    seconds = sum(float((task.out / "seconds").read_text()) for task in tasks)
    return trace, _count(tasks[0].graph, trace, seconds)


def _trace(task: Task) -> NetworkTrace:
    """Every spike that was recorded; the layers that were not are left out."""
    layers = [_layer_trace(task, index) for index in task.recorded]
    if task.drive.spikes_tnchw is not None:
        layers.insert(0, LayerTrace(INPUT, task.drive.spikes_tnchw))
    samples, first = task.drive.samples, task.voltage_read[1]
    rows = np.load(task.out / "voltage.npy")[first : first + samples]
    voltage = _from_lava(rows, task.shapes[-1]).reshape(samples, -1).astype(np.int64)
    return NetworkTrace(task.place.backend, layers[0], tuple(layers[1:]), voltage)


def _layer_trace(task: Task, index: int) -> LayerTrace:
    name, shape = task.names[index], task.shapes[index]

    def window(kind: str, late: int) -> Array:
        rows = np.load(task.out / f"{index}.{kind}.npy", mmap_mode="r")
        start, steps = index + task.lead + late, task.drive.timesteps
        chosen = rows[start : start + steps * task.drive.samples]
        chw = _from_lava(chosen, shape).reshape(task.drive.samples, steps, *shape)
        return np.ascontiguousarray(np.moveaxis(chw, 0, 1))

    spikes = window("spikes", task.place.latency.spikes)
    if not task.states:
        return LayerTrace(name, spikes)
    return LayerTrace(name, spikes, window("u", 0), window("v", 0))


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
    return NetworkTrace(traces[0].backend, inputs, tuple(layer(parts) for parts in layers), voltage)


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
        backend=trace.backend,
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
