"""The integer simulator: what the chip's neurons do, in batches, bit for bit.

It holds the semantics. The arithmetic is compiler.chip's; every other backend is compared
with what this module returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler.chip.engine.job import LayerOutput
from compiler.chip.engine.plan import LayerPlan, plan_layers
from compiler.chip.engine.run import Wanted, batch_size, engine, run_images, run_spikes
from compiler.chip.execute import LayerRun, run_graph
from compiler.chip.neuron import NeuronRun, run_neurons
from compiler.errors import ChipRangeError, DataError, one_problem
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, Shape, in_parts
from compiler.ir.snn import Encoding
from sim.encoding import (
    Drive,
    check_range,
    check_shape,
    drive_from_images,
    encoding_for,
    timesteps_for,
)
from sim.results import LayerCounts, SimulationResult
from sim.traces import INPUT, LayerTrace, NetworkTrace

Progress = Callable[[int, int], None]
FanOuts = Sequence[Sequence[Array]]


def simulate(
    graph: ChipGraph,
    images_nchw: npt.ArrayLike,
    *,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
    fan_outs: FanOuts = (),
    first_index: int = 0,
) -> SimulationResult:
    """Run images through a network and count.

    images_nchw: float in [0, 1]; `timesteps` and `encoding` for a graph without them;
    `batch` samples at a time (chosen by memory if None); `progress` is called with the
    number of samples done and their total. Every sample starts from rest.
    fan_outs: for every layer any number of int64 tables (C, H, W) of its input: the
    operations that one spike of that neuron causes; they are summed in `events_nt`.
    first_index: number of the first image in its set, which the `poisson` code depends on.
    Raises DataError and UsageError as sim.encoding.drive_from_images does, ChipRangeError for
    sums of weights beyond 32 bits.
    """
    started = time.perf_counter()
    images = check_shape(images_nchw, graph.input_shape)
    steps = timesteps_for(graph, timesteps)
    plans = _plans(graph)
    size = batch or batch_size(plans, steps, sum(len(tables) for tables in fan_outs))
    run = _Batches(graph, plans, steps, encoding, Wanted(fans=fan_outs))
    tally = _Tally(graph)
    for start, part in in_parts(images, size):
        tally.add(run.run(part, first_index + start))
        if progress is not None:
            progress(start + len(part), len(images))
    return tally.result(steps, time.perf_counter() - started)


def _plans(graph: ChipGraph) -> tuple[LayerPlan, ...]:
    try:
        return plan_layers(graph.layers, graph.input_shape)
    except OverflowError as error:
        allowed, remedy = "sums within 32 bits, as Lava's", "split the layer"
        raise one_problem(
            ChipRangeError, "cannot simulate", graph.name, str(error), allowed, remedy
        ) from error


@dataclass(frozen=True)
class _Batches:
    """What stays the same from batch to batch."""

    graph: ChipGraph
    plans: tuple[LayerPlan, ...]
    timesteps: int
    encoding: Encoding | None
    wanted: Wanted

    def run(self, images_nchw: Array, first_index: int) -> tuple[LayerOutput, ...]:
        """Run a batch, `first_index` being the index of its first image in the set."""
        if self.graph.input_neurons is not None:
            drive = drive_from_images(self.graph, images_nchw, self.timesteps, self.encoding)
            spikes, _ = _input_spikes(self.graph, drive, states=False)
            return run_spikes(self.plans, np.moveaxis(spikes, 2, -1), self.wanted)
        check_range(images_nchw)
        code = encoding_for(self.graph, self.encoding)
        return run_images(self.plans, images_nchw, self.timesteps, code, first_index, self.wanted)


def trace(
    graph: ChipGraph,
    images: npt.ArrayLike | Drive,
    *,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
    states: bool = False,
) -> NetworkTrace:
    """Run a few samples and keep every spike, and with `states` every u and v.

    images: float (N, C, H, W) as for `simulate`, or a Drive of spikes or biases.
    """
    drive = _as_drive(graph, images, timesteps, encoding)
    spikes, given = _input_spikes(graph, drive, states)
    runs = [_layer_trace(run, states) for run in run_graph(graph, spikes, traces=states)]
    layers = tuple(layer for layer, _ in runs)
    return NetworkTrace("reference", given, layers, runs[-1][1])


def _as_drive(
    graph: ChipGraph,
    images: npt.ArrayLike | Drive,
    timesteps: int | None,
    encoding: Encoding | None,
) -> Drive:
    if not isinstance(images, Drive):
        return drive_from_images(graph, images, timesteps, encoding)
    check_drive(graph, images)
    return images


def check_drive(graph: ChipGraph, drive: Drive) -> None:
    """DataError unless the drive is of the kind and the shape that the network takes."""
    channels, height, width = graph.input_shape
    expected: tuple[int, ...] = (drive.samples, channels, height, width)
    given = drive.bias_nchw
    if graph.input_neurons is None:
        expected, given = (drive.timesteps, *expected), drive.spikes_tnchw
    if given is None or given.shape != expected:
        found = "the other kind of drive" if given is None else f"a drive of shape {given.shape}"
        kind = "spikes (T, N, C, H, W)" if graph.input_neurons is None else "biases (N, C, H, W)"
        raise one_problem(
            DataError, "the input does not fit", INPUT, found, f"{kind} {expected}", "reshape it"
        )


def _input_spikes(graph: ChipGraph, drive: Drive, states: bool) -> tuple[Array, LayerTrace]:
    """Spikes for the first layer, (T, N, C, H, W), from the drive or from input neurons."""
    check_drive(graph, drive)
    if drive.spikes_tnchw is not None:
        return drive.spikes_tnchw, LayerTrace(INPUT, drive.spikes_tnchw)
    run = run_input_neurons(graph, drive, states)
    shape = (drive.timesteps, drive.samples, *graph.input_shape)
    spikes = run.spikes_tnm.reshape(shape)
    u, v = (None if state is None else state.reshape(shape) for state in (run.u_tnm, run.v_tnm))
    return spikes, LayerTrace(INPUT, spikes, u, _after_reset(v, spikes))


def run_input_neurons(graph: ChipGraph, drive: Drive, states: bool = False) -> NeuronRun:
    """Run input neurons, which nothing but their bias drives; samples and neurons in one axis."""
    if graph.input_neurons is None or drive.bias_nchw is None:
        raise ValueError("a network without input neurons")
    bias = drive.bias_nchw.reshape(-1)
    silence = np.zeros((drive.timesteps, 1, bias.size), np.float32)
    return run_neurons(silence, bias, graph.input_neurons.neuron, states)


def _layer_trace(run: LayerRun, states: bool) -> tuple[LayerTrace, Array]:
    """A layer's trace, channels first, and its final voltage (N, C*H*W) as int64."""
    spikes = _channels_first(run.spikes_tnhwc)
    voltage = _channels_first(run.voltage_nhwc).reshape(len(run.voltage_nhwc), -1)
    if not states or run.u_tnhwc is None or run.v_tnhwc is None:
        return LayerTrace(run.layer.name, spikes), voltage.astype(np.int64)
    u, v = _channels_first(run.u_tnhwc), _channels_first(run.v_tnhwc)
    layer = LayerTrace(run.layer.name, spikes, u, _after_reset(v, spikes))
    return layer, voltage.astype(np.int64)


