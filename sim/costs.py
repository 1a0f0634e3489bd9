"""What a simulated network costs: operations, energy and latency, the same in every report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array, in_parts
from compiler.ir.snn import Encoding
from compiler.resources import CoreLoads, ResourceReport, core_loads, estimate, message_traffic
from sim.encoding import drive_from_images
from sim.energy import energy_rows
from sim.latency import latency_rows
from sim.reference import trace
from sim.results import SimulationResult
from sim.synops import build_operations, operations_by_step
from sim.traces import LayerTrace, NetworkTrace

LATENCY_SAMPLES = 16
"""Images whose spikes are followed core by core; the latency is the mean over them."""

_TRACE_BYTES = 200_000_000
"""Memory that the spikes of one batch may take."""

_CHIP = "loihi1"
"""The chip whose energies and times are published."""


def cost_rows(
    graph: ChipGraph,
    result: SimulationResult,
    traces: Iterable[NetworkTrace],
    macs: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """The report's `layers`, `operations_by_step`, `energy` and `latency`.

    result: counts of all samples, by step where it was run with sim.synops.operation_tables;
    traces: every spike of a few of them, for the latency; macs: the ANN's multiplications, as
    for sim.synops.count_operations. Messages, hops and the slowest core are those of our own
    core map on Loihi 1.
    """
    layers = build_operations(result, graph, macs)
    report = estimate(graph, _CHIP, result.timesteps)
    traffic = message_traffic(report, _spikes_by_layer(graph, result), result.samples)
    energy = energy_rows(layers, traffic)
    loads = (loads_of_trace(report, graph, part) for part in traces)
    return {
        "layers": layers,
        "operations_by_step": operations_by_step(result, graph),
        "energy": energy,
        "latency": latency_rows(report, loads, energy),
    }


def reference_traces(
    graph: ChipGraph,
    images_nchw: Array,
    timesteps: int | None = None,
    encoding: Encoding | None = None,
) -> Iterator[NetworkTrace]:
    """Every spike of the first LATENCY_SAMPLES images in the integer simulator, in batches."""
    images = images_nchw[:LATENCY_SAMPLES]
    neurons = sum(layer.neurons for layer in graph.layers) + images[0].size
    size = max(1, _TRACE_BYTES // (neurons * (timesteps or graph.timesteps or 1)))
    for start, part in in_parts(images, size):
        yield trace(graph, drive_from_images(graph, part, timesteps, encoding, first_index=start))


def first_samples(run: NetworkTrace) -> NetworkTrace:
    """The first LATENCY_SAMPLES samples of a recorded run."""
    part = slice(0, LATENCY_SAMPLES)

    def cut(layer: LayerTrace) -> LayerTrace:
        return LayerTrace(layer.name, layer.spikes_tnchw[:, part])

    layers = tuple(cut(layer) for layer in run.layers)
    return NetworkTrace(run.backend, cut(run.input), layers, run.voltage_nk[part])


def loads_of_trace(report: ResourceReport, graph: ChipGraph, run: NetworkTrace) -> CoreLoads:
    """What every core of the map did in a recorded run."""
    spikes = [layer.spikes_tnchw for layer in run.layers]
    if graph.input_neurons is not None:
        return core_loads(report, None, [run.input.spikes_tnchw, *spikes])
    return core_loads(report, run.input.spikes_tnchw, spikes)


def _spikes_by_layer(graph: ChipGraph, result: SimulationResult) -> dict[str, Array]:
    spikes = {layer.name: layer.spikes_chw for layer in result.layers}
    if graph.input_neurons is not None:
        spikes[graph.input_neurons.name] = result.input_chw
    return spikes
