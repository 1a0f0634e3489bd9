"""The studies of whole compiles: what they vary, what they tell, what they run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch

from audit.privatesnn.build import load_ann
from benchmarks import ablations, compiles, conversion, paper, privacy, published, rows
from compiler.export import export
from compiler.frontend.architectures import ARCHITECTURES
from compiler.options import make_request
from compiler.presets import find_preset, load_preset
from compiler.presets.files import save_network
from compiler.settings import settings_text
from sim.datasets import load_dataset


@pytest.mark.parametrize("axis", ablations.AXES)
def test_every_point_is_a_compile_of_its_own(axis: str) -> None:
    found = []
    for flags in ablations.AXES[axis].points.values():
        given = export.make_context("export", ["--preset", "digits", *flags]).params
        found.append(make_request(given, "").config)
    assert all(one != other for one, other in combinations(found, 2))


def test_every_row_of_the_conversion_is_one_of_its_own() -> None:
    options = {"count": 64, "timesteps": 16}
    found = {name: conversion._config(changed, 3, options)
             for name, changed in conversion.CHANGES.items()}  # fmt: skip
    assert found.pop(conversion.REAL) == found["defaults"], "only the images differ"
    assert all(one != other for one, other in combinations(found.values(), 2))


def test_detail_is_the_difference_of_horizontal_neighbours() -> None:
    pixels = np.array([[0.0, 0.5, 0.25], [1.0, 1.0, 0.0]], np.float32).reshape(1, 1, 2, 3)
    assert conversion._detail(pixels) == (0.5 + 0.25 + 0 + 1) / 4


def row(axis: str, point: str, seed: int, accuracy: float) -> dict[str, Any]:
    names = ("ann", "converted", "encrypted", "integer")
    return {
        "axis": axis, "point": point, "seed": seed, "synops": 1000.0,
        "accuracy": dict.fromkeys(names, accuracy), "reconverted": {"relu": accuracy},
    }  # fmt: skip


@pytest.fixture
def measured() -> tuple[Mapping[str, ablations.Axis], list[dict[str, Any]]]:
    chosen = {name: ablations.AXES[name] for name in ("epochs", "input_code")}
    found = [
        row(name, point, seed, 0.9 + 0.02 * seed)
        for name, axis in chosen.items()
        for point in axis.points
        for seed in (0, 1)
    ]
    return chosen, found


def test_the_picture_is_the_same_bytes(measured: Any, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        ablations.draw("digits", *measured, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "epochs of the training" in (tmp_path / "one.svg").read_text()


def test_the_table_has_a_line_a_point_with_mean_and_deviation(measured: Any) -> None:
    chosen, found = measured
    table = ablations._table(chosen, found)
    assert len(table) == sum(len(axis.points) for axis in chosen.values())
    assert table[0] == [chosen["epochs"].title, "1", *["91.0 ± 1.4"] * 4, "1,000 ± 0"]


def test_without_real_images_there_is_no_study() -> None:
    stages = [{"name": "ann", "accuracy": None, "samples": 9}]
    report = {"stages": stages, "evaluation": {"samples": 9}}
    with pytest.raises(click.ClickException, match="PRIVATE_SNN_DATA"):
        compiles.accuracies(report)


def test_a_folder_of_finished_stages_is_taken_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(compiles, "run", lambda *arguments: calls.append(arguments))
    first, folder = tmp_path / "first", tmp_path / "second"
    (first / "private").mkdir(parents=True)
    for name in ("manifest.json", "audit.json", "private/lock", "private/ann.safetensors"):
        (first / name).write_text("there")
    compiles.compile_like(folder, first, "--seed", "3")
    made = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert made == {"manifest.json", "private/ann.safetensors"}
    (folder / "private/ann.safetensors").write_text("its own")
    compiles.compile_like(folder, first, "--seed", "3")
    assert (folder / "private/ann.safetensors").read_text() == "its own"
    assert calls[0] == ("compiler.export", "--out", str(folder), "--quiet", "--seed", "3")


def test_a_copy_that_was_interrupted_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, target: Path, **more: Any) -> None:
        target.mkdir()
        (target / "half").write_text("of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(compiles, "run", lambda *_: None)
    first, folder = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    (first / "manifest.json").write_text("there")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(compiles.shutil, "copytree", interrupted)
        compiles.compile_like(folder, first)
    compiles.compile_like(folder, first)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_list_of_seeds_is_checked() -> None:
    assert compiles.whole_numbers("0,12") == [0, 12]
    with pytest.raises(click.UsageError, match="list of whole numbers"):
        compiles.whole_numbers("0,x")


FINISHED = {
    "stages": [
        {"name": "ann", "accuracy": 0.75, "samples": 9},
        {"name": "lava", "accuracy": 1.0, "samples": 1},
    ],
    "evaluation": {"samples": 9},
    "agreement": {
        "slayer_vs_reference": {"spikes": 2000, "mismatches": 0},
        "reference_vs_lava": None,
    },
    "layers": [{"synops_per_sample": 3e6}],
    "energy": [{"model": compiles.ENERGY_MODEL, "includes_input_layer": True, "snn_joules": 5e-6}],
    "resources": [{"title": "Loihi 1", "cores": 7}],
    "timing": {"load": 50.0, "encrypt": 70.0},
    "peak_memory_bytes": 3_210_000_000,
}


def written(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"]
    return rows


def test_the_figures_of_a_network_of_the_paper() -> None:
    found = [{"timesteps": 64, **paper.figures(FINISHED)}]
    assert paper.as_table(found) == [
        ["ann, %", "75.00"],
        ["spikes compared", "2,000"],
        ["of them different", "0"],
        ["synaptic operations, millions", "3.0"],
        ["dynamic energy, loihi1-davies-2018, µJ", "5"],
        ["cores of Loihi 1", "7"],
        ["minutes of compile, as each stage last ran", "2"],
        ["largest memory, GB", "3.2"],
    ]


def test_a_network_of_the_paper_is_trained_and_then_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is run, and that the configuration stands for the network in every study."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(paper, "run_python", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(compiles, "run", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(paper, "report_of", lambda folder: FINISHED)
    data = f"cifar100:{tmp_path}"
    given = ["--data", data, "--out", str(tmp_path), "--samples", "9", "--timesteps", "64,16"]
    for network, recipe in (("cifar100-vgg16", "privatesnn"), ("cifar100-vgg16-bn", "batch-norm")):
        calls.clear()
        assert paper.main([network, *given]) == 0
        training, images, compiling, again = calls
        assert images[-2:] == ("--to", "synthesize") and again[-2:] == ("--timesteps", "16")
        assert [row["timesteps"] for row in written(tmp_path / f"{network}.json")] == [64, 16]
        assert training[training.index("--recipe") + 1] == recipe
        assert ("--no-bias" in training) == (recipe == "privatesnn")
        assert training[training.index("--checkpoint") + 1].startswith(str(tmp_path))
        assert compiling[:4] == ("compiler.export", "--out", str(tmp_path / "T64"), "--config")
        flags = compiles.subject_flags(compiling[4])
        request = make_request(export.make_context("export", list(flags)).params, "")
        assert request.model.arch == network.removeprefix("cifar100-")
        assert (request.evaluation, request.model.mean) == (data, (0.5, 0.5, 0.5))
        config = request.config
        assert (config.synthesize.smoothness, config.encrypt.lowest_contrast) == (1.0, 0.3)
        assert (config.convert.pools, config.encrypt.learning_rate_unit) == ("neurons", "weights")
        assert rows._published_flags(compiling[4]) == (
            "--arch", network.removeprefix("cifar100-"), "--data", data,
        )  # fmt: skip


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Commands that train ANNs; each is interrupted, and compiles are finished at once."""
    commands: list[tuple[str, ...]] = []

    def begun(*arguments: str) -> None:
        commands.append(arguments)
        Path(arguments[arguments.index("--checkpoint") + 1]).write_text("a state")

    monkeypatch.setattr(paper, "run_python", begun)
    monkeypatch.setattr(compiles, "run", lambda *_: None)
    monkeypatch.setattr(paper, "report_of", lambda _: FINISHED)
    return commands


