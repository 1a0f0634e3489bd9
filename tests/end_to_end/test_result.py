"""What a compile leaves: files, report, and the same bytes for the same seed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from compiler import evaluate_step
from compiler.errors import DataError
from compiler.report import add_leakage
from compiler.run_folder import file_hash
from netx_export import read_netx
from sim.datasets import load_dataset
from sim.reference import simulate

STAGES = (
    "load", "lower", "synthesize", "convert", "encrypt", "quantize", "export", "verify",
    "evaluate", "report",
)  # fmt: skip
LAYERS = 4


@pytest.fixture(scope="module")
def report(whole_run: Any) -> dict[str, Any]:
    folder, outcome = whole_run
    assert outcome.status == 0, outcome.err
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_the_command_says_what_it_did(whole_run: Any) -> None:
    folder, outcome = whole_run
    assert (outcome.status, outcome.err) == (0, "")
    for number, stage in enumerate(STAGES, 1):
        assert re.search(rf"^ *{number}/10 +{stage} .* s$", outcome.out, re.MULTILINE), stage
    for word in ("accuracy", "agrees", "energy", "cores", "weights", "model.net"):
        assert word in outcome.out.lower(), word
    assert {"model.net", "report.json", "report.html", "manifest.json", "private"} <= {
        path.name for path in folder.iterdir()
    }


def test_lava_is_not_given_hours(
    finished: Path, export: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` compares as many samples as were asked for; the accuracy needs one to be there."""
    monkeypatch.setattr(evaluate_step, "MOST_LAVA_SECONDS", 0)
    asked = ("--eval", "digits", "--samples", 20, "--lava-samples", 2, "--from", "evaluate")
    outcome = export(*command, "--out", finished, *asked)
    assert outcome.status == 0, outcome.err
    assert "Lava is measured on one image" in outcome.out
    found = json.loads((finished / "report.json").read_text())
    assert found["agreement"]["reference_vs_lava"]["samples"] == 2
    (lava,) = (stage for stage in found["stages"] if stage["name"] == "lava")
    assert lava["samples"] == 1


def test_the_report_has_every_field(report: dict[str, Any]) -> None:
    assert report["schema_version"] >= 1 and report["seed"] == 0
    assert {"lava-nc", "lava-dl", "torch", "numpy"} <= set(report["versions"])
    assert report["command"].startswith("python -m compiler.export")
    model = report["model"]
    assert (model["input_shape"], model["classes"]) == ([1, 8, 8], 10)
    assert model["name"] == "digits" and model["parameters"] == 38_282
    assert set(STAGES) - {"report"} <= set(report["timing"]) <= set(STAGES)
    assert all(seconds >= 0 for seconds in report["timing"].values())
    assert report["peak_memory_bytes"] > 50e6
    assert isinstance(report["warnings"], list)


def test_every_stage_is_measured_over_the_same_images(report: dict[str, Any]) -> None:
    stages = {stage["name"]: stage for stage in report["stages"]}
    assert list(stages) == ["ann", "converted", "encrypted", "integer", "lava"]
    for name in ("ann", "converted", "encrypted", "integer"):
        assert stages[name]["samples"] == 20
    assert stages["lava"]["samples"] == 2
    for name, stage in stages.items():
        assert 0 <= stage["accuracy"] <= 1 and 0 <= stage["ann_agreement"] <= 1
        assert stage["timesteps"] == (None if name == "ann" else 16)
    assert stages["ann"]["ann_agreement"] == 1 and stages["ann"]["accuracy"] >= 0.9
    assert stages["integer"]["accuracy"] >= 0.6
    assert stages["encrypted"]["accuracy"] == stages["integer"]["accuracy"]


def test_the_accuracy_is_that_of_the_file(whole_run: Any, report: dict[str, Any]) -> None:
    digits = load_dataset("digits", (1, 8, 8), 20, seed=0)
    found = simulate(read_netx(whole_run[0] / "model.net").graph, digits.images_nchw)
    (integer,) = [stage for stage in report["stages"] if stage["name"] == "integer"]
    assert integer["accuracy"] == np.mean(found.predictions_n == digits.labels)


