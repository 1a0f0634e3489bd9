"""The stages' results gathered into one report."""

from __future__ import annotations

from typing import Any

from compiler.run_folder import file_hash
from compiler.steps import Run, peak_memory_bytes
from compiler.versions import tool_versions

REPORT_SCHEMA = 1


def gather_report(run: Run) -> dict[str, Any]:
    """The content of report.json from what the manifest holds."""
    results = {name: record.results for name, record in run.folder.records.items()}
    evaluation, verification = results["evaluate"], results["verify"]
    return {
        "schema_version": REPORT_SCHEMA,
        "seed": run.config.seed,
        "versions": tool_versions(),
        "command": run.request.command,
        "model": {key: results["load"][key] for key in MODEL_KEYS},
        "stages": evaluation["stages"],
        "encryption": {
            "recipe": results["encrypt"]["recipe"],
            "weight_change": evaluation["weight_change"],
            "reconverted": evaluation["reconverted"],
            "best_epoch": results["encrypt"]["best_epoch"],
            "epochs": results["encrypt"]["epochs"],
        },
        "conversion": _without_memory(results["convert"]),
        "synthesis": _without_memory(results["synthesize"]),
        "lowering": _without_memory(results["lower"]),
        "quantization": _without_memory(results["quantize"]),
        "agreement": {
            "slayer_vs_reference": verification["slayer_vs_reference"],
            "reference_vs_lava": verification["reference_vs_lava"],
        },
        "health": evaluation["health"],
        "layers": evaluation["layers"],
        "energy": evaluation["energy"],
        "energy_claim": evaluation["energy_claim"],
        "resources": evaluation["resources"],
        "timing": {name: record.seconds for name, record in run.folder.records.items()},
        "peak_memory_bytes": _peak_memory(results),
        "files": _files(run),
        "hashes": {"model.net": file_hash(run.folder.model)},
        "warnings": warnings(results),
    }


MODEL_KEYS = ("name", "input_shape", "classes", "parameters")


def warnings(results: dict[str, Any]) -> list[str]:
    """What a user should know before trusting the file."""
    found = [
        *results["evaluate"]["notes"],
        *_health_warnings(results["evaluate"]["health"]),
        *_bound_warnings(results["quantize"]),
        *results["lower"]["notes"],
        *_resource_warnings(results["evaluate"]["resources"]),
    ]
    if results["encrypt"]["best_epoch"] == 0:
        found.append(
            "training did not improve the held-out loss: the weights are the converted ones, "
            "and nothing was obfuscated"
        )
    return found


def _health_warnings(health: dict[str, Any]) -> list[str]:
    found = []
    if health["readout_spikes"]:
        found.append(
            f"the read-out fired {health['readout_spikes']} times and lost its voltage: raise "
            "readout_margin in [convert]"
        )
    if health["voltage_saturations"]:
        found.append(
            f"v was clipped {health['voltage_saturations']} times: raise readout_margin in "
            "[convert] or lower --timesteps"
        )
    for layer in health["layers"]:
        if layer["silent"] > layer["neurons"] // 2:
            share = layer["silent"] / layer["neurons"]
            found.append(
                f"layer {layer['name']}: {share:.0%} of the neurons never fired; a high "
                "percentile or dead ReLUs in the ANN are the likely cause"
            )
        if layer["saturated"]:
            found.append(f"layer {layer['name']}: {layer['saturated']} neurons fired at every step")
    return found


def _bound_warnings(quantized: dict[str, Any]) -> list[str]:
    return [
        f"layer {bound['layer']}: if every input of one sign fired at once, the sum would be "
        f"{bound['worst_sum']}, beyond the {bound['accumulator_limit']} of Loihi 1's accumulator"
        for bound in quantized["bounds"]
        if not bound["fits_accumulator"]
    ]


def _resource_warnings(resources: list[dict[str, Any]]) -> list[str]:
    return [
        f"{row['chip']}, {violation['rule']}: layer {violation['layer']}: found "
        f"{violation['found']}; allowed: {violation['allowed']}. {violation['remedy']}"
        for row in resources
        for violation in row["violations"]
    ]


def _without_memory(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if key != "peak_memory_bytes"}


def _peak_memory(results: dict[str, Any]) -> int:
    recorded = [int(stage.get("peak_memory_bytes", 0)) for stage in results.values()]
    return max([peak_memory_bytes(), *recorded])


def _files(run: Run) -> list[dict[str, Any]]:
    folder = run.folder.path
    entries = (
        ("model.net", "the spiking network for Loihi", True),
        ("report.html", "this report, for people", False),
        ("report.json", "this report, for programs", False),
        ("manifest.json", "what was run and the hashes of its files", False),
        ("private", "the ANN, the synthetic images, the stages' files", False),
    )
    return [
        {"path": str(folder / name), "what": what, "may_leave": may_leave}
        for name, what, may_leave in entries
    ]
