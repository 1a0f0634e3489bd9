"""The integer simulator: what the chip's neurons do, in batches, bit for bit.

It holds the semantics. The arithmetic is compiler.chip's; every other backend is compared
with what this module returns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from compiler.chip.execute import LayerRun, run_graph
from compiler.chip.neuron import NeuronRun, run_neurons
from compiler.errors import DataError, one_problem
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.ir.snn import Encoding
from sim.encoding import Drive, check_shape, drive_from_images, timesteps_for
from sim.results import LayerCounts, SimulationResult
from sim.traces import INPUT, LayerTrace, NetworkTrace

BATCH_BYTES = 400_000_000
"""Memory that the largest layer of one batch may take."""

Progress = Callable[[int, int], None]


def simulate(
    graph: ChipGraph,
    images_nchw: npt.ArrayLike,
    *,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> SimulationResult:
    """Run images through a network and count.

    images_nchw: float in [0, 1]; `timesteps` and `encoding` for a graph without them;
    `batch` samples at a time (chosen by memory if None); `progress` is called with the
    number of samples done and their total. Every sample starts from rest.
    Raises DataError and UsageError as sim.encoding.drive_from_images does.
    """
    started = time.perf_counter()
    images = check_shape(images_nchw, graph.input_shape)
    steps = timesteps_for(graph, timesteps)
    size = batch or batch_size(graph, steps)
    tally = _Tally(graph)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        tally.add(drive_from_images(graph, part, steps, encoding, first_index=start))
        if progress is not None:
            progress(start + len(part), len(images))
    return tally.result(steps, time.perf_counter() - started)


def batch_size(graph: ChipGraph, timesteps: int) -> int:
    """Samples whose largest layer stays below BATCH_BYTES, at least one."""
    inputs = int(np.prod(graph.input_shape))
    largest = 0
    for layer in graph.layers:
        # spikes as bytes and as floats on the way in; sums of weights and spikes on the way out
        largest = max(largest, 5 * inputs + 9 * layer.neurons)
        inputs = layer.neurons
    return max(1, BATCH_BYTES // (timesteps * largest))


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
        self._input_chw = np.zeros(graph.input_shape, np.int64)
        self._input_n: list[Array] = []
        self._chw = [np.zeros(layer.shape, np.int64) for layer in graph.layers]
        self._n: list[list[Array]] = [[] for _ in graph.layers]
        self._saturations = [0] * len(graph.layers)
        self._logits: list[Array] = []

    def add(self, drive: Drive) -> None:
        """Run a batch and add what it did."""
        spikes, _ = _input_spikes(self._graph, drive, states=False)
        per_neuron = spikes.sum(axis=0, dtype=np.int32)
        self._input_chw += per_neuron.sum(axis=0)
        self._input_n.append(per_neuron.reshape(len(per_neuron), -1).sum(axis=1, dtype=np.int64))
        for index, run in enumerate(run_graph(self._graph, spikes)):
            self._add_layer(index, run)

    def _add_layer(self, index: int, run: LayerRun) -> None:
        counts = _channels_first(run.spikes_tnhwc.sum(axis=0, dtype=np.int32))
        flat = counts.reshape(len(counts), -1)
        self._chw[index] += counts.sum(axis=0)
        self._n[index].append(flat.sum(axis=1, dtype=np.int64))
        self._saturations[index] += int(run.saturations.sum())
        if index == len(self._graph.layers) - 1:
            voltage = _channels_first(run.voltage_nhwc).reshape(flat.shape)
            self._logits.append((voltage if run.layer.readout else flat).astype(np.int64))

    def result(self, timesteps: int, seconds: float) -> SimulationResult:
        """Everything counted so far."""
        layers = tuple(
            LayerCounts(layer.name, chw, np.concatenate(n), saturations)
            for layer, chw, n, saturations in zip(
                self._graph.layers, self._chw, self._n, self._saturations, strict=True
            )
        )
        logits = np.concatenate(self._logits)
        last = self._graph.layers[-1]
        return SimulationResult(
            backend="reference",
            timesteps=timesteps,
            logits_nk=logits,
            predictions_n=logits.argmax(axis=1),
            input_chw=self._input_chw,
            input_n=np.concatenate(self._input_n),
            layers=layers,
            readout_spikes=int(layers[-1].spikes_n.sum()) if last.readout else 0,
            seconds=seconds,
        )
