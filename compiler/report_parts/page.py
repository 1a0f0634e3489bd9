"""report.html: what the template needs, worked out from the report's plain data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler import quantities
from compiler.report_parts import cells, charts, costs, leakage_page, words
from compiler.report_parts.words import Report

_MOST_SQUARES = 1500
"""More cores than this are listed by layer only; squares would be too small to tell apart."""

_MOST_CLASSES = 25
"""A confusion matrix of more classes is drawn, since as a table it is not legible."""


def render(report: Report) -> str:
    """The page as one self-contained string of HTML: no script, no network, all escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(page=page(report))


def page(report: Report) -> dict[str, Any]:
    """Every section's content; None or empty where the report has nothing for it."""
    name = (report.get("model") or {}).get("name", "network")
    return {
        "title": f"{name} as a spiking network",
        "heading": words.heading(report),
        "summary": words.summary(report),
        "warnings": words.other_warnings(report),
        "accuracy": _accuracy(report),
        "by_timestep": costs.by_timestep(report),
        "timestep_choice": costs.timestep_choice(report),
        "agreement": cells.agreement(report),
        "agreement_note": words.COMPARED_NOTE,
        "health": words.health(report),
        "privacy": _privacy(report),
        "audits": leakage_page.sections(report),
        "operations": costs.operations(report),
        "raster": _raster(report),
        "confusion": _confusion(report),
        "energy": costs.energy(report),
        "latency": costs.latency(report),
        "chips": [_chip(chip) for chip in report.get("resources") or ()],
        "timing": _timing(report),
        "files": [_file(entry) for entry in report.get("files") or ()],
        "provenance": _provenance(report),
    }


def _accuracy(report: Report) -> dict[str, Any] | None:
    stages = report.get("stages")
    if not stages:
        return None
    measured = any(stage.get("accuracy") is not None for stage in stages)
    key = "accuracy" if measured else "ann_agreement"
    bars = []
    for stage in stages:
        small = f"{quantities.count(stage.get('samples'))} samples"
        if measured and stage["name"] != "ann":
            small += f", agrees with the ANN on {quantities.percent(stage.get('ann_agreement'))}"
        title = words.stage_title(stage["name"])
        bars.append(
            charts.bar_row(title, stage.get(key), quantities.percent(stage.get(key)), small)
        )
    note = f"Measured on {words.images_in_words(report)}."
    if not measured:
        why = words.why_no_accuracy(report)
        note = f"Agreement with the ANN. {note} Accuracy not measured: {why}."
    return {"bars": bars, "note": note}


def _privacy(report: Report) -> dict[str, Any] | None:
    if not report.get("encryption"):
        return None
    why = words.why_no_accuracy(report)
    verdict = words.leak_verdict(report)
    scores = [
        charts.bar_row(
            name,
            agreement if accuracy is None else accuracy,
            quantities.percent(agreement if accuracy is None else accuracy),
            "agreement with the ANN" if accuracy is None else "",
            series=4 if i else 7,
        )
        for i, (name, accuracy, agreement) in enumerate(cells.read_out_again(report))
    ]
    return {
        "verdict": verdict or f"Re-converted accuracy {quantities.missing(why)}.",
        "scores": scores,
        "changes": cells.weight_changes(report),
        "note": words.OBFUSCATION,
    }


def _raster(report: Report) -> dict[str, Any] | None:
    sample = report.get("sample")
    if not sample:
        return None
    pictures = report.get("shown_pictures")
    layers = [*([pictures["input"]] if pictures else []), *sample["layers"]]
    return {
        "note": words.sample(report),
        "layers": [
            {
                "name": words.layer_title(layer["layer"]),
                "drawn": charts.raster(layer["rows"]),
                "note": words.raster_note(layer, sample["timesteps"]),
            }
            for layer in layers
        ],
        "sheet": leakage_page.data_url(pictures["sheet"]) if pictures else "",
    }


