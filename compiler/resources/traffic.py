"""Messages between cores: which spikes leave their core, and how far they go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.ir.geometry import Array
from compiler.resources.estimate import ResourceReport
from compiler.resources.partition import shared_places
from compiler.resources.shapes import LayerShape

CORES_PER_TILE = 4
_TILES_PER_ROW = 8
"""Loihi 1: 8 x 4 tiles of 4 cores (Davies et al. 2018)."""


def message_traffic(
    report: ResourceReport, spikes_chw: Mapping[str, Array], samples: int
) -> dict[str, dict[str, float]]:
    """Messages between cores and their hops, a sample, by the layer whose spikes cause them.

    spikes_chw: spikes of every neuron summed over `samples`, by layer name. A spike is
    sent once to every core that needs it. Cores are filled in order, four a tile, eight
    tiles a row, and a message goes along rows and columns: an assumption, as the vendor's
    placement is not public. Returns {layer: {messages, hops_east_west, hops_north_south}}.
    """
    layers = report.network.layers
    traffic: dict[str, dict[str, float]] = {}
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        total = np.zeros(3)
        if after is not None and layer.name in spikes_chw:
            spikes = np.asarray(spikes_chw[layer.name], np.float64).reshape(layer.shape)
            total = _layer_traffic(report, layer, after, spikes) / max(samples, 1)
        keys = ("messages", "hops_east_west", "hops_north_south")
        traffic[layer.name] = dict(zip(keys, total.tolist(), strict=True))
    return traffic


def _layer_traffic(
    report: ResourceReport, layer: LayerShape, after: LayerShape, spikes: Array
) -> Array:
    total = np.zeros(3)
    targets = [use for use in report.core_map if use.layer == after.name]
    for source in (use for use in report.core_map if use.layer == layer.name):
        row, column = place(source.core)
        for target in targets:
            shared = shared_places(source.tile, after, target.tile)
            if shared is None:
                continue
            sent = float(shared.of(spikes).sum())
            to_row, to_column = place(target.core)
            total += sent * np.array([1, abs(column - to_column), abs(row - to_row)])
    return total


def place(core: int) -> tuple[int, int]:
    """Row and column of a core's tile, cores being filled in order."""
    return divmod(core // CORES_PER_TILE, _TILES_PER_ROW)