def test_the_proof_is_in_the_report(report: dict[str, Any]) -> None:
    slayer = report["agreement"]["slayer_vs_reference"]
    lava = report["agreement"]["reference_vs_lava"]
    assert slayer["mismatches"] == lava["mismatches"] == 0
    assert slayer["samples"] >= 8 and lava["samples"] == 2
    assert slayer["spikes"] > 1000 and lava["spikes"] > 1000


def test_training_and_what_it_hides_are_in_the_report(report: dict[str, Any]) -> None:
    encryption = report["encryption"]
    assert encryption["recipe"] == "distill"
    changes = encryption["weight_change"]
    assert len(changes) == LAYERS and all(0 < change < 2 for change in changes.values())
    for name in ("relu", "clipped_relu"):
        assert 0 <= encryption["reconverted"][name] <= 1


def test_health_operations_energy_and_cores_are_in_the_report(report: dict[str, Any]) -> None:
    health = report["health"]
    assert health["readout_spikes"] == 0 and health["voltage_saturations"] == 0
    assert {"silent", "saturated"} <= set(health)
    layers = report["layers"]
    synapses = [layer for layer in layers if layer["macs"]]
    assert len(synapses) == LAYERS
    for layer in layers:
        assert {"name", "kind", "neurons", "synapses", "macs"} <= set(layer)
        assert layer["spikes_per_sample"] >= 0 and layer["synops_per_sample"] >= 0
    wanted = {
        "model", "source", "convention", "ann_precision", "ann_joules", "snn_joules", "gain",
        "includes_input_layer",
    }  # fmt: skip
    assert report["energy"] and all(wanted <= set(row) for row in report["energy"])
    assert {"loihi1", "loihi2"} == {row["chip"] for row in report["resources"]}
    assert all(row["cores"] >= 1 and row["fits"] for row in report["resources"])


def test_the_page_shows_no_synthetic_image(whole_run: Any) -> None:
    page = (whole_run[0] / "report.html").read_text()
    assert "model.net" in page
    assert "data:image" not in page and "<img" not in page


def test_synthetic_images_are_shown_where_they_are_asked_for(
    finished: Path, export: Any, command: list[str]
) -> None:
    same = (*command, "--out", finished, "--eval", "digits", "--samples", 20, "--lava-samples", 2)
    page = finished / "report.html"
    assert export(*same, "--pictures").status == 0
    assert page.read_text().count("data:image/png;base64,") == 1
    report = json.loads((finished / "report.json").read_text())
    assert report["pictures"] and "shown_pictures" not in report
    add_leakage(finished)
    assert page.read_text().count("data:image/png;base64,") == 1
    assert export(*same).status == 0
    assert "data:image" not in page.read_text()


