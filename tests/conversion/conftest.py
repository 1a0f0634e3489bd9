"""A trained network, lowered, with synthetic images of its own."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.config import SynthesisConfig
from compiler.ir import AnnGraph, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import frozen
from compiler.ir.synthetic import SyntheticSet
from compiler.passes import lower
from compiler.presets import load_preset
from compiler.synthesis import synthesize


@pytest.fixture(scope="session")
def digits() -> AnnGraph:
    return lower(load_preset("digits")).graph


@pytest.fixture(scope="session")
def images_of_digits(digits: AnnGraph) -> SyntheticSet:
    config = SynthesisConfig(count=384, held_out=128, steps=30, batch=384)
    return synthesize(digits, config, seed=0)


@pytest.fixture(scope="session")
def uneven() -> AnnGraph:
    """Bias per place, stride, groups and padding on one side; (2, 5, 6) to 3 classes."""
    generator = np.random.default_rng(2)

    def normal(*shape: int) -> np.ndarray:
        return frozen(generator.normal(0, np.prod(shape[1:]) ** -0.5, shape), np.float32)

    around = ConvGeometry(padding=((1, 1), (1, 1)), groups=2)
    one_side = ConvGeometry((2, 1), ((0, 1), (1, 0)))
    per_place = frozen(generator.normal(0, 0.3, (4, 5, 6)), np.float32)
    return AnnGraph(
        "uneven",
        (2, 5, 6),
        (
            Conv2d("border", normal(4, 1, 3, 3), per_place, around),
            Relu("relu1"),
            Conv2d("strided", normal(5, 4, 2, 2), None, one_side),
            Relu("relu2"),
            Flatten("flat"),
            Dense("dense", normal(3, 90) * 3, normal(3)),
        ),
        ("a", "b", "c"),
    )


@pytest.fixture(scope="session")
def images_of_uneven(uneven: AnnGraph) -> SyntheticSet:
    config = SynthesisConfig(count=256, held_out=96, steps=30, batch=256)
    return synthesize(uneven, config, seed=0)
