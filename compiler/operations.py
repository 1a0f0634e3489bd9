"""Operations, energy, latency and chip resources of a simulated network, in the report's form."""

from __future__ import annotations

from typing import Any

from compiler.ir.ann import AnnGraph
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.resources import estimate, resource_rows
from compiler.resources.chips import CHIPS
from sim.costs import cost_rows, reference_traces
from sim.energy import privatesnn_claim
from sim.results import SimulationResult
from sim.synops import ann_macs


def operations(
    ann: AnnGraph, chip: ChipGraph, images_nchw: Array, result: SimulationResult
) -> dict[str, Any]:
    """The report's `layers`, `energy`, `latency` and `resources`, and the paper's claim recomputed.

    ann: the network as it was given, whose multiplications stand against the spikes; result:
    what the integer simulator counted over `images_nchw`.
    """
    costs = cost_rows(chip, result, reference_traces(chip, images_nchw), ann_macs(ann))
    return {
        **costs,
        "privatesnn_claim": privatesnn_claim(costs["layers"]),
        "resources": resource_rows([estimate(chip, name) for name in CHIPS]),
    }
