"""Sections of the page about cost: operations, energy, latency, and how they depend on T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from compiler import quantities
from compiler.report_parts import cells, charts, words
from compiler.report_parts.words import Report

_CHOICE_COLUMNS = ("T", "weighted", "unweighted", "percentile", "synops on chip")


def by_timestep(report: Report) -> dict[str, Any] | None:
    """The same integers run for fewer steps: accuracy, or agreement without labels, and energy."""
    points = report.get("accuracy_by_timestep")
    if not points:
        return None
    measured = points[0]["accuracy"] is not None
    key = "accuracy" if measured else "ann_agreement"
    what = "accuracy" if measured else "agreement with the ANN"
    pairs = [(float(point["timesteps"]), float(point[key])) for point in points]
    ann = (words.stages_by_name(report).get("ann") or {}).get("accuracy")
    note = (
        f"Integer network, {words.images_in_words(report)}; nothing is trained again for fewer T."
    )
    if not measured:
        note += " Agreement with the ANN, since there are no labels."
    if ann is not None:
        note += f" Dashed: the ANN, {quantities.percent(ann)}."
    return {
        "what": what.capitalize(),
        "drawn": charts.line_plot(pairs, "steps T", what, ann),
        "energy": _energy_by_timestep(points),
        "legend": _legend(points),
        "note": note,
    }


def timestep_choice(report: Report) -> dict[str, Any] | None:
    """How T was chosen: agreement and energy of the network converted anew for every T."""
    found = (report.get("conversion") or {}).get("timestep_choice")
    if not found:
        return None
    tried = found["tried"]
    pairs = [(float(one["timesteps"]), float(one["weighted_agreement"])) for one in tried]
    drawn = charts.line_plot(
        pairs, "steps T", "weighted agreement with the ANN", found["wanted"], found["timesteps"]
    )
    rows = [
        (
            f"{one['timesteps']}, chosen"
            if one["timesteps"] == found["timesteps"]
            else str(one["timesteps"]),
            quantities.percent(one["weighted_agreement"]),
            quantities.percent(one["agreement"]),
            f"{one['percentile']:g}",
            quantities.count(one["synops_per_sample"]),
            *(quantities.joules(joules) for joules in one["snn_joules"].values()),
        )
        for one in tried
    ]
    return {
        "what": "Agreement with the ANN, weighted",
        "drawn": drawn,
        "energy": _energy_by_timestep(tried),
        "legend": _legend(tried),
        "columns": (*_CHOICE_COLUMNS, *tried[0]["snn_joules"]),
        "rows": rows,
        "note": words.timestep_choice(found),
    }


def _energy_by_timestep(points: Sequence[Mapping[str, Any]]) -> Markup:
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        for model, joules in (point.get("snn_joules") or {}).items():
            if joules:
                lines.setdefault(model, []).append((float(point["timesteps"]), float(joules)))
    if not lines:
        return Markup("")
    return charts.log_plot(lines, "steps T", "energy an inference", quantities.joules)


def _legend(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    models = dict.fromkeys(model for point in points for model in point.get("snn_joules") or {})
    return [{"name": name, "series": i % charts.COLOURS} for i, name in enumerate(models)]


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
    rows = cells.operations(report, keys)
    return {"bars": bars, "columns": columns, "rows": rows, "by_step": _by_step(report)}


def _by_step(report: Report) -> dict[str, Any] | None:
    """Synaptic operations of every layer, step by step."""
    counted = [row for row in report.get("operations_by_step") or () if "synops" in row]
    if not counted:
        return None
    keys = ("mean", "least", "most")
    series = {row["name"]: tuple(row["synops"][key] for key in keys) for row in counted}
    return {
        "drawn": charts.band_plot(
            series, "step of the layer", "synaptic operations", quantities.short_count
        ),
        "legend": [
            {"name": words.layer_title(name), "series": i % charts.COLOURS}
            for i, name in enumerate(series)
        ],
    }


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
        "value": quantities.gain(row),
    }


def _source(line: Mapping[str, Any]) -> dict[str, str]:
    value = quantities.missing() if line["value"] is None else f"{line['value']:g} {line['unit']}"
    names = ("model", "name", "condition", "source")
    return {"value": value, **{name: str(line[name]) for name in names}}
