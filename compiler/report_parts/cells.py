"""Rows of words that the terminal table and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler import quantities
from compiler.report_parts import words
from compiler.report_parts.words import Report
from sim import tables
from sim.tables import Row

AGREEMENT = ("between", "samples", "spikes", "different")
ENERGY = tables.ENERGY_COLUMNS
LATENCY = tables.LATENCY_COLUMNS
_COUNTED = ("samples", "spikes", "mismatches")


def agreement(report: Report) -> list[Row]:
    """Which simulators were compared: samples, spikes, differing spikes."""
    rows: list[Row] = []
    for key, pair in (report.get("agreement") or {}).items():
        title = words.COMPARED.get(key, key)
        if not pair:
            rows.append((title, "not compared", "", ""))
            continue
        samples, spikes, wrong = (quantities.count(pair.get(k)) for k in _COUNTED)
        rows.append((title, samples, spikes, wrong))
    return rows


def operations(report: Report, keys: Sequence[str]) -> list[Row]:
    """Name, kind and the numbers under `keys` of every layer, then their sums."""
    return tables.operations(report.get("layers") or (), keys)


def energy(report: Report) -> list[Row]:
    """One row a model, convention and precision of the ANN, with and without the input layer."""
    return tables.energy(report.get("energy") or ())


def energy_notes(report: Report, sources: bool) -> list[str]:
    """What each model charges, once a model, with its sources if asked."""
    return tables.energy_notes(report.get("energy") or (), sources)


def latency(report: Report) -> list[Row]:
    """One row a model that has times."""
    return tables.latency(report.get("latency") or ())


def latency_notes(report: Report, sources: bool) -> list[str]:
    """What each model's latency is made of, with its sources if asked."""
    return tables.latency_notes(report.get("latency") or (), sources)


def read_out_again(report: Report) -> list[tuple[str, float | None, float | None]]:
    """The ANN, and the file's weights put back into ordinary networks.

    Each with its accuracy and the share of images on which it answers as the ANN does.
    """
    again = (report.get("encryption") or {}).get("reconverted") or {}
    agreement = again.get("ann_agreement") or {}
    ann = words.stages_by_name(report).get("ann") or {}
    return [
        ("the ANN itself", ann.get("accuracy"), ann.get("ann_agreement")),
        ("this file's weights, plain ReLU", again.get("relu"), agreement.get("relu")),
        (
            "this file's weights, clipped ReLU",
            again.get("clipped_relu"),
            agreement.get("clipped_relu"),
        ),
    ]


def weight_changes(report: Report) -> list[Row]:
    """Relative change of every weight matrix by training."""
    changes = (report.get("encryption") or {}).get("weight_change") or {}
    return [
        (words.layer_title(layer), quantities.percent(change)) for layer, change in changes.items()
    ]


def leaves(entry: Mapping[str, Any]) -> str:
    """Whether a file is made to be given away."""
    return "may leave the house" if entry.get("may_leave") else "stays in the house"


def most_confused(
    labels: Sequence[str], counts: Sequence[Sequence[int]], most: int = 10
) -> list[tuple[str, str, str]]:
    """Pairs of true class and wrong answer, the most frequent first."""
    wrong = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    worst = sorted(wrong, key=lambda entry: (-entry[0], entry[1], entry[2]))[:most]
    return [(labels[i], labels[j], quantities.count(n)) for n, i, j in worst]
