"""A small random network, enough to make images from."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.config import SynthesisConfig
from compiler.ir import AnnGraph, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import frozen


@pytest.fixture(scope="session")
def network() -> AnnGraph:
    """(2, 6, 5) pixels to 4 classes."""
    generator = np.random.default_rng(5)

    def normal(*shape: int) -> np.ndarray:
        return frozen(generator.normal(0, np.prod(shape[1:]) ** -0.5, shape), np.float32)

    around = ConvGeometry(padding=((1, 1), (1, 1)))
    return AnnGraph(
        "small",
        (2, 6, 5),
        (
            Conv2d("conv", normal(6, 2, 3, 3), normal(6), around),
            Relu("relu"),
            Flatten("flat"),
            Dense("dense", normal(4, 180) * 5, normal(4)),
        ),
    )


@pytest.fixture
def config() -> SynthesisConfig:
    """96 images in three batches at one temperature."""
    return SynthesisConfig(
        count=96,
        held_out=16,
        steps=30,
        learning_rate=0.05,
        temperature_low=2.0,
        temperature_high=2.0,
        batch=32,
    )
