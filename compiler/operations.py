"""Operations, energy and chip resources of a simulated network, in the report's form."""

from __future__ import annotations

from typing import Any

from compiler.ir.ann import AnnGraph
from compiler.ir.chip import ChipGraph
from compiler.resources import estimate, message_traffic, resource_rows
from compiler.resources.chips import CHIPS
from sim.energy import energy_rows, privatesnn_claim
from sim.results import SimulationResult
from sim.synops import ann_macs, build_operations


def operations(ann: AnnGraph, chip: ChipGraph, result: SimulationResult) -> dict[str, Any]:
    """The report's `layers`, `energy` and `resources`, and the paper's claim recomputed.

    ann: the network as it was given, whose multiplications stand against the spikes.
    """
    layers = build_operations(result, chip, ann_macs(ann))
    reports = {name: estimate(chip, name) for name in CHIPS}
    spikes = {layer.name: layer.spikes_chw for layer in result.layers}
    traffic = message_traffic(reports["loihi1"], spikes, result.samples)
    return {
        "layers": layers,
        "energy": energy_rows(layers, traffic),
        "privatesnn_claim": privatesnn_claim(layers),
        "resources": resource_rows(list(reports.values())),
    }
