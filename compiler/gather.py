"""The stages' results gathered into one report."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from compiler.health import health_warnings
from compiler.report import WITHHELD_AUDITS, audit_file, read_audits, read_shown_pictures
from compiler.report_parts.words import broken_rules
from compiler.run_folder import file_hash
from compiler.steps import Run, peak_memory_bytes
from compiler.versions import tool_versions
from sim.published import published_lines

REPORT_SCHEMA = 1


def gather_report(run: Run) -> dict[str, Any]:
    """The content of report.json and resources.json from what the manifest holds."""
    results = {name: record.results for name, record in run.folder.records.items()}
    evaluated, verified = results["evaluate"], results["verify"]
    report = {
        "schema_version": REPORT_SCHEMA,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": run.request.command,
        "seed": run.config.seed,
        "versions": tool_versions(),
        "hashes": _hashes(run, results),
        "model": {key: results["load"][key] for key in MODEL_KEYS},
        "timesteps": results["convert"]["timesteps"],
        "encoding": run.encoding.code,
        "evaluation": evaluated["evaluation"],
        "stages": evaluated["stages"],
        "encryption": {
            **{key: results["encrypt"][key] for key in ("recipe", "best_epoch", "epochs")},
            "weight_change": evaluated["weight_change"],
            "reconverted": evaluated["reconverted"],
        },
        "agreement": {key: verified[key] for key in ("slayer_vs_reference", "reference_vs_lava")},
        "health": evaluated["health"],
        **{key: evaluated[key] for key in EVALUATED_KEYS},
        "energy_sources": published_lines(),
        **{key: _without_memory(results[stage]) for key, stage in STAGE_KEYS.items()},
        "timing": {name: record.seconds for name, record in run.folder.records.items()},
        "peak_memory_bytes": _peak_memory(results),
        "files": _files(run),
        "pictures": run.request.pictures,
    }
    audited = read_audits(run.folder.path)
    found = [*warnings(report), *_audit_warnings(run, "leakage" in audited)]
    if run.request.pictures:
        audited["shown_pictures"] = read_shown_pictures(run.folder.path)
    return {**report, **audited, "warnings": found}


FILES = (
    ("model.net", "the spiking network for Loihi", True),
    ("model.nir", "the same network for other frameworks", True),
    ("device.net", "it without its first layers", True),
    ("report.html", "this report, for people", False),
    ("report.json", "this report, for programs", False),
    ("resources.json", "what lies on each core of the chips", False),
    ("manifest.json", "what was run and the hashes of its files", False),
    ("config.toml", "all settings, for --config", False),
    ("private", "the ANN, the synthetic images, the stages' files", False),
)
"""Name, what it is, whether it is made to leave the house."""

WHOLE = ("model.net", "model.nir")
"""Files that stay where the network was split: they hold the part that is kept at home."""

AUDITS = {
    audit_file(): "model.net",
    WITHHELD_AUDITS: "it without its first layers",
}
MODEL_KEYS = ("name", "input_shape", "classes", "parameters")
EVALUATED_KEYS = (
    "layers",
    "operations_by_step",
    "energy",
    "latency",
    "privatesnn_claim",
    "resources",
    "confusion_matrix",
    "sample",
    "accuracy_by_timestep",
)
STAGE_KEYS = {
    "lowering": "lower",
    "synthesis": "synthesize",
    "conversion": "convert",
    "quantization": "quantize",
}
"""Key of the report -> stage whose own results stand there."""


def warnings(report: dict[str, Any]) -> list[str]:
    """What a user should know before trusting the file."""
    neurons = {row["name"]: row["neurons"] for row in report["layers"]}
    found = [
        *_evaluation_warnings(report["evaluation"]),
        *health_warnings(report["health"], neurons, report["timesteps"]),
        *bound_warnings(report["quantization"]),
        *report["lowering"]["notes"],
        *broken_rules(report),
    ]
    if report["encryption"]["best_epoch"] == 0:
        found.append(
            "training did not improve the held-out loss: the weights are the converted ones, and "
            "nothing was obfuscated; encrypt.learning_rate_unit=weights, a lower "
            "encrypt.learning_rate or more encrypt.epochs may help"
        )
    return found


def _audit_warnings(run: Run, shown: bool) -> list[str]:
    if shown or not (run.folder.path / audit_file()).is_file():
        return []
    return [
        "audit.json is of another model.net or of another version of this program, or damaged, and "
        "is not shown: run audit.leakage again"
    ]


def _evaluation_warnings(evaluation: dict[str, Any]) -> list[str]:
    note = evaluation["note"]
    if not note:
        return []
    return [f"accuracy not measured: {note}" if evaluation["images"] == "synthetic" else note]


def bound_warnings(quantized: dict[str, Any]) -> list[str]:
    """Layers whose one-step sum, or whose current, could leave the bits that hold it."""
    sums = [
        f"layer {bound['layer']}: if every input of one sign fired at once, the sum would be "
        f"{bound['worst_sum']}, beyond the {bound['accumulator_limit']} of Loihi 1's accumulator"
        for bound in quantized["bounds"]
        if not bound["fits_accumulator"]
    ]
    currents = [
        f"layer {bound['layer']}: if every input of one sign fired at every step, the current "
        f"would reach {bound['state_share']:.1f} times what 24 bits hold, and wrap: raise "
        "current_decay in [encrypt]"
        for bound in quantized["bounds"]
        if bound["state_share"] >= 1
    ]
    return sums + currents


def _hashes(run: Run, results: dict[str, Any]) -> dict[str, str]:
    hashes = {
        "sha256 of model.net": file_hash(run.folder.model),
        "sha256 of its layers": results["export"]["layer_hash"],
    }
    images = results["evaluate"]["evaluation"]["sha256"]
    return hashes | ({"sha256 of the evaluation images": images} if images else {})


def _without_memory(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key != "peak_memory_bytes"}


def _peak_memory(results: dict[str, Any]) -> int:
    recorded = [int(stage.get("peak_memory_bytes", 0)) for stage in results.values()]
    return max([peak_memory_bytes(), *recorded])


def _files(run: Run) -> list[dict[str, Any]]:
    folder, is_split = run.folder.path, run.folder.device.is_file()
    there = [
        (name, what, may_leave and not (is_split and name in WHOLE))
        for name, what, may_leave in FILES
        if name != "device.net" or is_split
    ]
    audits = (
        (path.name, f"what an attacker reads out of {what}", False)
        for pattern, what in AUDITS.items()
        for path in sorted(folder.glob(pattern))
    )
    return [
        {"path": str(folder / name), "what": what, "may_leave": may_leave}
        for name, what, may_leave in (*there, *audits)
    ]
