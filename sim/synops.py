"""Exact operation counts from simulated spikes: each spike times its real fan-out.

Two conventions, both exact at image borders, with stride, padding, dilation and groups:

* `effective`: synapses whose weight is zero do not count. This is how NeuroBench counts
  (neurobench/metrics/workload/synaptic_operations.py).
* `chip`: every synapse that exists counts. A convolution's kernel is shared and a dense
  list is read whole, so the chip works through weights that are zero, too.

Counts are int64 sums over all samples; figures a sample are means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from compiler.errors import ModelError, one_problem
from compiler.ir.ann import AnnGraph, Conv2d, Dense
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.geometry import Array, ConvGeometry, Shape
from sim.results import SimulationResult

Convention = Literal["effective", "chip"]
CONVENTIONS: tuple[Convention, ...] = ("effective", "chip")


@dataclass(frozen=True)
class LayerOperations:
    """What one layer did over all samples; every count is a whole number.

    neurons: of the layer; inputs: presynaptic neurons; synapses: connections, borders
    counted; weights: numbers stored; macs: multiplications of the same layer in an ANN,
    padding excluded, a sample; input_spikes, spikes, synops (`chip`), synops_effective
    and neuron_updates: sums over `samples` samples.
    """

    name: str
    kind: str
    neurons: int
    inputs: int
    synapses: int
    weights: int
    macs: int
    input_spikes: int
    spikes: int
    synops: int
    synops_effective: int
    neuron_updates: int
    samples: int

    def row(self, timesteps: int) -> dict[str, Any]:
        """The layer as one entry of a report's `layers`, counts a sample as floats."""
        per = float(max(self.samples, 1))
        return {
            "name": self.name,
            "kind": self.kind,
            "neurons": self.neurons,
            "inputs": self.inputs,
            "synapses": self.synapses,
            "weights": self.weights,
            "macs": self.macs,
            "input_spikes_per_sample": self.input_spikes / per,
            "spikes_per_sample": self.spikes / per,
            "spikes_per_neuron_and_step": self.spikes / per / self.neurons / timesteps,
            "synops_per_sample": self.synops / per,
            "synops_effective_per_sample": self.synops_effective / per,
            "neuron_updates_per_sample": self.neuron_updates / per,
            "samples": self.samples,
        }


def latency_steps(graph: ChipGraph) -> int:
    """Steps between a spike of the input and the last layer's answer to it.

    A layer's spikes arrive at the next layer one step later, so that a chain of L layers
    (neurons of the input included, where it has some) runs T + L steps a sample, and
    every neuron of the chip is updated in each of them.
    """
    return len(graph.layers) + (1 if graph.input_neurons is not None else 0)


def fan_out(layer: ChipLayer, convention: Convention = "chip") -> Array:
    """Synapses that leave each presynaptic neuron for `layer`: int64, (C, H, W) of its input."""
    present = np.ones(layer.weight.shape, bool)
    if convention == "effective":
        present = np.asarray(layer.weight) != 0
    if layer.kind == "conv":
        return _conv_fan_out(present, layer.input_shape, layer.geometry)
    result: Array = present.sum(0, dtype=np.int64).reshape(layer.input_shape)
    return result


def synaptic_operations(fan_out_chw: Array, spikes: Array) -> Array:
    """Spikes times fan-out, summed over neurons.

    spikes: integers (..., C, H, W), for instance (C, H, W) totals, (n, C, H, W) or
    (t, n, C, H, W). Returns int64 over the leading axes.
    """
    result: Array = (np.asarray(spikes, np.int64) * fan_out_chw).sum((-3, -2, -1), dtype=np.int64)
    return result


def ann_macs(graph: AnnGraph) -> dict[str, int]:
    """Multiplications of every conv and dense layer, those with padding excluded, a sample."""
    macs: dict[str, int] = {}
    shape = graph.input_shape
    for layer, after in zip(graph.layers, graph.shapes, strict=True):
        if isinstance(layer, Conv2d):
            ones = np.ones(layer.weight.shape, bool)
            macs[layer.name] = int(_conv_fan_out(ones, shape, layer.geometry).sum())
        elif isinstance(layer, Dense):
            macs[layer.name] = int(layer.weight.size)
        shape = after
    return macs


def count_operations(
    result: SimulationResult, graph: ChipGraph, macs: Mapping[str, int] | None = None
) -> list[LayerOperations]:
    """Operations of the input and of every layer, in order.

    `macs`, from `ann_macs` of the ANN as it was given, replaces a layer's own number of
    multiplications: where pooling was folded into a kernel, the ANN needs fewer. A layer
    that it does not name gets 0; one that was merged counts with the layer before it.
    The input comes first as a row of kind `input`. Raises ModelError if `result` is not
    of `graph`.
    """
    _check_same_network(result, graph)
    steps = result.timesteps + latency_steps(graph)
    rows = [_input_operations(result, graph, steps)]
    of_ann = None if macs is None else _macs_by_layer(macs, [layer.name for layer in graph.layers])
    spikes_chw, spikes = result.input_chw, int(np.asarray(result.input_n).sum())
    for layer, counts in zip(graph.layers, result.layers, strict=True):
        fan = fan_out(layer, "chip")
        synapses = int(fan.sum())
        arriving = np.asarray(spikes_chw).reshape(layer.input_shape)
        rows.append(
            LayerOperations(
                name=layer.name,
                kind=layer.kind,
                neurons=layer.neurons,
                inputs=_size(layer.input_shape),
                synapses=synapses,
                weights=int(layer.weight.size),
                macs=synapses if of_ann is None else of_ann[layer.name],
                input_spikes=spikes,
                spikes=int(np.asarray(counts.spikes_n).sum()),
                synops=int(synaptic_operations(fan, arriving)),
                synops_effective=int(synaptic_operations(fan_out(layer, "effective"), arriving)),
                neuron_updates=layer.neurons * steps * result.samples,
                samples=result.samples,
            )
        )
        spikes_chw, spikes = counts.spikes_chw, rows[-1].spikes
    return rows