def test_the_network_of_a_trial_does_not_stand_in_for_the_whole(
    tmp_path: Path, trained: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    trial = ["cifar10-vgg16", "--out", str(tmp_path), "--samples", "9", "--epochs", "1"]
    assert paper.main(trial) == paper.main(trial) == 0
    assert paper.main(["cifar10-vgg16", "--out", str(tmp_path)]) == 2
    assert "trained with" in capsys.readouterr().err
    assert len(trained) == 2


def test_the_recipe_of_the_ann_can_be_chosen(
    tmp_path: Path, trained: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["cifar10-vgg9-bn", "--out", str(tmp_path), "--recipe"]
    assert paper.main([*given, "batch-norm-short"]) == 0
    (training,) = trained
    assert training[training.index("--recipe") + 1] == "batch-norm-short"
    assert paper.main([*given, "modern"]) == 2
    assert "trained with" in capsys.readouterr().err


def test_a_training_that_never_began_binds_nobody(
    tmp_path: Path, trained: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["cifar10-vgg9-bn", "--out", str(tmp_path), "--recipe"]

    def refused(*_: str) -> None:
        raise click.ClickException("python examples/train_ann.py ended with 2")

    with monkeypatch.context() as patch:
        patch.setattr(paper, "run_python", refused)
        assert paper.main([*given, "batch-nrom"]) != 0
    assert paper.main([*given, "batch-norm"]) == 0
    assert len(trained) == 1


@pytest.mark.parametrize("wrong", [("--set", "encrypt.epochz=2"), ("--timesteps", "64,0")])
def test_settings_of_the_compile_are_refused_before_the_training(
    tmp_path: Path, trained: list[tuple[str, ...]], wrong: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert paper.main(["cifar10-vgg9-bn", "--out", str(tmp_path / "run"), *wrong]) == 2
    assert not trained and not (tmp_path / "run").exists()
    assert "found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["digits", "--privatesnn", "kept", "--samples", "100"], "leave --samples out"),
        (["digits", "--privatesnn", "absent.safetensors"], "no file absent"),
        (["NET.toml", "--privatesnn", "kept"], "name a FILE"),
        (["BARE.toml", "--privatesnn", "kept"], "no arch and no eval"),
    ],
)
def test_a_published_row_that_cannot_be_is_refused_at_once(
    given: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rows, "run", lambda *_: pytest.fail("something was run"))
    monkeypatch.setattr(compiles, "run", lambda *_: pytest.fail("something was compiled"))
    Path("NET.toml").write_text('arch = "vgg5"\neval = "cifar10"\n')
    Path("BARE.toml").write_text('model = "net.onnx"\n')
    assert rows.main([*given, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err


def test_the_published_method_takes_another_network_than_the_presets(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES["vgg5"]((3, 32, 32), 7)
    save_network(module, tmp_path / "net.safetensors", "vgg5", (3, 32, 32), "a card")
    graph = load_ann(find_preset("digits"), tmp_path / "net.safetensors", "vgg5")
    assert (graph.name, graph.input_shape, graph.classes) == ("net", (3, 32, 32), 7)


def test_real_images_balance_by_the_settings_of_the_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import compiler.conversion as conversion_part

    class Seen(Exception):
        """What the conversion was asked."""

    def seen(*arguments: Any) -> None:
        raise Seen(arguments[2], arguments[3])

    monkeypatch.setattr(conversion_part, "convert", seen)
    monkeypatch.setattr(rows, "training_images", lambda *_: None)
    flags = ("--preset", "digits", "--timesteps", "64", "--encoding", "poisson",
             "--set", "convert.percentiles=[98.0]", "--seed", "5")  # fmt: skip
    asked = compiles.request_of(*flags)
    (tmp_path / "config.toml").write_text(settings_text(asked))
    with pytest.raises(Seen) as found:
        rows._with_real_images(load_preset("digits"), "digits", 5, tmp_path)
    config, encoding = found.value.args
    assert config == asked.config.convert and config.percentiles == (98.0,)
    assert (encoding.code, encoding.seed) == ("poisson", 5)


def test_a_folder_goes_on_where_the_images_lie_elsewhere(
    tmp_path: Path, trained: list[tuple[str, ...]]
) -> None:
    """And where the usual recipe is named."""
    given = ["cifar100-vgg16-bn", "--out", str(tmp_path), "--data"]
    assert paper.main([*given, "cifar100:/one", "--eval-samples", "9"]) == 0
    assert "--samples" not in trained[0]
    assert paper.main([*given, "cifar100:/other", "--recipe", "batch-norm"]) == 0
    assert ["cifar100:/one" in trained[0], "cifar100:/other" in trained[1]] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist-vgg16"], "cifar10, cifar100"),
        (["cifar10-vgg17"], "vgg16"),
        (["cifar100-vgg16"], "PATH"),
    ],
)
def test_what_is_no_network_of_the_paper_is_told(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paper.main([*arguments, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_what_is_not_finished_is_not_gathered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privacy.main(["digits", "--out", str(tmp_path), "--collect"]) != 0
    assert "digits-distill-0 is not finished" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_of_digits(tmp_path: Path) -> None:
    arguments = ["digits", "--out", str(tmp_path), "--timesteps", "16", "--seeds", "0",
                 "--samples", "100"]  # fmt: skip
    assert rows.main(arguments) == 0
    found = json.loads((tmp_path / "rows.json").read_text())["rows"]
    (accuracy,) = (one["accuracy"] for one in found)
    assert len(accuracy) == 6 and all(value > 0.8 for value in accuracy.values())


def test_the_published_conversion_is_told_for_every_set_of_images_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    given = ["digits", "--images", "16", "--samples", "50", "--steps", "2", "--json", str(file)]
    assert published.main([*given, "--timesteps", "16"]) == 0
    found = json.loads(file.read_text())["rows"]
    assert [one["images"] for one in found] == list(published.WAYS)
    assert all(0 <= one["accuracy"] <= 1 and len(one["spikes_per_neuron"]) == 3 for one in found)
    capsys.readouterr()
    assert published.main([*given, "--timesteps", "16"]) == 0
    told = capsys.readouterr()
    assert not told.err and all(way in told.out for way in published.WAYS)


def test_a_layer_that_no_image_reaches_is_named() -> None:
    ann = load_ann(find_preset("digits"), None, None)
    grey = np.full((4, *ann.input_shape), 0.5, np.float32)
    subject = published.Subject(ann, "digits", load_dataset("digits", ann.input_shape, 4, 0))
    found = published._measure(subject, published.REAL, grey, 2, 0)
    assert "accuracy" not in found and "no current above 0" in published._figures(found)[2]
