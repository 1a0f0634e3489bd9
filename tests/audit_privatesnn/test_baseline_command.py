"""`python -m audit.privatesnn` on digits with small settings: its JSON, going on, mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit import measure, reconversion
from audit.attacks import ATTACKS, QUICK
from audit.privatesnn import run as baseline
from audit.privatesnn.__main__ import _show_stages, run
from audit.privatesnn.build import Builder
from audit.privatesnn.network import PrivateSnn, answers
from audit.privatesnn.settings import Settings, Training, fewer_images
from audit.privatesnn.subject import float_subject
from compiler.config import SynthesisConfig
from compiler.ir.ann import AnnGraph

SMALL = ("--preset", "digits", "--quick", "--timesteps", "8", "--epochs", "1", "--images", "64")
TINY = replace(
    QUICK,
    images_per_class=4,
    gradient_steps=15,
    spiking_steps=4,
    spiking_full_steps=1,
    queries_per_image=20,
    queries=64,
    training_steps=8,
)


def quick_readings(patch: pytest.MonkeyPatch) -> None:
    few = SynthesisConfig(count=32, held_out=8, steps=2)
    patch.setattr(reconversion, "RESCALING_IMAGES", few)
    patch.setattr(reconversion, "FINE_TUNING_STEPS", 5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("privatesnn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "QUICK", TINY)
        patch.setattr("audit.answers.QUICK_IMAGES", 100)
        quick_readings(patch)
        patch.setattr(measure, "check_sanity", lambda *_: None)
        attacks = ("--attacks", "representative")
        beside = ("--json", str(folder / "beside.json"))
        assert run([*SMALL, *attacks, *beside, "--quiet", "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def found(made: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made / "out" / "audit.json").read_text())
    return content


def test_a_compile_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its networks have the names of the compile's, its result that of the compile's audit."""
    for name in ("manifest.json", "model.net"):
        (tmp_path / name).write_text("of a compile")
        assert run([*SMALL, "--out", str(tmp_path)]) == 2
        assert name in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).rename(tmp_path / "file")
        assert run([*SMALL, "--out", str(tmp_path / "file")]) == 2
        assert "is a file" in capsys.readouterr().err
        (tmp_path / "file").unlink()


def test_the_json_has_the_form_of_the_audit(made: Path, found: dict[str, Any]) -> None:
    assert json.loads((made / "beside.json").read_text()) == found
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    table = text[text.index("## audit.json") : text.index("### `subjects{network}`")]
    described = {
        name.split("{")[0].split(".")[0]
        for line in table.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].replace("`", "").replace(" ", "").split(",")
    }
    assert described - set(found) == set()
    assert set(found) - described <= {"privatesnn"}
    assert set(found["subjects"]) == {"ann", "converted", "encrypted", "random", "real", "noise"}
    for name in ("converted", "encrypted"):
        row = found["subjects"][name]
        assert set(row["attacks"]) == {"representative"}
        assert len(row["attacks"]["representative"]["judge_accuracy"]) >= 3
        assert len(row["reconverted"]) == 6 and len(row["weight_change"]) == 4
    assert set(found["left_out"]) == {one.name for one in ATTACKS} - {"representative"}


def test_the_stages_stand_beside_it(found: dict[str, Any]) -> None:
    own = found["privatesnn"]
    assert list(own["stages"]) == ["ann", "converted", "undistilled", "encrypted", "random"]
    stages = own["stages"]
    assert stages["converted"]["reconverted"]["relu"] == stages["ann"]["accuracy"]
    assert stages["ann"]["test_images"] == 100
    assert set(stages["converted"]["weight_change"].values()) == {0.0}
    assert all(change > 0 for change in stages["undistilled"]["weight_change"].values())
    assert stages["ann"]["ann_agreement"] == 1.0 and stages["ann"]["accuracy"] > 0.95
    assert len(stages["encrypted"]["losses"]) == 1
    assert own["settings"]["timesteps"] == 8 and len(own["thresholds"]) == 3
    assert own["settings"]["training"] == {
        "epochs": 1, "batch": 64, "learning_rate": 1e-4, "milestones": [0.5, 0.7],
        "distillation": 0.7, "temperature": 20.0,
    }  # fmt: skip


