"""A network and settings so small that a compile takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

QUICK: dict[str, Any] = {
    "synthesize": {"count": 48, "held_out": 16, "steps": 2, "batch": 48},
    "convert": {"timesteps": 8, "images": 16, "percentiles": (99.9,), "threshold_scales": (1.0,)},
    "encrypt": {"epochs": 1, "batch": 32},
}


def make_network() -> nn.Module:
    """One convolution and one dense layer for 8 x 8 pixels, with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)
        ).eval()


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return make_network()


@pytest.fixture(scope="session")
def quick() -> dict[str, Any]:
    return QUICK


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Thirty of scikit-learn's digits."""
    from sim.datasets import load_dataset

    data = load_dataset("digits", samples=30)
    return data.images_nchw, data.labels


@pytest.fixture(scope="session")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as an ONNX file."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    torch.onnx.export(make_network(), (torch.zeros(1, 1, 8, 8),), path, dynamo=False)
    return path


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Have every compile of user code run with the quick settings and without Lava."""
    import compiler

    full = compiler.compile_model

    def compile_quickly(*arguments: Any, **settings: Any) -> Any:
        return full(*arguments, **{"config": QUICK, "lava_samples": 0, **settings})

    monkeypatch.setattr(compiler, "compile_model", compile_quickly, raising=False)
    return compile_quickly
