"""A compile's own report: every field of the contract, in order, and true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from compiler.export import run
from compiler.gather import FILES, bound_warnings
from sim.run import run as run_sim

TINY = """
[synthesize]
count = 96
held_out = 32
steps = 5
[convert]
images = 48
percentiles = [99.0]
threshold_scales = [1.0]
[encrypt]
epochs = 1
"""
SAMPLES = 60


def compiled(folder: Path, *arguments: str) -> dict:
    (folder / "tiny.toml").write_text(TINY)
    command = ["--config", str(folder / "tiny.toml"), "--out", str(folder / "out")]
    assert run([*command, "--lava-samples", "0", *arguments]) == 0
    return json.loads((folder / "out" / "report.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def made(folder: Path) -> dict:
    """The report of a small compile of the embedded default."""
    return compiled(folder, "--samples", str(SAMPLES), "--quiet")


def test_every_field_of_the_contract_is_there(made: dict) -> None:
    fields = {
        "schema_version", "seed", "versions", "command", "model", "stages", "encryption",
        "agreement", "health", "layers", "energy", "resources", "timing", "peak_memory_bytes",
        "warnings", "timesteps", "encoding", "evaluation", "energy_sources", "privatesnn_claim",
        "hashes", "latency", "confusion_matrix", "accuracy_by_timestep",
    }  # fmt: skip
    assert fields <= set(made)
    assert set(made["model"]) == {"name", "input_shape", "classes", "parameters"}
    assert [stage["name"] for stage in made["stages"]] == [
        "ann",
        "converted",
        "encrypted",
        "integer",
    ]
    for stage in made["stages"]:
        assert stage["samples"] == SAMPLES and stage["images"] == "real"
        assert {"accuracy", "ann_agreement", "timesteps"} <= set(stage)
    assert set(made["health"]) == {
        "readout_spikes", "voltage_saturations", "clipped", "silent", "saturated", "silent_causes",
        "saturated_causes",
    }  # fmt: skip
    for key in ("silent", "saturated"):
        causes = made["health"][f"{key}_causes"]
        assert {name: sum(split.values()) for name, split in causes.items()} == made["health"][key]
    assert {"relu", "clipped_relu"} <= set(made["encryption"]["reconverted"])
    assert made["agreement"]["slayer_vs_reference"]["mismatches"] == 0
    assert made["agreement"]["reference_vs_lava"] is None
    assert (made["timesteps"], made["encoding"]) == (32, "rate")
    evaluation = made["evaluation"]
    assert (evaluation["data"], evaluation["images"]) == ("digits", "real")
    assert evaluation["note"] is None


def test_names_stand_in_the_order_of_the_network(made: dict) -> None:
    layers = [row["name"] for row in made["layers"]]
    assert list(made["encryption"]["weight_change"]) == layers[1:]
    assert list(made["health"]["silent"]) == layers[1:-1]
    assert list(made["timing"])[:3] == ["load", "lower", "synthesize"]


def test_a_simulation_of_the_file_gives_the_same_figures(made: dict, folder: Path) -> None:
    out = folder / "sim.json"
    command = [str(folder / "out" / "model.net"), "--data", "digits", "--quiet"]
    assert run_sim([*command, "--samples", str(SAMPLES), "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    integer = made["stages"][3]
    assert found["accuracy"] == integer["accuracy"]
    last = made["accuracy_by_timestep"][-1]
    assert (last["timesteps"], last["accuracy"]) == (32, integer["accuracy"])
    assert (last["samples"], last["ann_agreement"]) == (SAMPLES, integer["ann_agreement"])
    assert last["synops_per_sample"] == pytest.approx(found["synops_per_sample"])
    assert [row["timesteps"] for row in made["accuracy_by_timestep"]] == [4, 8, 16, 32]
    joules = [row["snn_joules"]["loihi1-davies-2018, chip"] for row in made["accuracy_by_timestep"]]
    assert joules == sorted(joules)
    assert joules[-1] == next(
        row["snn_joules"] for row in made["energy"] if row["model"] == "loihi1-davies-2018"
    )
    for key in ("latency", "operations_by_step"):
        assert found[key] == made[key]
    same = ("model", "convention", "includes_input_layer", "snn_joules", "parts", "note")
    assert [[row[key] for key in same] for row in found["energy"]] == [
        [row[key] for key in same] for row in made["energy"]
    ]
    for ours, theirs in zip(made["layers"], found["layers"], strict=True):
        assert {**ours, "macs": 0} == {**theirs, "macs": 0}
    counts = np.array(made["confusion_matrix"]["counts"])
    assert counts.sum() == SAMPLES and np.trace(counts) == found["correct"]
    assert made["confusion_matrix"]["labels"] == [str(digit) for digit in range(10)]


def test_the_map_of_the_cores_stands_beside_the_report(made: dict, folder: Path) -> None:
    beside = json.loads((folder / "out" / "resources.json").read_text())
    assert [chip["chip"] for chip in beside["chips"]] == ["loihi1", "loihi2"]
    for whole, lean in zip(beside["chips"], made["resources"], strict=True):
        assert len(whole.pop("core_map")) == whole["cores"]
        assert whole == lean


def test_without_data_nothing_is_claimed(
    made: dict, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the evaluation runs again; the file does not change."""
    before = (folder / "out" / "model.net").read_bytes()
    report = compiled(folder, "--eval", "none")
    assert (folder / "out" / "model.net").read_bytes() == before
    assert {stage["accuracy"] for stage in report["stages"]} == {None}
    assert report["evaluation"]["images"] == "synthetic"
    assert report["confusion_matrix"] is None
    assert {row["accuracy"] for row in report["accuracy_by_timestep"]} == {None}
    agreement = report["stages"][3]["ann_agreement"]
    assert report["accuracy_by_timestep"][-1]["ann_agreement"] == agreement
    again = report["encryption"]["reconverted"]
    assert again["relu"] is None and 0 <= again["ann_agreement"]["relu"] <= 1
    printed = capsys.readouterr().out
    assert "Accuracy not measured: no labelled images were given" in printed
    assert max(len(line) for line in printed.splitlines()) <= 100
    assert any("no labelled images" in warning for warning in report["warnings"])
    assert "sha256 of the evaluation images" not in report["hashes"]
    assert "sha256 of the evaluation images" in made["hashes"]