def build_operations(
    result: SimulationResult, graph: ChipGraph, macs: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """The entries of a report's `layers`: the input, then every layer, as plain data.

    Keys: name, kind, neurons, inputs, synapses, weights, macs, and per sample
    input_spikes, spikes, synops (`chip` convention), synops_effective, neuron_updates.
    """
    return [row.row(result.timesteps) for row in count_operations(result, graph, macs)]


def operation_tables(graph: ChipGraph) -> list[list[Array]]:
    """Fan-outs of every layer's inputs, for `fan_outs` of a simulation.

    It then counts operations a sample and step in LayerCounts.events_nt, one table a
    convention, in the order of CONVENTIONS.
    """
    return [[fan_out(layer, convention) for convention in CONVENTIONS] for layer in graph.layers]


def operations_by_step(result: SimulationResult, graph: ChipGraph) -> list[dict[str, Any]]:
    """The entries of a report's `operations_by_step`: the input, then every layer.

    Spikes of the layer itself and synaptic operations of the spikes that arrive at it, at each
    of the T steps that the layer takes: mean, smallest and largest over the samples. Empty
    where the simulation was run without operation_tables.
    """
    if not result.layers[0].events_nt.size:
        return []
    own = graph.input_neurons
    name = "input" if own is None else own.name
    first = {"name": name, "kind": "input", "spikes": _over_samples(result.input_nt)}
    rows: list[dict[str, Any]] = [first]
    for layer, counts in zip(graph.layers, result.layers, strict=True):
        events = dict(zip(CONVENTIONS, counts.events_nt, strict=True))
        rows.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "spikes": _over_samples(counts.spikes_nt),
                "synops": _over_samples(events["chip"]),
                "synops_effective": _over_samples(events["effective"]),
            }
        )
    return rows


def synops_by_sample(result: SimulationResult) -> list[int]:
    """Synaptic operations (`chip`) of every sample, all layers and steps; [] where not counted."""
    if not result.layers[0].events_nt.size:
        return []
    chip = CONVENTIONS.index("chip")
    by_layer = [layer.events_nt[chip].sum(1) for layer in result.layers]
    return [int(number) for number in np.sum(by_layer, axis=0)]


def _over_samples(counts_nt: Array) -> dict[str, list[float]]:
    return {
        "mean": counts_nt.mean(0).tolist(),
        "least": counts_nt.min(0).tolist(),
        "most": counts_nt.max(0).tolist(),
    }


def _macs_by_layer(macs: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    """All of an ANN's multiplications, spread over the layers that are left of it."""
    spread = dict.fromkeys(names, 0)
    current = names[0]
    for name, number in macs.items():
        current = name if name in spread else current
        spread[current] += number
    return spread


def _input_operations(result: SimulationResult, graph: ChipGraph, steps: int) -> LayerOperations:
    neurons = _size(graph.input_shape)
    own = graph.input_neurons
    return LayerOperations(
        name="input" if own is None else own.name,
        kind="input",
        neurons=neurons,
        inputs=0,
        synapses=0,
        weights=0,
        macs=0,
        input_spikes=0,
        spikes=int(np.asarray(result.input_n).sum()),
        synops=0,
        synops_effective=0,
        neuron_updates=0 if own is None else neurons * steps * result.samples,
        samples=result.samples,
    )


def _conv_fan_out(present: Array, input_shape: Shape, geometry: ConvGeometry) -> Array:
    """Count per kernel position how many outputs exist, then sum over the kernel."""
    outputs, group_inputs, *kernel = present.shape
    groups = geometry.groups
    by_group = present.reshape(groups, outputs // groups, group_inputs, *kernel)
    per_tap = by_group.sum(1, dtype=np.int64).reshape(input_shape[0], *kernel)
    rows = _taps_in_use(0, kernel[0], input_shape[1], geometry)
    columns = _taps_in_use(1, kernel[1], input_shape[2], geometry)
    result: Array = np.einsum("ckl,kh,lw->chw", per_tap, rows, columns, optimize=True)
    return result


def _taps_in_use(axis: int, kernel: int, size: int, geometry: ConvGeometry) -> Array:
    """int64 (kernel, size): 1 where kernel element k of some output lies on input position i.

    Output o takes input o * stride + k * dilation - padding, so that there is at most one.
    """
    stride, dilation = geometry.stride[axis], geometry.dilation[axis]
    before, after = geometry.padding[axis]
    outputs = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    taps = np.arange(kernel)[:, None] * dilation
    offset = np.arange(size)[None, :] + before - taps
    output = offset // stride
    used = (offset % stride == 0) & (output >= 0) & (output < outputs)
    result: Array = used.astype(np.int64)
    return result


def _size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _check_same_network(result: SimulationResult, graph: ChipGraph) -> None:
    found = [(counts.name, np.asarray(counts.spikes_chw).shape) for counts in result.layers]
    wanted = [(layer.name, layer.shape) for layer in graph.layers]
    if found != wanted:
        raise one_problem(
            ModelError,
            "the simulation's counts do not belong to this network",
            graph.name,
            f"layers {found}",
            f"layers {wanted}",
            "count the operations of a result with the graph that was simulated",
        )
