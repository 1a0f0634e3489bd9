"""The judges kept with the package, and the script that trains them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from audit.judges.judge import FEWEST, KEPT, find_judges, load_judges
from audit.judges.networks import ARCHITECTURES
from audit.judges.train import NAMES, SMALL_DATA_EPOCHS, run
from compiler.errors import DataError
from compiler.frontend.architectures import ARCHITECTURES as OF_ANNS
from sim.datasets import Dataset, load_dataset

KEPT_DATA = sorted(path.name for path in KEPT.iterdir())


def kinds(module: torch.nn.Module) -> set[str]:
    """Layers that hold weights or mix places."""
    named = {type(part).__name__ for part in module.modules() if not list(part.children())}
    return named - {"ReLU", "Flatten", "GELU", "Linear"}


def test_architectures_differ_from_each_other_and_from_the_anns() -> None:
    found = {name: kinds(make((1, 28, 28), 10)) for name, make in ARCHITECTURES.items()}
    found["ann"] = kinds(OF_ANNS["fashion-cnn"]((1, 28, 28), 10))
    assert len({frozenset(layers) for layers in found.values()}) == len(found)
    assert set(NAMES) == set(ARCHITECTURES)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 12, 20)])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_judge_takes_every_shape(name: str, shape: tuple[int, int, int]) -> None:
    network = ARCHITECTURES[name](shape, 7).eval()
    images = torch.rand(2, *shape)
    assert network(images).shape == (2, 7)
    assert network.features(images).shape == (2, network.width)


@pytest.mark.parametrize("folder", KEPT_DATA)
def test_cards_and_weights_belong_together(folder: str) -> None:
    judges = load_judges(KEPT / folder)
    assert len(judges) >= FEWEST
    for judge in judges:
        card = (KEPT / folder / f"{judge.name}.md").read_text()
        assert f"Test accuracy: {judge.accuracy:.2%}" in card
        assert f"python -m audit.judges.train {folder}" in card


@pytest.mark.parametrize("folder", KEPT_DATA)
def test_kept_judges_are_small(folder: str) -> None:
    sizes = [path.stat().st_size for path in (KEPT / folder).glob("*.safetensors")]
    assert sum(sizes) <= 1_500_000


def test_digits_judges_are_as_good_as_their_cards_say() -> None:
    data = load_dataset("digits")
    judges = find_judges(data)
    assert {judge.data for judge in judges} == {"digits"}
    for judge in judges:
        right = judge.probabilities(data.images_nchw).argmax(1) == data.labels
        assert right.mean() == pytest.approx(judge.accuracy, abs=2.5 / len(data))
        assert judge.accuracy > 0.95


def test_probabilities_and_features_do_not_depend_on_the_batch() -> None:
    data = load_dataset("digits")
    judge = find_judges(data)[0]
    images = np.tile(data.images_nchw[:3], (200, 1, 1, 1))
    whole = judge.probabilities(images)
    assert whole.sum(1) == pytest.approx(1.0)
    assert whole[-3:] == pytest.approx(judge.probabilities(images[-3:]), abs=1e-5)
    assert judge.features(images).shape == (600, judge.network.width)


def other_data() -> Dataset:
    digits = load_dataset("digits")
    return dataclasses.replace(digits, name="mine", images_nchw=1 - digits.images_nchw)


def test_unknown_data_says_how_to_train_judges() -> None:
    with pytest.raises(DataError) as raised:
        find_judges(other_data())
    assert "python -m audit.judges.train mine --out DIR" in str(raised.value)
    assert "digits" in raised.value.problems[0].allowed


def test_judges_for_other_data_are_refused() -> None:
    with pytest.raises(DataError) as raised:
        find_judges(other_data(), KEPT / "digits")
    assert len(raised.value.problems) == len(load_judges(KEPT / "digits"))


def test_an_empty_folder_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no judges found"):
        load_judges(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="cannot be read"):
        load_judges(tmp_path)


def test_two_judges_are_too_few(tmp_path: Path) -> None:
    for file in sorted((KEPT / "digits").glob("*.safetensors"))[:2]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="at least 3"):
        find_judges(load_dataset("digits"), tmp_path)


def test_a_copy_of_a_judge_counts_once(tmp_path: Path) -> None:
    file = sorted((KEPT / "digits").glob("*.safetensors"))[0]
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="3 files of judge"):
        find_judges(load_dataset("digits"), tmp_path)


def test_judges_of_other_classes_than_the_network_are_refused() -> None:
    with pytest.raises(DataError, match="12 classes of the network under audit"):
        find_judges(load_dataset("digits"), KEPT / "digits", classes=12)


def test_what_is_no_judge_is_refused_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load_judges(tmp_path)
    (tmp_path / "folder.safetensors").rmdir()
    save_file({"w": np.zeros(3)}, tmp_path / "x.safetensors", {"about": "[1]"})
    with pytest.raises(DataError, match="cannot be read"):
        load_judges(tmp_path)


def small_data(path: Path) -> Path:
    """Two classes, bright above or bright below, in an archive with both parts."""
    generator = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 96), ("test", 40)):
        labels = np.arange(count) % 2
        images = generator.random((count, 1, 8, 8)) * 0.5
        images[labels == 0, :, :4] += 0.5
        images[labels == 1, :, 4:] += 0.5
        parts |= {f"x_{part}": images.astype(np.float32), f"y_{part}": labels}
    np.savez(path, **parts)
    return path


def test_training_makes_judges_that_an_audit_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SMALL_DATA_EPOCHS, "perceptron", 12)
    spec = f"npz:{small_data(tmp_path / 'small.npz')}"
    out = tmp_path / "judges"
    command = [spec, "--out", str(out), "--seed", "3", "--only", "perceptron"]
    assert run(command) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["perceptron.md", "perceptron.safetensors"]
    test = load_dataset(spec)
    for judge in load_judges(out):
        assert judge.fingerprint == test.fingerprint_of_set
        assert judge.accuracy > 0.9
        right = judge.probabilities(test.images_nchw).argmax(1) == test.labels
        assert right.mean() == judge.accuracy
    first = (out / "perceptron.safetensors").read_bytes()
    assert run(command) == 0
    assert (out / "perceptron.safetensors").read_bytes() == first


def test_mistakes_are_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"npz:{small_data(tmp_path / 'small.npz')}"
    assert run([spec, "--out", str(tmp_path / "small.npz")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert run(["nosuch", "--out", str(tmp_path / "judges")]) != 0
    images = np.random.default_rng(0).random((8, 1, 3, 9)).astype(np.float32)
    labels = np.arange(8) % 2
    np.savez(tmp_path / "thin.npz", x_train=images, y_train=labels, x_test=images / 2,
             y_test=labels)  # fmt: skip
    assert run([f"npz:{tmp_path / 'thin.npz'}", "--out", str(tmp_path / "judges")]) == 1
    assert "3 x 9 pixels" in capsys.readouterr().err
    np.savez(tmp_path / "one.npz", images=images, labels=labels)
    assert run([f"npz:{tmp_path / 'one.npz'}", "--out", str(tmp_path / "judges")]) == 1
    assert "not apart" in capsys.readouterr().err
    assert not (tmp_path / "judges").exists()


def test_data_without_a_folder_of_its_own_needs_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cifar100"]) == 2
    assert "--out" in capsys.readouterr().err
