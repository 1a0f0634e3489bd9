"""Rows of words for operations, energy and latency, after a compile and after a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler import quantities

Row = tuple[str, ...]
Entries = Sequence[Mapping[str, Any]]

ENERGY_COLUMNS = ("model, convention", "ANN as", "ANN", "SNN", "SNN takes", "w/o input layer")

LATENCY_COLUMNS = (
    "model", "latency", "overlapped", "steps", "a step", "slowest core in", "static",
    "energy x delay",
)  # fmt: skip


def operations(layers: Entries, keys: Sequence[str]) -> list[Row]:
    """Name, kind and the numbers under `keys` of every layer, then their sums.

    layers: the rows of sim.synops.build_operations.
    """
    rows: list[Row] = [
        (row["name"], row["kind"], *(quantities.count(row.get(key)) for key in keys))
        for row in layers
    ]
    totals = (sum(float(row.get(key) or 0) for row in layers) for key in keys)
    return [*rows, ("all", "", *(quantities.count(total) for total in totals))]


def energy(rows: Entries) -> list[Row]:
    """One row a model, convention and precision of the ANN, with and without the input layer.

    rows: those of sim.energy.energy_rows; a model without values has no row, only a note.
    """
    cells: list[Row] = []
    for row in rows:
        if not row.get("includes_input_layer") or row["snn_joules"] is None:
            continue
        part = _without_input_layer(row, rows) or {}
        joules = (quantities.joules(row["ann_joules"]), quantities.joules(row["snn_joules"]))
        takes = (quantities.gain(row), quantities.gain(part))
        cells.append(
            (f"{row['model']}, {row['convention']}", row["ann_precision"], *joules, *takes)
        )
    return cells


def energy_notes(rows: Entries, sources: bool) -> list[str]:
    """What each model charges, once a model, with its sources if asked."""
    notes = []
    for row in rows:
        note = f"{row['model']}: {row.get('note') or row['source']}"
        if sources and row.get("note") and row["source"]:
            note += f". Source: {row['source']}"
        notes.append(note)
    return list(dict.fromkeys(notes))


def latency(rows: Entries) -> list[Row]:
    """One row a model that has times; rows: those of sim.latency.latency_rows."""
    return [
        (
            str(row["model"]),
            quantities.latency(row["seconds"]),
            quantities.latency(row["seconds_least"]),
            quantities.count(row["time_steps"]),
            quantities.latency(row["seconds_per_step"]),
            _layer_title(row["slowest_layer"]),
            "-" if row["static_joules"] is None else quantities.joules(row["static_joules"]),
            quantities.energy_delay(row["energy_delay_product"]),
        )
        for row in rows
        if row["seconds"] is not None
    ]


def latency_notes(rows: Entries, sources: bool) -> list[str]:
    """What each model's latency is made of, or why there is none, with its sources if asked."""
    notes = []
    for row in rows:
        note = f"{row['model']}: {row['note']}"
        if row["seconds"] is not None:
            note += f"; mean over {quantities.count(row['samples'])} images"
        if sources and row["source"]:
            note += f". Source: {row['source']}"
        notes.append(note)
    return notes


def _layer_title(name: str) -> str:
    """A layer's name; a mere number, as torch gives, with the word before it."""
    return f"layer {name}" if name.isdigit() else name


def _without_input_layer(row: Mapping[str, Any], rows: Entries) -> Mapping[str, Any] | None:
    """The same energy figure without the input layer."""
    same = ("model", "convention", "ann_precision")
    for other in rows:
        if not other.get("includes_input_layer") and all(other[k] == row[k] for k in same):
            return other
    return None
