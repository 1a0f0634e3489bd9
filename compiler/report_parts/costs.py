"""Sections of the page about cost: operations, energy, latency, and how they depend on T."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler import quantities
from compiler.report_parts import cells, charts, words
from compiler.report_parts.words import Report


def by_timestep(report: Report) -> dict[str, Any] | None:
    """Accuracy of the same integers run for fewer steps."""
    points = report.get("accuracy_by_timestep")
    if not points:
        return None
    pairs = [(float(p["timesteps"]), float(p["accuracy"])) for p in points]
    ann = (words.stages_by_name(report).get("ann") or {}).get("accuracy")
    note = f"Integer network, {words.images_in_words(report)}."
    if ann is not None:
        note += f" Dashed: the ANN, {quantities.percent(ann)}."
    return {"drawn": charts.line_plot(pairs, "steps T", "accuracy", ann), "note": note}


def operations(report: Report) -> dict[str, Any] | None:
    """Activity and operations of every layer."""
    layers = report.get("layers")
    if not layers:
        return None
    rates = [row.get("spikes_per_neuron_and_step") for row in layers]
    most = max((rate for rate in rates if rate is not None), default=0) or 1
    bars = [
        charts.bar_row(
            row["name"],
            None if rate is None else rate / most,
            quantities.percent(rate),
            row["kind"],
        )
        for row, rate in zip(layers, rates, strict=True)
    ]
    keys = ["neurons", "synapses", "macs", "spikes_per_sample", "synops_per_sample"]
    keys += ["synops_effective_per_sample", "neuron_updates_per_sample"]
    columns = ["layer", "kind", "neurons", "synapses", "MACs of the ANN", "spikes"]
    columns += ["synops on chip", "effective synops", "neuron updates"]
    return {"bars": bars, "columns": columns, "rows": cells.operations(report, keys)}


def energy(report: Report) -> dict[str, Any] | None:
    """Energy by model, as bars and as a table."""
    rows = report.get("energy")
    if not rows:
        return None
    first = {row["model"]: row["convention"] for row in reversed(rows)}
    drawn = [row for row in rows if row["gain"] and row["convention"] == first[row["model"]]]
    most = max((max(row["gain"], 1 / row["gain"]) for row in drawn), default=10.0)
    return {
        "most": f"{most:,.0f} x",
        "bars": [_energy_bar(row, most) for row in drawn],
        "columns": cells.ENERGY,
        "rows": cells.energy(report),
        "notes": cells.energy_notes(report, sources=True),
        "claim": words.claim(report),
        "sources": [_source(line) for line in report.get("energy_sources") or ()],
    }


def latency(report: Report) -> dict[str, Any] | None:
    """Latency by model, and what it is made of."""
    rows = [row for row in report.get("latency") or () if row["seconds"] is not None]
    if not rows:
        return None
    return {
        "columns": cells.LATENCY,
        "rows": cells.latency(report),
        "bars": [
            _part_bar(row, part) for row in rows for part in row["parts"] if row["parts"][part]
        ],
        "notes": cells.latency_notes(report, sources=True),
    }


def _part_bar(row: Mapping[str, Any], part: str) -> dict[str, Any]:
    share = row["parts"][part] / row["seconds"]
    seconds = quantities.latency(row["parts"][part])
    return charts.bar_row(part.replace("_", " "), share, seconds, row["title"], series=3)


def _energy_bar(row: Mapping[str, Any], most: float) -> dict[str, Any]:
    layers = "all layers" if row["includes_input_layer"] else "without the input layer"
    return {
        "name": row.get("title") or row["model"],
        "small": f"ANN in {row['ann_precision']}, {layers}",
        "drawn": charts.gain_bar(row["gain"], most),
        "value": quantities.factor(row["gain"]),
    }


def _source(line: Mapping[str, Any]) -> dict[str, str]:
    value = quantities.missing() if line["value"] is None else f"{line['value']:g} {line['unit']}"
    names = ("model", "name", "condition", "source")
    return {"value": value, **{name: str(line[name]) for name in names}}