def _confusion(report: Report) -> dict[str, Any] | None:
    matrix = report.get("confusion_matrix")
    if not matrix:
        return None
    labels, counts = matrix["labels"], matrix["counts"]
    if len(labels) > _MOST_CLASSES:
        most = cells.most_confused(labels, counts)
        return {"drawn": charts.heat_map(counts), "most": most, "labels": [], "rows": []}
    rows = []
    for i, (name, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row) or 1
        line = [
            {
                "text": quantities.count(n) if n else "",
                "wrong": i != j,
                "share": f"{min(n / total * (0.7 if i == j else 4), 0.7):.2f}",
            }
            for j, n in enumerate(row)
        ]
        rows.append({"name": name, "cells": line})
    return {"labels": labels, "rows": rows, "drawn": "", "most": []}


def _chip(chip: Mapping[str, Any]) -> dict[str, Any]:
    limits = chip.get("limits") or {}
    cores = chip.get("core_map") or ()
    title = chip.get("title", chip["chip"])
    available = (limits.get("cores") or {}).get("value")
    of = f" of {quantities.count(available)}" if available else ""
    fits = "It fits one chip." if chip["fits"] else "It does not fit one chip as it is."
    keys = ("neurons", "cores", "synaptic_words", "input_axons", "output_axons")
    drawable = 0 < len(cores) <= _MOST_SQUARES and limits
    names = list(dict.fromkeys(use["layer"] for use in cores))
    series = [
        {"name": words.layer_title(name), "series": i % charts.COLOURS}
        for i, name in enumerate(names)
    ]
    columns = ["layer", "kind", "cut into", "neurons", "cores", "words of synapses"]
    return {
        "name": chip["chip"],
        "title": title,
        "sentence": f"{quantities.count(chip['cores'])}{of} cores. {fits} Fullest core: "
        f"{words.fullest_core(chip)}.",
        "drawn": charts.core_map(cores, limits) if drawable else "",
        "legend": series,
        "columns": [*columns, "axons in", "axons out"],
        "rows": [
            (
                row["name"],
                row["kind"],
                row.get("split", ""),
                *(quantities.count(row[k]) for k in keys),
            )
            for row in chip["layers"]
        ],
        "broken": words.broken_rules({"resources": [chip]}),
        "limits": _limits_in_words(limits),
    }


def _limits_in_words(limits: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{name.replace('_', ' ')}: {quantities.count(limit['value'])}"
        f"{' (inferred)' if limit['inferred'] else ''}. {limit['source']}"
        for name, limit in limits.items()
    ]


def _timing(report: Report) -> dict[str, Any] | None:
    timing = report.get("timing")
    if not timing:
        return None
    most = max((value for value in timing.values() if value), default=1)
    total = quantities.seconds(sum(value or 0 for value in timing.values()))
    memory = quantities.size_in_bytes(report.get("peak_memory_bytes"))
    return {
        "bars": [
            charts.bar_row(
                name, None if value is None else value / most, quantities.seconds(value), series=2
            )
            for name, value in timing.items()
        ],
        "note": f"{total} in all; peak memory {memory}.",
    }


def _file(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return (cells.leaves(entry), entry["path"], entry.get("what", ""))


def _provenance(report: Report) -> list[tuple[str, str]]:
    rows = [
        ("command", str(report.get("command") or quantities.missing("not run from a command line")))
    ]
    if report.get("created"):
        rows.append(("created", str(report["created"])))
    rows.append(("seed", str(report.get("seed", quantities.missing()))))
    recipe = (report.get("encryption") or {}).get("recipe")
    if recipe:
        rows.append(("recipe", str(recipe)))
    rows += [(str(name), str(value)) for name, value in (report.get("hashes") or {}).items()]
    rows += [(str(name), str(value)) for name, value in (report.get("versions") or {}).items()]
    rows.append(("report format", str(report.get("schema_version", quantities.missing()))))
    return rows
