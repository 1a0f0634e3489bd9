"""Interrupts, second starts, and files that must not be believed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler import pipeline
from compiler.presets import find_preset

INTERRUPTED = "interrupted; the same command goes on from the last finished stage"
FINAL = {"model.net", "report.json", "report.html"}


def stages_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "manifest.json").read_text())["stages"])


def stages_run(out: str) -> list[str]:
    """Stages that took time; those that were done before are not among them."""
    return re.findall(r"^ *\d+/10 +(\w+) .* \d+\.\d s$", out, re.MULTILINE)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".tmp" in path.name]


def interrupt_in(name: str, monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """Interrupt a stage before its first line, or after its last, when its files lie there."""

    def spoiled(stage: pipeline.Stage) -> pipeline.Stage:
        def step(run: Any, tell: Any) -> Any:
            if not before:
                stage.step(run, tell)
            raise KeyboardInterrupt

        return replace(stage, step=step) if stage.name == name else stage

    monkeypatch.setattr(pipeline, "STAGES", tuple(map(spoiled, pipeline.STAGES)))


@pytest.mark.parametrize("before", [True, False], ids=["at its start", "at its end"])
def test_an_interrupt_in_every_stage(
    export: Any, command: list[str], whole_run: Any, tmp_path: Path, before: bool
) -> None:
    """One compile, interrupted in each stage in turn; every start goes on where it broke off."""
    folder = tmp_path / "run"
    names = [stage.name for stage in pipeline.STAGES]
    for index, name in enumerate(names):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_in(name, patch, before)
            outcome = export(*command, "--out", folder, "--eval", "none")
        assert outcome.status == 130, outcome.err
        assert outcome.err.strip() == INTERRUPTED
        assert stages_of(folder) == names[:index] if index else True
        assert set(stages_run(outcome.out)) <= {*names[max(index - 1, 0) : index], "load"}
        assert leftovers(folder) == []
        if before and index <= names.index("export"):
            assert not FINAL & {path.name for path in folder.iterdir()}
    outcome = export(*command, "--out", folder, "--eval", "none")
    assert outcome.status == 0, outcome.err
    assert set(stages_run(outcome.out)) <= {"load", "report"}
    assert (folder / "model.net").read_bytes() == (whole_run[0] / "model.net").read_bytes()


def test_a_second_start_does_nothing_twice(finished: Path, export: Any, command: list[str]) -> None:
    same = ("--eval", "digits", "--samples", 20, "--lava-samples", 2)
    outcome = export(*command, "--out", finished, *same)
    assert outcome.status == 0 and set(stages_run(outcome.out)) <= {"load", "report"}
    assert outcome.out.count("already done") >= 8


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (["--timesteps", "8"], "convert"),
        (["--encoding", "poisson"], "convert"),
        (["--from", "quantize"], "quantize"),
        (["--from", "encrypt"], "encrypt"),
    ],
    ids=["timesteps", "encoding", "from quantize", "from encrypt"],
)
def test_only_what_a_change_touches_runs_again(
    finished: Path, export: Any, command: list[str], change: list[str], first: str
) -> None:
    outcome = export(*command, "--out", finished, *change, "--to", "export")
    assert outcome.status == 0, outcome.err
    names = [stage.name for stage in pipeline.STAGES]
    expected = names[names.index(first) : names.index("export") + 1]
    assert [name for name in stages_run(outcome.out) if name != "load"] == expected
    assert "stopped as asked" in outcome.out


def test_a_chip_that_holds_the_same_network_changes_nothing(
    finished: Path, export: Any, command: list[str]
) -> None:
    before = (finished / "model.net").read_bytes()
    outcome = export(*command, "--out", finished, "--target", "loihi1", "--to", "export")
    assert outcome.status == 0, outcome.err
    assert [name for name in stages_run(outcome.out) if name != "load"] == ["lower"]
    assert (finished / "model.net").read_bytes() == before


def test_a_file_for_other_settings_does_not_stay_beside_them(
    finished: Path, export: Any, command: list[str]
) -> None:
    """Stopped before the stage that the change touches: config.toml tells of T = 8 already."""
    outcome = export(*command, "--out", finished, "--timesteps", 8, "--to", "synthesize")
    assert outcome.status == 0, outcome.err
    assert "timesteps = 8" in (finished / "config.toml").read_text()
    assert not {path.name for path in finished.iterdir()} & FINAL
    assert stages_of(finished) == ["load", "lower", "synthesize"]


def test_what_a_killed_compile_left_half_written_is_removed(
    finished: Path, export: Any, command: list[str]
) -> None:
    for folder in (finished, finished / "private"):
        (folder / ".model.net.1.tmp").write_text("half of it")
    assert export(*command, "--out", finished, "--to", "export").status == 0
    assert leftovers(finished) == []


def test_a_report_does_not_stay_beside_a_newer_file(
    finished: Path, export: Any, command: list[str]
) -> None:
    outcome = export(*command, "--out", finished, "--timesteps", 8, "--to", "export")
    assert outcome.status == 0, outcome.err
    assert not {path.name for path in finished.iterdir()} & FINAL
    outcome = export(*command, "--out", finished, "--timesteps", 8, "--to", "verify")
    assert outcome.status == 0, outcome.err
    assert {path.name for path in finished.iterdir()} & FINAL == {"model.net"}


@pytest.mark.parametrize("stage", ["synthesize", "encrypt", "quantize"])
def test_a_file_that_somebody_changed_is_made_again(
    finished: Path, export: Any, command: list[str], stage: str
) -> None:
    files = {
        "synthesize": "synthetic.safetensors",
        "encrypt": "encrypted.safetensors",
        "quantize": "chip.safetensors",
    }
    path = finished / "private" / files[stage]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    outcome = export(*command, "--out", finished, "--to", "export")
    assert outcome.status == 0, outcome.err
    assert stage in stages_run(outcome.out)
    assert path.read_bytes() == good


def stop_after_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    from compiler.encryption import checkpoint

    write = checkpoint.Checkpoints.write

    def write_and_stop(self: Any, state: Any) -> None:
        write(self, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoints, "write", write_and_stop)


@pytest.fixture
def half_trained(finished: Path, export: Any, command: list[str]) -> Path:
    """The finished compile, but for a training that was interrupted after one of two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        stop_after_one_epoch(patch)
        outcome = export(*command, "--out", finished, "--from", "encrypt", "--to", "encrypt")
    assert outcome.status == 130
    assert (finished / "private" / "encrypt.checkpoint").exists()
    return finished


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Epochs that were trained since."""
    from compiler.encryption import train

    epochs: list[int] = []
    whole_epoch = train._Trainer.train_epoch

    def counted(self: Any, epoch: int, *more: Any) -> None:
        epochs.append(epoch)
        whole_epoch(self, epoch, *more)

    monkeypatch.setattr(train._Trainer, "train_epoch", counted)
    return epochs


def test_training_goes_on_from_its_last_epoch(
    half_trained: Path, whole_run: Any, export: Any, command: list[str], trained: list[int]
) -> None:
    outcome = export(*command, "--out", half_trained, "--to", "encrypt")
    assert outcome.status == 0, outcome.err
    assert trained == [2]
    encrypted = Path("private") / "encrypted.safetensors"
    assert (half_trained / encrypted).read_bytes() == (whole_run[0] / encrypted).read_bytes()
    assert not (half_trained / "private" / "encrypt.checkpoint").exists()


def test_training_that_is_asked_for_anew_begins_anew(
    half_trained: Path, export: Any, command: list[str], trained: list[int]
) -> None:
    outcome = export(*command, "--out", half_trained, "--from", "encrypt", "--to", "encrypt")
    assert outcome.status == 0, outcome.err
    assert trained == [1, 2]


def test_half_a_training_of_another_network_is_not_taken(
    half_trained: Path,
    export: Any,
    command: list[str],
    trained: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same settings, but other images come out, as on another kind of machine."""
    from compiler import synthesis

    whole = synthesis.synthesize
    monkeypatch.setattr(
        synthesis, "synthesize", lambda graph, config, seed, *more: whole(graph, config, 1, *more)
    )
    (half_trained / "private" / "synthetic.safetensors").unlink()
    outcome = export(*command, "--out", half_trained, "--to", "encrypt")
    assert outcome.status == 0, outcome.err
    assert trained == [1, 2]


