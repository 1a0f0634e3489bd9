"""Rows of words that the terminal table and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler import quantities
from compiler.report_parts import words
from compiler.report_parts.words import Report

Row = tuple[str, ...]

AGREEMENT = ("between", "samples", "spikes", "different")
ENERGY = ("model, convention", "ANN as", "ANN", "SNN", "SNN takes", "w/o input layer")
_COUNTED = ("samples", "spikes", "mismatches")
_COMPARED = {
    "slayer_vs_reference": "SLAYER and the integer simulator",
    "reference_vs_lava": "the integer simulator and Lava",
}


def agreement(report: Report) -> list[Row]:
    """Which simulators were compared: samples, spikes, differing spikes."""
    rows: list[Row] = []
    for key, pair in (report.get("agreement") or {}).items():
        title = _COMPARED.get(key, key)
        if not pair:
            rows.append((title, "not compared", "", ""))
            continue
        samples, spikes, wrong = (quantities.count(pair.get(k)) for k in _COUNTED)
        rows.append((title, samples, spikes, wrong))
    return rows


def operations(report: Report, keys: Sequence[str]) -> list[Row]:
    """Name, kind and the numbers under `keys` of every layer, then their sums."""
    layers = report.get("layers") or ()
    rows: list[Row] = [
        (row["name"], row["kind"], *(quantities.count(row.get(key)) for key in keys))
        for row in layers
    ]
    totals = (sum(float(row.get(key) or 0) for row in layers) for key in keys)
    return [*rows, ("all", "", *(quantities.count(total) for total in totals))]


def energy(report: Report) -> list[Row]:
    """One row a model, convention and precision of the ANN, with and without the input layer."""
    rows = report.get("energy") or ()
    cells: list[Row] = []
    for row in rows:
        if not row.get("includes_input_layer"):
            continue
        part = without_input_layer(row, rows) or {}
        joules = (quantities.joules(row["ann_joules"]), quantities.joules(row["snn_joules"]))
        takes = (quantities.factor(row["gain"]), quantities.factor(part.get("gain")))
        cells.append(
            (f"{row['model']}, {row['convention']}", row["ann_precision"], *joules, *takes)
        )
    return cells


def energy_notes(report: Report, sources: bool) -> list[str]:
    """What each model charges, once a model, with its sources if asked."""
    notes = []
    for row in report.get("energy") or ():
        note = f"{row['model']}: {row.get('note') or row['source']}"
        if sources and row.get("note") and row["source"]:
            note += f". Source: {row['source']}"
        notes.append(note)
    return list(dict.fromkeys(notes))


def without_input_layer(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The same energy figure without the input layer."""
    same = ("model", "convention", "ann_precision")
    for other in rows:
        if not other.get("includes_input_layer") and all(other[k] == row[k] for k in same):
            return other
    return None


def read_out_again(report: Report) -> list[tuple[str, float | None]]:
    """Accuracy of the ANN and of the file's weights put back into ordinary networks."""
    again = (report.get("encryption") or {}).get("reconverted") or {}
    ann = (words.stages_by_name(report).get("ann") or {}).get("accuracy")
    return [
        ("the ANN itself", ann),
        ("this file's weights, plain ReLU", again.get("relu")),
        ("this file's weights, clipped ReLU", again.get("clipped_relu")),
    ]


def weight_changes(report: Report) -> list[Row]:
    """Relative change of every weight matrix by training."""
    changes = (report.get("encryption") or {}).get("weight_change") or {}
    return [(layer, quantities.percent(change)) for layer, change in changes.items()]


def leaves(entry: Mapping[str, Any]) -> str:
    """Whether a file is made to be given away."""
    return "may leave the house" if entry.get("may_leave") else "stays in the house"