class Notes:
    """Keeps what is said of every stage."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.title = ""

    def begin(self, title: str) -> None:
        self.title = title

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def end(self, seconds: float, note: str = "") -> None:
        self.said[self.title] = note


def test_without_images_for_them_thresholds_stay_1(ann: AnnGraph, tmp_path: Path) -> None:
    settings = fewer_images(Settings(4, 0, training=Training(epochs=1)), 32)
    made = Builder(tmp_path, settings, 0, Notes()).build(ann)
    for name in ("converted", "undistilled", "encrypted", "random"):
        assert set(getattr(made, name).thresholds) == {1.0}
    other = Builder(tmp_path, replace(settings, threshold_images=64), 0, Notes()).build(ann)
    assert set(other.converted.thresholds) != {1.0}


def test_what_is_there_is_read_again(ann: AnnGraph, tmp_path: Path) -> None:
    settings = fewer_images(Settings(timesteps=4, training=Training(epochs=1)), 32)
    first, second, third = Notes(), Notes(), Notes()
    made = Builder(tmp_path, settings, 0, first).build(ann)
    again = Builder(tmp_path, settings, 0, second).build(ann)
    assert list(first.said.values()) == [""] * 5
    assert list(second.said.values()) == ["already there"] * 5
    for name in ("converted", "undistilled", "encrypted", "random"):
        before, after = getattr(made, name), getattr(again, name)
        assert before.thresholds == after.thresholds
        images = made.synthetic.pixels(slice(0, 4))
        assert np.array_equal(answers(before, images, 0), answers(after, images, 0))
    assert made.courses == again.courses
    Builder(tmp_path, settings, 1, third).build(ann)
    assert list(third.said.values()) == [""] * 5


def test_all_attacks_run_on_it_and_spend_what_they_do_elsewhere(converted: PrivateSnn) -> None:
    own = float_subject("encrypted", replace(converted, timesteps=8), seed=0)
    budget = replace(TINY, images_per_class=1)
    for attack in ATTACKS:
        if attack.name in ("surrogate-linear", "image_prior", "clone", "adaptive"):
            found = attack.run(own, budget, 0)
            assert found.images_nchw.shape == (10, 1, 8, 8), attack.name
            assert np.isfinite(found.images_nchw).all() and found.labels_n.tolist() == [*range(10)]
            assert found.gradient_steps > 0
            if attack.name == "adaptive":
                assert 0 < found.details["imitation_error"] < 2
                assert found.queries == budget.queries


def test_the_readings_are_those_of_the_audit(
    converted: PrivateSnn, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_readings(monkeypatch)
    found = reconversion.reconversions(
        float_subject("converted", replace(converted, timesteps=8), seed=0), 0
    )
    names = [one.name for one in found]
    assert names == [
        f"{activation}{how}"
        for activation in ("relu", "clipped_relu")
        for how in ("", "_rescaled", "_finetuned")
    ]


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert run(["--preset", "nothing", *out]) == 2
    assert run(["--preset", "digits", "--attacks", "guess", "--quick", *out, *SMALL[3:]]) == 2
    assert "no such attack" in capsys.readouterr().err
    assert run(["--preset", "fashion-mnist", *out]) == 1
    told = capsys.readouterr().err
    assert "examples/train_ann.py --no-bias" in told and "--arch fashion-cnn" in told


def test_a_network_that_is_silent_on_real_images_is_told(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    block = found["privatesnn"]
    _show_stages(block)
    heard = capsys.readouterr().out
    silent = {name for name, stage in block["stages"].items() if stage["without_answer"] > 0.01}
    assert block["stages"]["ann"]["without_answer"] == 0
    assert {name for name in block["stages"] if f"{name}: silent on" in heard} == silent
    block["stages"]["encrypted"]["without_answer"] = 1.0
    _show_stages(block)
    told = " ".join(capsys.readouterr().out.split())
    assert "encrypted: silent on 100.0% of the test images" in told and "--timesteps" in told


def test_only_equal_sums_are_no_answer() -> None:
    sums = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-2.0, -2.0, -2.0], [0.0, 0.0, -1.0]])
    assert baseline._without_answer(sums) == 0.5
