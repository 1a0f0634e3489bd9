"""examples/train_ann.py: what it writes can be compiled; mistakes are said in one message."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import machine
from compiler.frontend import load_model
from compiler.ir.run_ann import run_ann
from compiler.presets.precision import bfloat16_seconds
from sim.datasets import load_dataset

DIGITS = ("--arch", "digits-cnn", "--data", "digits")
SCRIPT = Path(__file__).parents[2] / "examples" / "train_ann.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT))["main"]


def test_trains_and_writes(main, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    options = [
        "--arch",
        "digits-cnn",
        "--data",
        "digits",
        "--epochs",
        "6",
        "--no-flip",
        "--mean",
        "0.5",
        "--std",
        "0.25",
    ]
    assert main([*DIGITS, *options, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "accuracy on the 599 test images" in printed.out and "epoch 6/6" in printed.err
    assert "recipe `modern`" in out.with_suffix(".md").read_text()
    graph = load_model(out, arch="digits-cnn", mean=[0.5], std=[0.25])
    data = load_dataset("digits")
    accuracy = float(np.mean(run_ann(graph, data.images_nchw).argmax(1) == data.labels))
    assert accuracy > 0.8 and f"{accuracy:.2%}" in printed.out


def test_the_recipe_of_privatesnn(main, tmp_path):
    out = tmp_path / "net.safetensors"
    options = [
        "--arch",
        "digits-cnn",
        "--data",
        "digits",
        "--recipe",
        "privatesnn",
        "--epochs",
        "1",
        "--samples",
        "200",
    ]
    assert main([*DIGITS, *options, "--out", str(out)]) == 0
    card = out.with_suffix(".md").read_text()
    assert "optimizer: sgd" in card and "mean [0.5]" in card and "learning_rate: 0.01" in card


def test_a_training_that_diverges_writes_no_network(main, tmp_path, capsys):
    """Nor a state, from which it would go on for ever."""
    options = ["--recipe", "privatesnn", "--epochs", "1", "--learning-rate", "1e30"]
    files = ["--checkpoint", str(tmp_path / "state"), "--out", str(tmp_path / "net.safetensors")]
    assert main([*DIGITS, *options, *files]) == 2
    said = capsys.readouterr().err
    assert "diverged" in said and "give a learning rate below 1e+30" in said
    assert list(tmp_path.iterdir()) == []


def test_mistakes(main, tmp_path, capsys):
    out = ["--out", str(tmp_path / "n.safetensors")]
    assert main(["--arch", "digits-cnn", "--data", "idx:/nowhere", *out]) == 1
    assert "check the path" in capsys.readouterr().err
    assert main(["--arch", "digits-cnn", "--data", "nothing", *out]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["--arch", "alexnet", "--data", "digits", *out])
    assert ended.value.code == 2
    assert main(["--arch", "vgg16", "--data", "digits", *out]) == 2
    assert "too small" in capsys.readouterr().err
    assert main([*DIGITS, "--out", str(tmp_path / "absent" / "n.safetensors")]) == 1
    assert list(tmp_path.iterdir()) == []


def some_digits(count):
    data = load_dataset("digits", samples=count)
    return data.images_nchw, data.labels


def trained_once(main, folder, arrays):
    np.savez(folder / "data.npz", **arrays)
    out = ["--epochs", "1", "--out", str(folder / "net.safetensors")]
    return main(["--arch", "digits-cnn", "--data", f"npz:{folder / 'data.npz'}", *out])


def test_data_without_a_test_part(main, tmp_path, capsys):
    images, labels = some_digits(120)
    assert trained_once(main, tmp_path, {"images": images, "labels": labels}) == 0
    printed = capsys.readouterr()
    said = "accuracy on the 120 training images (the data has no test part): "
    card = (tmp_path / "net.md").read_text()
    assert said in printed.out and f"Result: {said}" in card
    assert "test images" not in printed.out + card
    assert printed.err.startswith("120 of 120 test images are training images too")


def test_test_images_that_were_trained_on_are_told(main, tmp_path, capsys):
    images, labels = some_digits(150)
    arrays = {
        "x_train": images[:110], "y_train": labels[:110],
        "x_test": images[100:], "y_test": labels[100:],
    }  # fmt: skip
    assert trained_once(main, tmp_path, arrays) == 0
    printed = capsys.readouterr()
    found = "10 of 50 test images are training images too"
    said = f"accuracy on the 50 test images ({found}): "
    assert said in printed.out and said in (tmp_path / "net.md").read_text()
    assert printed.err.startswith(f"{found}\n")


def test_a_class_of_the_test_part_alone_is_refused(main, tmp_path, capsys):
    images, labels = some_digits(100)
    few = labels < 3
    arrays = {"x_train": images[few], "y_train": labels[few], "x_test": images, "y_test": labels}
    assert trained_once(main, tmp_path, arrays) == 1
    said = capsys.readouterr().err
    assert (
        "3 (number 3), 4 (number 4)" in said
        and "and 2 more in the test part alone" in said
        and "add training images" in said
    )
    assert "epoch" not in said and not (tmp_path / "net.md").exists()


def test_without_biases(main, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    options = ["--no-bias", "--epochs", "1", "--samples", "200"]
    assert main([*DIGITS, *options, "--mean", "0.5", "--std", "0.5", "--out", str(out)]) == 0
    graph = load_model(out, arch="digits-cnn", mean=[0.5], std=[0.5])
    biases = [layer.bias for layer in graph.layers if hasattr(layer, "bias")]
    assert len(biases) == 4
    assert not any(bias.any() for bias in biases)
    assert "Biases: none" in out.with_suffix(".md").read_text()
    assert main(["--arch", "vgg5-bn", "--data", "digits", "--no-bias", "--out", str(out)]) == 2
    assert "batch-norm" in capsys.readouterr().err


def test_a_training_goes_on_from_its_checkpoint(main, tmp_path, capsys):
    state, out = tmp_path / "state", tmp_path / "net.safetensors"
    options = [*DIGITS, "--epochs", "2", "--samples", "200", "--checkpoint", str(state)]
    assert main([*options, "--out", str(out)]) == 0
    weights = out.read_bytes()
    assert main([*options, "--out", str(out)]) == 0
    assert out.read_bytes() == weights
    assert capsys.readouterr().err.count("epoch 2/2") == 2
    for other in (["--seed", "1"], ["--no-bias"]):
        assert main([*options, *other, "--out", str(out)]) == 2
        assert "other settings, biases or images" in capsys.readouterr().err
    assert out.read_bytes() == weights


NUMBERS = {
    "--epochs": ("0", "-1"),
    "--batch": ("0", "-3"),
    "--learning-rate": ("nan", "-1"),
    "--weight-decay": ("-1", "inf"),
    "--dropout": ("2", "nan"),
    "--shift": ("-1", "-2"),
    "--erase": ("-1", "-2"),
    "--seed": ("99999999999999999999", "-1"),
}


@pytest.mark.parametrize("which", [0, 1])
def test_every_number_that_does_not_fit_is_said_at_once(main, tmp_path, capsys, which):
    given = [word for name, values in NUMBERS.items() for word in (name, values[which])]
    assert main([*DIGITS, *given, "--out", str(tmp_path / "n.safetensors")]) == 2
    said = capsys.readouterr().err
    for name, values in NUMBERS.items():
        assert f"{name[2:].replace('-', '_')}: found {values[which]}" in said


def test_a_shift_and_a_square_as_large_as_the_images(main, tmp_path, capsys):
    out = tmp_path / "n.safetensors"
    options = ["--samples", "50", "--epochs", "1", "--shift", "8", "--erase", "16"]
    assert main([*DIGITS, *options, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "shift: found 8; allowed: below 8" in said
    assert "erase: found 16; allowed: below 8" in said


def test_files_that_cannot_be_written_are_refused_before_the_training(main, tmp_path, capsys):
    folder = tmp_path / "net.safetensors"
    folder.mkdir()
    files = ["--out", str(folder), "--checkpoint", str(tmp_path / "absent" / "x.ck")]
    assert main([*DIGITS, *files]) == 1
    said = capsys.readouterr().err
    assert f"--out: found {folder}, a folder;" in said and "--checkpoint: found" in said
    assert "epoch" not in said
    fine = ["--out", str(tmp_path / "n.safetensors")]
    assert main([*DIGITS, *fine, "--checkpoint", str(tmp_path)]) == 1


@pytest.mark.parametrize("junk", [b"junk", b"hello", b"some text in a file\n", b"", b"N."])
def test_a_text_is_no_checkpoint(main, tmp_path, capsys, junk):
    state = tmp_path / "junk.ck"
    state.write_bytes(junk)
    options = ["--samples", "50", "--epochs", "1", "--checkpoint", str(state)]
    assert main([*DIGITS, *options, "--out", str(tmp_path / "n.safetensors")]) == 2
    assert "a damaged file" in capsys.readouterr().err
    assert state.read_bytes() == junk


@pytest.mark.parametrize(("times", "told"), [(12.3, True), (1.0, False), (0.5, False)])
def test_slow_products_are_told(main, tmp_path, capsys, monkeypatch, times, told):
    monkeypatch.setitem(main.__globals__, "bfloat16_seconds", lambda: times)
    options = ["--precision", "bfloat16", "--epochs", "1", "--samples", "64"]
    assert main([*DIGITS, *options, "--out", str(tmp_path / "net.safetensors")]) == 0
    assert ("12 times as long" in capsys.readouterr().err) == told


def test_products_in_bfloat16_are_timed():
    times = sorted(bfloat16_seconds() for _ in range(3))[1]
    assert 0.05 < times < 1_000
    here = machine()
    if here["vector_instructions"] == "AVX2" and not here["gpu"]:
        assert times > 1
