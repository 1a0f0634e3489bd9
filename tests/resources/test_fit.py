"""Networks that a named chip cannot hold are refused before anything else is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.config import ConversionConfig
from compiler.errors import ModelError
from compiler.fit import chips_that_cannot_hold, forms_that_fit
from compiler.ir import AnnGraph, Dense, Flatten
from compiler.ir.geometry import frozen


def dense(inputs: int) -> AnnGraph:
    weight = frozen(np.zeros((2, inputs)), np.float32)
    return AnnGraph("net", (inputs, 1, 1), (Flatten("flat"), Dense("wide", weight, None)))


SMALL, WIDE = dense(100), dense(5000)  # Loihi 1 has 4096 input axons a core


def asked(pools: str) -> ConversionConfig:
    return ConversionConfig(timesteps="auto", pools=pools)


@pytest.mark.parametrize("pools", ["fold", "auto"])
def test_the_folded_network_must_fit(pools: str) -> None:
    with pytest.raises(ModelError, match="5,000 input axons"):
        forms_that_fit(WIDE, SMALL if pools == "fold" else WIDE, "loihi1", asked(pools))
    assert forms_that_fit(SMALL, None, "loihi1", asked(pools)) == (SMALL, None)


def test_neurons_for_pools_are_offered_where_they_fit() -> None:
    assert forms_that_fit(SMALL, SMALL, "loihi1", asked("auto")) == (SMALL, SMALL)
    assert forms_that_fit(SMALL, WIDE, "loihi1", asked("auto")) == (SMALL, None)
    assert forms_that_fit(SMALL, WIDE, "loihi2", asked("auto")) == (SMALL, WIDE)
    assert forms_that_fit(WIDE, SMALL, "loihi1", asked("neurons")) == (WIDE, SMALL)
    with pytest.raises(ModelError, match="5,000 input axons"):
        forms_that_fit(SMALL, WIDE, "loihi1", asked("neurons"))


def test_neurons_for_pools_are_taken_where_the_folded_network_does_not_fit() -> None:
    assert forms_that_fit(WIDE, SMALL, "loihi1", asked("auto")) == (SMALL, None)


def test_without_a_target_it_is_said_early() -> None:
    assert chips_that_cannot_hold(SMALL, 32) == []
    (line,) = chips_that_cannot_hold(WIDE, 32)
    assert line.startswith("Loihi 1 cannot hold it as it is (layer wide)")
    assert "--target loihi1" in line


FACTORY = """
import torch
from torch import nn

def wide():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4900, 10), nn.ReLU(), nn.Linear(10, 10))
    module.input_shape = (1, 70, 70)
    return module.eval()
"""


def test_the_command_refuses_before_it_makes_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compiler.export import run

    (tmp_path / "wide_network.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["wide_network:wide", "--out", str(tmp_path / "run")]
    assert run([*command, "--target", "loihi1"]) == 1
    said = capsys.readouterr()
    assert "4,900 input axons; allowed: 4,096" in said.err
    assert "synthesize" not in said.out
    assert run([*command, "--target", "loihi2", "--to", "lower"]) == 0
    assert "cannot hold" not in capsys.readouterr().out
    assert run([*command, "--to", "lower"]) == 0
    assert "Loihi 1 cannot hold it as it is" in " ".join(capsys.readouterr().out.split())


def test_neurons_for_pools_are_named_as_a_way_out_where_they_are_one() -> None:
    (line,) = chips_that_cannot_hold(WIDE, 32, SMALL)
    assert line.endswith("with neurons for its pools (--set convert.pools=neurons) it can")
    assert chips_that_cannot_hold(WIDE, 32, WIDE) == chips_that_cannot_hold(WIDE, 32)
    assert chips_that_cannot_hold(SMALL, 32, WIDE) == []
