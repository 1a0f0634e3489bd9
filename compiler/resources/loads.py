"""What every core does in every step: synapses, spikes and messages, from recorded spikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.ir.geometry import Array
from compiler.resources.estimate import ResourceReport
from compiler.resources.memory import Tile, input_area, taps_in_use
from compiler.resources.partition import CoreUse, SharedPlaces, shared_places
from compiler.resources.shapes import LayerShape
from compiler.resources.traffic import place

Route = tuple[int, int]
"""Tiles that a message goes east or west, and north or south."""


@dataclass(frozen=True)
class CoreLoads:
    """Work of every core of a core map, step by step and sample by sample.

    Arrays are int64 (cores, steps, samples), cores in the order of the map. A chain of L
    layers takes T + L steps: layer i (from 0) updates in step t + i + 1 what entered the chip
    in step t, its spikes leave in that step, and the synapses that they reach work in it too.
    neurons (cores,): updates in every step; routes: where in (steps, samples) any message went
    so far.
    """

    neurons: Array
    synops: Array
    spikes: Array
    messages_out: Array
    messages_in: Array
    routes: dict[Route, Array]


def core_loads(
    report: ResourceReport, given_tnchw: Array | None, spikes_tnchw: Sequence[Array]
) -> CoreLoads:
    """Count the work of every core from the spikes of all layers of `report.network`.

    given_tnchw: input spikes that come from outside the chip, None where the network's first
    layer is neurons of the input; spikes_tnchw: one array (T, N, C, H, W) a layer. Every
    synapse that a spike reaches counts, zero weights included; a spike is one message to
    every core that needs it. Input from outside arrives as messages; how it gets onto the
    chip is not counted.
    """
    layers = report.network.layers
    steps, samples = spikes_tnchw[0].shape[:2]
    loads = _no_loads(report.core_map, steps + len(layers), samples)
    arriving = given_tnchw
    for index, layer in enumerate(layers):
        cores = [use for use in report.core_map if use.layer == layer.name]
        sources = [use for use in report.core_map if index and use.layer == layers[index - 1].name]
        if arriving is not None:
            window = slice(index, index + steps)
            _add_synapses(loads, layer, cores, arriving, window)
            _add_messages(loads, layer, sources, cores, arriving, window)
        arriving = spikes_tnchw[index].reshape(steps, samples, *layer.shape)
        _add_spikes(loads, cores, arriving, slice(index + 1, index + 1 + steps))
    return loads


def _no_loads(cores: Sequence[CoreUse], steps: int, samples: int) -> CoreLoads:
    synops, spikes, out, into = np.zeros((4, len(cores), steps, samples), np.int64)
    neurons = np.array([use.neurons for use in cores], np.int64)
    return CoreLoads(neurons, synops, spikes, out, into, {})


def _add_spikes(loads: CoreLoads, cores: Sequence[CoreUse], spikes: Array, window: slice) -> None:
    for use in cores:
        loads.spikes[use.core, window] = _sum(use.tile.of(spikes))


def _add_synapses(
    loads: CoreLoads, layer: LayerShape, cores: Sequence[CoreUse], spikes: Array, window: slice
) -> None:
    """Each spike times the synapses that it reaches on each core."""
    arriving = spikes.reshape(*spikes.shape[:2], *layer.input_shape)
    if layer.kind == "dense":
        every = arriving.sum((2, 3, 4), dtype=np.int64)
        for use in cores:
            loads.synops[use.core, window] = every * use.neurons
        return
    groups = layer.geometry.groups
    by_group = arriving.reshape(*arriving.shape[:2], groups, -1, *arriving.shape[3:])
    by_place = by_group.sum(3, dtype=np.int64)
    reached: dict[tuple[tuple[int, int], tuple[int, int]], Array] = {}
    for use in cores:
        key = (use.tile.rows, use.tile.columns)
        if key not in reached:
            reached[key] = _reached(layer, use.tile, by_place)
        loads.synops[use.core, window] = reached[key] @ _depth_by_group(layer, use.tile)


def _reached(layer: LayerShape, tile: Tile, by_place_tnghw: Array) -> Array:
    """Synapses reached on a tile an output channel of each group, (T, N, groups)."""
    rows, columns = input_area(layer, tile)
    down = taps_in_use(layer.geometry, 0, layer.kernel[0], layer.input_shape[1], tile.rows)
    across = taps_in_use(layer.geometry, 1, layer.kernel[1], layer.input_shape[2], tile.columns)
    part = by_place_tnghw[..., slice(*rows), slice(*columns)]
    counts: Array = (part @ across[slice(*columns)]) @ down[slice(*rows)]
    return counts


def _depth_by_group(layer: LayerShape, tile: Tile) -> Array:
    """Output channels of the tile in each group."""
    size = layer.shape[0] // layer.geometry.groups
    channels = np.arange(*tile.channels) // size
    return np.bincount(channels, minlength=layer.geometry.groups).astype(np.int64)


def _add_messages(
    loads: CoreLoads,
    layer: LayerShape,
    sources: Sequence[CoreUse],
    targets: Sequence[CoreUse],
    spikes: Array,
    window: slice,
) -> None:
    """A message to every core that needs a spike; input from outside has no source core."""
    sums: dict[SharedPlaces, Array] = {}
    outside = Tile(*((0, size) for size in spikes.shape[2:]))
    places: list[tuple[Tile, int | None]] = [(use.tile, use.core) for use in sources]
    for tile, source in places or [(outside, None)]:
        for target in targets:
            shared = shared_places(tile, layer, target.tile)
            if shared is None:
                continue
            if shared not in sums:
                sums[shared] = _sum(shared.of(spikes))
            loads.messages_in[target.core, window] += sums[shared]
            if source is not None:
                loads.messages_out[source, window] += sums[shared]
                _add_route(loads, source, target.core, sums[shared] > 0, window)


def _add_route(loads: CoreLoads, source: int, target: int, used: Array, window: slice) -> None:
    (row, column), (to_row, to_column) = place(source), place(target)
    route = (abs(to_column - column), abs(to_row - row))
    if route not in loads.routes:
        loads.routes[route] = np.zeros(loads.spikes.shape[1:], bool)
    loads.routes[route][window] |= used


def _sum(spikes_tnchw: Array) -> Array:
    """Spikes of every step and sample, int64 (T, N)."""
    total: Array = spikes_tnchw.sum((2, 3, 4), dtype=np.int64)
    return total
