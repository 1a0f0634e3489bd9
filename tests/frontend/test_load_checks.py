"""What is told at once of a model and of the options that describe it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from compiler.errors import ModelError, UsageError
from compiler.frontend import load_model
from compiler.presets import find_preset


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4 * 4, 3)
    )  # fmt: skip


def test_numbers_that_are_not_finite_are_told_layer_by_layer() -> None:
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0, :, 0] = torch.nan
        module[3].bias[1] = torch.inf
    with pytest.raises(ModelError) as raised:
        load_model(module, input_shape=(1, 6, 6))
    assert [(one.layer, one.found) for one in raised.value.problems] == [
        ("0", "3 of 20 numbers that are not finite"),
        ("3", "1 of 99 numbers that are not finite"),
    ]


@pytest.mark.parametrize("count", [2, 4])
def test_as_many_class_names_as_outputs(count: int) -> None:
    names = tuple("abcd"[:count])
    with pytest.raises(ModelError, match=rf"found {count} names; allowed: 3"):
        load_model(network(), input_shape=(1, 6, 6), class_names=names)
    graph = load_model(network(), input_shape=(1, 6, 6), class_names=("a", "b", "c"))
    assert graph.class_names == ("a", "b", "c")


@pytest.mark.parametrize("shape", [(8, 8), (0, -1, 8), (1, 8.5, 8)])
def test_a_size_that_is_none(shape: tuple[float, ...], tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    torch.onnx.export(network().eval(), torch.zeros(1, 1, 6, 6), file, dynamo=False)
    with pytest.raises(ModelError, match=r"\(channels, height, width\)"):
        load_model(file, input_shape=shape)  # type: ignore[arg-type]


def test_options_that_say_nothing_of_the_model_are_refused(tmp_path: Path) -> None:
    weights = find_preset("digits").weights
    with pytest.raises(UsageError, match=r"--layout: found nhwc for a \.safetensors file"):
        load_model(weights, arch="digits-cnn", layout="nhwc")
    file = tmp_path / "net.onnx"
    torch.onnx.export(network().eval(), torch.zeros(1, 1, 6, 6), file, dynamo=False)
    with pytest.raises(UsageError, match=r"--arch: found vgg99 for a \.onnx file"):
        load_model(file, arch="vgg99")


def test_weights_of_a_diverged_training_in_a_state_dict(tmp_path: Path) -> None:
    tensors = load_file(find_preset("digits").weights)
    first = next(iter(tensors))
    tensors[first] = np.full_like(tensors[first], np.nan)
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(ModelError, match="not finite"):
        load_model(tmp_path / "net.safetensors", arch="digits-cnn")
