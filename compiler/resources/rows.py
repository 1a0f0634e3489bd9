"""Resource reports as plain data, for report.json and resources.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compiler.resources.chips import CHIPS
from compiler.resources.estimate import LayerUse, ResourceReport
from compiler.resources.partition import CoreUse
from compiler.resources.rules import Violation


def resource_rows(reports: Sequence[ResourceReport]) -> list[dict[str, Any]]:
    """The entries of a report's `resources` as plain data, with the core map of each chip."""
    return [_row(report) for report in reports]


def _row(report: ResourceReport) -> dict[str, Any]:
    chip = CHIPS[report.chip]
    limits = {
        "cores": chip.cores,
        "neurons": chip.neurons,
        "synaptic_words": chip.words,
        "input_axons": chip.input_axons,
        "output_axons": chip.output_axons,
    }
    return {
        "chip": report.chip,
        "title": chip.title,
        "cores": report.cores,
        "chips": report.chips,
        "fits": report.fits,
        "neurons": report.neurons,
        "layers": [_layer_row(layer) for layer in report.layers],
        "limits": {
            name: {"value": limit.value, "inferred": limit.inferred, "source": limit.source}
            for name, limit in limits.items()
        },
        "violations": [_violation_row(violation) for violation in report.violations],
        "core_map": [_core_row(use) for use in report.core_map],
    }


def _layer_row(layer: LayerUse) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "neurons": layer.neurons,
        "cores": layer.cores,
        "synaptic_words": layer.words,
        "synaptic_words_in_all": layer.words_in_all,
        "input_axons": layer.input_axons,
        "output_axons": layer.output_axons,
        "split": layer.split,
        "fullest": layer.fullest,
        "fullest_share": layer.fullest_share,
    }


def _violation_row(violation: Violation) -> dict[str, Any]:
    problem = violation.problem
    return {
        "rule": violation.rule,
        "severity": "hard" if violation.hard else "warning",
        "layer": problem.layer,
        "found": problem.found,
        "allowed": problem.allowed,
        "remedy": problem.remedy,
    }


def _core_row(use: CoreUse) -> dict[str, Any]:
    return {
        "core": use.core,
        "layer": use.layer,
        "channels": list(use.tile.channels),
        "rows": list(use.tile.rows),
        "columns": list(use.tile.columns),
        "neurons": use.neurons,
        "synaptic_words": use.words,
        "input_axons": use.input_axons,
        "output_axons": use.output_axons,
    }