def _after_reset(v: Array | None, spikes: Array) -> Array | None:
    return None if v is None else np.where(spikes > 0, np.int32(0), v)


def _channels_first(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, -1, -3))


class _Tally:
    """Counts of a run that goes batch by batch."""

    def __init__(self, graph: ChipGraph) -> None:
        self._graph = graph
        shapes = [graph.input_shape, *(layer.shape for layer in graph.layers)]
        self._neurons = [np.zeros(int(np.prod(shape)), np.int64) for shape in shapes]
        self._steps: list[list[Array]] = [[] for _ in shapes]
        self._events: list[list[Array]] = [[] for _ in shapes]
        self._clips = [0 for _ in shapes]
        self._logits: list[Array] = []

    def add(self, outputs: tuple[LayerOutput, ...]) -> None:
        """Add the outputs of the input and of every layer for one batch."""
        for index, output in enumerate(outputs):
            self._neurons[index] += output.neurons
            self._steps[index].append(output.steps_nt)
            self._clips[index] += int(output.clips_n.sum())
            if output.events_fnt is not None:
                self._events[index].append(output.events_fnt)
        last = outputs[-1]
        answers = last.voltage_nm if self._graph.layers[-1].readout else last.counts_nm
        if answers is not None:
            self._logits.append(_flat_channels_first(answers, self._graph.layers[-1].shape))

    def result(self, timesteps: int, seconds: float) -> SimulationResult:
        """Everything counted so far."""
        layers = tuple(self._counts(index) for index in range(len(self._graph.layers)))
        logits = np.concatenate(self._logits)
        input_nt = np.concatenate(self._steps[0])
        return SimulationResult(
            backend="reference",
            timesteps=timesteps,
            logits_nk=logits,
            predictions_n=logits.argmax(axis=1),
            input_chw=self._neuron_sums(0, self._graph.input_shape),
            input_n=input_nt.sum(1, dtype=np.int64),
            layers=layers,
            readout_spikes=int(layers[-1].spikes_n.sum()) if self._graph.layers[-1].readout else 0,
            seconds=seconds,
            input_nt=input_nt,
            engine=engine().name,
        )

    def _counts(self, index: int) -> LayerCounts:
        """Counts of one layer; the events are those of what sends spikes to it."""
        layer, events = self._graph.layers[index], self._events[index]
        spikes_nt = np.concatenate(self._steps[index + 1])
        return LayerCounts(
            layer.name,
            self._neuron_sums(index + 1, layer.shape),
            spikes_nt.sum(1, dtype=np.int64),
            self._clips[index + 1],
            spikes_nt,
            np.concatenate(events, axis=1) if events else np.zeros((0, *spikes_nt.shape), np.int64),
        )

    def _neuron_sums(self, index: int, shape: Shape) -> Array:
        """Spikes of every neuron, int64 (C, H, W)."""
        return _channels_first(self._neurons[index].reshape(*shape[1:], shape[0]))


def _flat_channels_first(answers_nm: Array, shape: Shape) -> Array:
    """(n, H * W * C) to int64 (n, C * H * W)."""
    answers = answers_nm.reshape(-1, *shape[1:], shape[0])
    return _channels_first(answers).reshape(len(answers), -1).astype(np.int64)