def test_the_folder_says_how_it_was_made(whole_run: Any, export: Any, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(whole_run[0], folder)
    outcome = export("--config", folder / "config.toml", "--out", folder)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("already done") >= 8


def test_json_has_the_standard_output_for_itself(
    finished: Path, export: Any, command: list[str]
) -> None:
    same = (*command, "--out", finished, "--eval", "digits", "--samples", 20, "--lava-samples", 2)
    outcome = export(*same, "--json", "-")
    assert outcome.status == 0
    assert json.loads(outcome.out) == json.loads((finished / "report.json").read_text())
    assert "already done" in outcome.err
    quiet = export(*same, "--json", "-", "--quiet")
    assert json.loads(quiet.out)["model"]["name"] == "digits" and quiet.err == ""


def test_the_sample_is_the_chips_own_run(whole_run: Any, report: dict[str, Any]) -> None:
    sample = report["sample"]
    layers = {layer["layer"]: layer for layer in sample["layers"]}
    assert list(layers) == [row["name"] for row in report["layers"] if row["kind"] != "input"]
    assert {len(row) for layer in sample["layers"] for row in layer["rows"]} == {16}
    assert layers["0"]["neurons"] == 1024 and len(layers["0"]["rows"]) == 64
    last = sample["layers"][-1]
    assert last["spikes"] == 0 and len(last["rows"]) == 10


def test_nothing_of_the_owner_is_in_the_file(whole_run: Any) -> None:
    """No path, no ANN, no synthetic image: integers, and the group that describes them."""
    folder, _ = whole_run
    content = (folder / "model.net").read_bytes()
    for word in (b"/root", b"/tmp", b"/work", str(folder.parent).encode(), b"synthetic"):
        assert word not in content, word
    with h5py.File(folder / "model.net") as file:
        assert set(file) == {"layer", "deployment"}
        kinds: set[str] = set()

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and name.startswith("layer/"):
                kinds.add(item.dtype.kind)

        file.visititems(visit)
    assert kinds <= {"i", "b", "S"}  # no float


def test_nothing_half_written_is_left(whole_run: Any) -> None:
    assert not [path for path in whole_run[0].rglob("*") if "tmp" in path.name]
    manifest = json.loads((whole_run[0] / "manifest.json").read_text())
    assert tuple(manifest["stages"]) == STAGES
    for record in manifest["stages"].values():
        for name, digest in record["files"].items():
            assert file_hash(whole_run[0] / name) == digest


def test_the_file_is_the_same_without_evaluation_and_without_data(
    whole_run: Any, export: Any, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing of the data can be in it; and two compiles of one seed write the same bytes."""
    from sim import datasets

    def absent(*arguments: Any, **more: Any) -> Any:
        raise DataError("the images are not on this machine")

    expected = (whole_run[0] / "model.net").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", absent)
        outcome = export(*command, "--out", tmp_path / "absent", "--quiet")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "absent" / "model.net").read_bytes() == expected
    outcome = export(*command, "--out", tmp_path / "none", "--eval", "none", "--to", "verify")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "none" / "model.net").read_bytes() == expected
    private = ["synthetic", "converted", "encrypted", "chip"]
    for name in private:
        one, other = (
            folder / "private" / f"{name}.safetensors"
            for folder in (whole_run[0], tmp_path / "none")
        )
        assert one.read_bytes() == other.read_bytes(), name


def test_another_seed_gives_another_file(
    whole_run: Any, export: Any, command: list[str], tmp_path: Path
) -> None:
    outcome = export(*command, "--out", tmp_path / "run", "--seed", 1, "--to", "verify")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "run" / "model.net").read_bytes() != (
        whole_run[0] / "model.net"
    ).read_bytes()


def test_without_data_the_agreement_stands_in_and_says_so(
    finished: Path, export: Any, command: list[str]
) -> None:
    outcome = export(*command, "--out", finished, "--eval", "none")
    assert outcome.status == 0, outcome.err
    report = json.loads((finished / "report.json").read_text())
    for stage in report["stages"]:
        assert stage["accuracy"] is None and stage["samples"] == 24
        assert 0 <= stage["ann_agreement"] <= 1
        assert "synthetic" in stage["images"]
    assert "synthetic" in outcome.out and "not measured" in outcome.out
    assert any("not measured" in warning for warning in report["warnings"])


@pytest.mark.parametrize("code", ["poisson", "latency"])
def test_other_input_codes_go_the_whole_way(
    finished: Path, export: Any, command: list[str], code: str
) -> None:
    """Proof included: the same spikes in SLAYER and from the file."""
    outcome = export(*command, "--out", finished, "--encoding", code, "--to", "verify")
    assert outcome.status == 0, outcome.err
    encoding = read_netx(finished / "model.net").graph.encoding
    assert encoding is not None and encoding.code == code
    manifest = json.loads((finished / "manifest.json").read_text())
    proof = manifest["stages"]["verify"]["results"]["slayer_vs_reference"]
    assert proof["mismatches"] == 0 and proof["spikes"] > 100