def test_an_evaluation_goes_on_with_the_answers_that_it_has(
    finished: Path, whole_run: Any, export: Any, command: list[str], monkeypatch: Any
) -> None:
    """Interrupted in the integer simulator, when converted and trained network have answered."""
    from compiler import evaluation

    same = ("--out", finished, "--eval", "digits", "--samples", 20, "--lava-samples", 0)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "simulate", interrupt)
        assert export(*command, *same, "--from", "evaluate").status == 130
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "run_slayer", interrupt)
        assert export(*command, *same).status == 0
        assert export(*command, *same, "--from", "evaluate").status == 130
    assert export(*command, *same).status == 0
    assert not (finished / "private" / "evaluate.json").exists()
    rows, expected = (
        json.loads((folder / "report.json").read_text())["stages"]
        for folder in (finished, whole_run[0])
    )
    assert rows == [row for row in expected if row["name"] != "lava"]


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def wait_for(child: Any, stage: str, seconds: float = 120) -> None:
    """Until the line of the stage before appears."""
    names = [entry.name for entry in pipeline.STAGES]
    before = names[names.index(stage) - 1]
    for line in child.stdout:
        if f" {before} " in line:
            time.sleep(1)
            return
    raise AssertionError(child.stderr.read())


def children_of(process: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process:
                found |= {int(entry.name)} | children_of(int(entry.name))
    return found


@pytest.mark.parametrize(
    ("stage", "sent"),
    [("encrypt", signal.SIGINT), ("verify", signal.SIGINT), ("synthesize", signal.SIGTERM)],
)
def test_a_signal_ends_it_at_once(
    start: Any, command: list[str], whole_run: Any, tmp_path: Path, stage: str, sent: int
) -> None:
    """From outside, while SLAYER, Lava or the synthesis is at work; nothing lives on."""
    settings = tmp_path / "long.toml"
    text = Path(command[1]).read_text()
    if stage == "synthesize":
        text = text.replace("steps = 4", "steps = 100000")
    elif stage == "encrypt":
        text = text.replace(
            "epochs = 2", "epochs = 100000\npatience = 100000\nlearning_rate = 1e-9"
        )
    settings.write_text(text)
    arguments = ["--config", settings, "--lava-samples", 8, "--eval", "none"]
    folder = tmp_path / "run"
    child = start("-m", "compiler.export", *arguments, "--out", folder)
    wait_for(child, stage)
    if stage == "verify":
        deadline = time.monotonic() + 60
        while len(children_of(child.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
    below = children_of(child.pid)
    child.send_signal(sent)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert err.strip() == INTERRUPTED
    assert stages_of(folder)[-1] == stages_before(stage)
    assert leftovers(folder) == []
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{each}").exists() for each in below) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [each for each in below if Path(f"/proc/{each}").exists()]


def stages_before(stage: str) -> str:
    names = [entry.name for entry in pipeline.STAGES]
    return names[names.index(stage) - 1]


def test_a_file_has_no_name_before_its_proof(
    finished: Path, export: Any, command: list[str]
) -> None:
    """Interrupted in front of the proof, and then proven by the same command."""
    whole = {name: (finished / name).read_bytes() for name in ("model.net", "model.nir")}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_in("verify", patch, before=True)
        outcome = export(*command, "--out", finished, "--from", "export")
    assert outcome.status == 130
    assert not list(finished.glob("model*"))
    assert (finished / "private" / "unproven.net").read_bytes() == whole["model.net"]
    outcome = export(*command, "--out", finished, "--to", "verify")
    assert outcome.status == 0, outcome.err
    assert [name for name in stages_run(outcome.out) if name != "load"] == ["verify"]
    assert whole == {name: (finished / name).read_bytes() for name in whole}


def spoil_model(folder: Path, fix_hash: bool) -> None:
    """Change one weight by the smallest step, and let the manifest believe it."""
    from compiler.run_folder import file_hash
    from netx_export.fingerprint import hash_group

    model = folder / "private" / "unproven.net"
    with h5py.File(model, "r+") as file:
        weight = file["layer"]["1"]["weight"]
        values = weight[()]
        values.reshape(-1)[values.argmin()] += 2
        weight[...] = values
        if fix_hash:
            digest = hash_group(file["layer"])
            place = file["deployment"]["layer_hash"]
            place[()] = digest
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["stages"]["export"]["files"]["private/unproven.net"] = file_hash(model)
    for name in ("verify", "evaluate", "report"):
        manifest["stages"].pop(name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("fix_hash", [True, False], ids=["hash made good", "hash left"])
def test_a_file_that_disagrees_fails_and_loses_its_name(
    finished: Path, export: Any, command: list[str], fix_hash: bool
) -> None:
    spoil_model(finished, fix_hash)
    outcome = export(*command, "--out", finished)
    assert outcome.status == 1
    assert outcome.err.startswith("error: ") and "Traceback" not in outcome.err
    if fix_hash:
        assert "SLAYER and the integer simulator disagree" in outcome.err
        assert re.search(r"time-step \d+ of neuron \(c, h, w\) = \(\d+, \d+, \d+\)", outcome.err)
    named = sorted(path.name for path in finished.glob("model*"))
    assert named == ["model.net.rejected"]
    outcome = export(*command, "--out", finished, "--to", "verify")
    assert outcome.status == 0, outcome.err
    assert stages_run(outcome.out)[-2:] == ["export", "verify"]
    assert not list(finished.glob("*rejected*"))


def test_a_disagreement_in_lava_on_real_images_fails_too(
    finished: Path, export: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compiler import verification
    from compiler.errors import AgreementError

    def disagree(*arguments: Any, **more: Any) -> Any:
        raise AgreementError("the integer simulator and Lava disagree on 1 values")

    monkeypatch.setattr(verification, "verify_lava", disagree)
    same = ("--eval", "digits", "--samples", 20, "--lava-samples", 2)
    outcome = export(*command, "--out", finished, *same, "--from", "evaluate")
    assert outcome.status == 1 and "disagree" in outcome.err
    assert not (finished / "model.net").exists()


def test_images_of_the_same_name_with_other_labels_are_measured_anew(
    finished: Path, export: Any, command: list[str], tmp_path: Path
) -> None:
    from sim.datasets import load_dataset

    digits = load_dataset("digits", samples=20)
    file, accuracies = tmp_path / "own.npz", []
    for turned in (0, 0, 1):
        np.savez(file, images=digits.images_nchw, labels=(digits.labels + turned) % 10)
        outcome = export(*command, "--out", finished, "--eval", f"npz:{file}")
        assert outcome.status == 0, outcome.err
        again = "evaluate" in stages_run(outcome.out)
        report = json.loads((finished / "report.json").read_text())
        accuracies.append((again, report["stages"][0]["accuracy"] > 0.5))
    assert accuracies == [(True, True), (False, True), (True, False)]
    file.unlink()
    outcome = export(*command, "--out", finished, "--eval", f"npz:{file}")
    assert outcome.status in (0, 1) and "Traceback" not in outcome.err


@pytest.mark.parametrize("stop", ["load", "synthesize"])
def test_another_network_in_the_folder_leaves_no_file_of_the_first(
    finished: Path, export: Any, settings: Path, tmp_path: Path, stop: str
) -> None:
    """Not even where it gets no further than its first stages."""
    other = tmp_path / "other.safetensors"
    tensors = load_file(find_preset("digits").weights)
    save_file({name: 0.9 * tensor for name, tensor in tensors.items()}, other)
    for name in ("device.net", "private/host.net"):
        (finished / name).write_text("of the first network")
    same = ("--arch", "digits-cnn", "--config", settings, "--lava-samples", "0", "--eval", "none")
    outcome = export(other, *same, "--out", finished, "--to", stop)
    assert outcome.status == 0, outcome.err
    assert stages_of(finished)[-1] == stop
    left = {path.name for path in finished.iterdir()}
    assert not left & {"model.net", "model.nir", "device.net", "report.json", "report.html"}
    assert not (finished / "private" / "host.net").exists()


def test_other_settings_of_the_measurement_leave_the_model(
    finished: Path, export: Any, command: list[str]
) -> None:
    before = (finished / "model.net").stat().st_mtime_ns
    outcome = export(*command, "--out", finished, "--eval", "digits", "--samples", 30)
    assert outcome.status == 0 and (finished / "model.net").stat().st_mtime_ns == before


def test_a_second_compile_leaves_the_files_of_the_one_at_work(
    finished: Path, export: Any, command: list[str]
) -> None:
    from filelock import FileLock

    written = finished / "private" / ".encrypt.checkpoint.1.tmp"
    with FileLock(finished / "private" / "lock"):
        written.write_text("half")
        manifest = (finished / "manifest.json").read_bytes()
        outcome = export(*command, "--out", finished, "--from", "encrypt")
        assert outcome.status == 1 and "in use" in outcome.err
        assert written.read_text() == "half"
        assert (finished / "manifest.json").read_bytes() == manifest
    assert export(*command, "--out", finished, "--to", "load").status == 0
    assert not written.exists()


def test_images_that_were_missing_are_looked_for_again(
    finished: Path, export: Any, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compiler.errors import DataError
    from sim import datasets

    def absent(*arguments: Any, **more: Any) -> Any:
        raise DataError("the images are not on this machine")

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", absent)
        outcome = export(*command, "--out", finished, "--samples", 10)
    assert outcome.status == 0 and "the images are not on this machine" in outcome.out
    for expected in ({"evaluate"}, set()):
        outcome = export(*command, "--out", finished, "--samples", 10)
        assert outcome.status == 0, outcome.err
        assert set(stages_run(outcome.out)) - {"load", "report"} == expected
        report = json.loads((finished / "report.json").read_text())
        assert {stage["accuracy"] is None for stage in report["stages"]} == {False}


def test_two_compiles_in_one_folder(finished: Path, export: Any, command: list[str]) -> None:
    from filelock import FileLock

    with FileLock(finished / "private" / "lock"):
        outcome = export(*command, "--out", finished)
    assert outcome.status == 1
    assert "a compile or an audit at work" in outcome.err and "Traceback" not in outcome.err


def test_a_damaged_manifest_or_checkpoint_costs_time_and_nothing_else(
    finished: Path, export: Any, command: list[str]
) -> None:
    (finished / "manifest.json").write_text("{half a manif")
    (finished / "private" / "encrypt.checkpoint").write_bytes(b"half a checkpoint")
    outcome = export(*command, "--out", finished, "--to", "export")
    assert outcome.status == 0, outcome.err
    assert stages_run(outcome.out)[0] == "load"


def test_the_folder_can_be_moved(
    finished: Path, export: Any, command: list[str], tmp_path: Path
) -> None:
    shutil.move(finished, tmp_path / "elsewhere")
    outcome = export(*command, "--out", tmp_path / "elsewhere", "--to", "export")
    assert outcome.status == 0 and set(stages_run(outcome.out)) <= {"load"}
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
