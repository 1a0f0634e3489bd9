"""examples/train_ann.py: what it writes can be compiled; mistakes are said in one message."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from compiler.frontend import load_model
from compiler.ir.run_ann import run_ann
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
    assert main([*options, "--seed", "1", "--out", str(out)]) == 2
    assert "other settings or images" in capsys.readouterr().err