OPEN_TABLES = {
    "versions": "{tool}",
    "hashes": "{what}",
    "timing": "{stage}",
    "encryption.weight_change": "{layer}",
    "health.silent": "{layer}",
    "health.saturated": "{layer}",
    "health.silent_causes": "{layer}",
    "health.saturated_causes": "{layer}",
    "quantization.clipped_share": "{layer}",
    "accuracy_by_timestep[].snn_joules": "{model}",
    "energy[].parts": "{event}",
    "latency[].parts": "{part}",
    "resources[].limits": "{limit}",
}
"""Tables whose keys are names."""


def field_paths(value: object, path: str = "") -> set[str]:
    """Paths to everything that is no table, as docs/report.md writes them."""
    if isinstance(value, dict):
        found = set()
        for key, item in value.items():
            part = OPEN_TABLES.get(path)
            below = f"{path}{part}" if part else f"{path}.{key}" if path else key
            found |= field_paths(item, below)
        return found
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {below for item in value for below in field_paths(item, f"{path}[]")}
    return {path}


def described_paths(text: str) -> set[str]:
    """Fields of the tables under `## report.json`, each behind its heading."""
    text = text[text.index("## report.json") : text.index("## resources.json")]
    found, prefix = set(), ""
    for line in text.splitlines():
        if line.startswith("### "):
            heading = re.findall(r"`(.+)`", line)
            prefix = f"{heading[0]}." if heading else ""
        if line.startswith("| `"):
            found.add(prefix + line.split("`")[1])
    return found


def test_every_field_is_described_and_there(made: dict) -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    actual = field_paths(made)
    described = described_paths(text)
    # Lava was not run, T was given, there are no pools, one model has no values on this machine
    absent_here = {
        "agreement.reference_vs_lava": {
            f"agreement.reference_vs_lava.{key}" for key in ("samples", "spikes", "mismatches")
        },
        "energy[].parts": {"energy[].parts{event}"},
        "health.clipped": {"health.clipped{layer}"},
        "latency[].parts": {"latency[].parts{part}"},
        **{
            choice: {path for path in described if path.startswith(f"{choice}.")}
            for choice in ("conversion.timestep_choice", "conversion.pool_choice")
        },
    }
    for path, parts in absent_here.items():
        actual = actual - {path} | parts
    assert actual == described


def test_the_privacy_page_says_of_every_file_whether_it_may_leave() -> None:
    text = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
    table = text[text.index("## What to give away") : text.index("## Before you give it away")]
    for name, _, may_leave in FILES:
        lines = [line for line in table.splitlines() if f"`{name}" in line.split(" | ")[0]]
        assert any(("made to leave the house" in line) == may_leave for line in lines), name


def test_sums_that_could_wrap_are_told() -> None:
    bound = {"layer": "a", "worst_sum": 9, "accumulator_limit": 32768}
    within = bound | {"fits_accumulator": True, "state_share": 0.9}
    beyond = bound | {"layer": "b", "fits_accumulator": False, "state_share": 1.0}
    sums, currents = bound_warnings({"bounds": [within, beyond]})
    assert "layer b" in sums and "Loihi 1" in sums
    assert "layer b" in currents and "current_decay" in currents
