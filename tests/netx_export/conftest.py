"""Graphs to write and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding


def _integers(generator: np.random.Generator, shape: tuple[int, ...], high: int) -> Any:
    """Even integers of both signs."""
    values = 2 * generator.integers(-high // 2, high // 2, shape)
    flat = values.reshape(-1)
    flat[0], flat[-1] = -high, high - 2
    return frozen(values, np.int32)


@pytest.fixture(scope="session")
def integers() -> Callable[..., Any]:
    return _integers


@pytest.fixture
def graph() -> ChipGraph:
    """Conv with a bias a channel, conv with a bias a neuron, dense, read-out."""
    generator = np.random.default_rng(7)
    first = ChipLayer(
        "conv_a",
        "conv",
        (2, 5, 7),
        (4, 6, 8),
        _integers(generator, (4, 2, 2, 2), 200),
        _integers(generator, (4,), 900),
        CubaFields(301),
        ConvGeometry((1, 1), ((1, 1), (1, 1))),
    )
    second = ChipLayer(
        "conv_b",
        "conv",
        (4, 6, 8),
        (6, 3, 7),
        _integers(generator, (6, 2, 2, 2), 100),
        _integers(generator, (6, 3, 7), 4000),
        CubaFields(4095, 1024, 128),
        ConvGeometry((2, 1), ((0, 0), (0, 0)), (1, 1), 2),
    )
    third = ChipLayer(
        "hidden",
        "dense",
        (6, 3, 7),
        (10, 1, 1),
        _integers(generator, (10, 126), 256),
        None,
        CubaFields(55),
    )
    last = ChipLayer(
        "logits",
        "dense",
        (10, 1, 1),
        (3, 1, 1),
        _integers(generator, (3, 10), 40),
        _integers(generator, (3,), 20),
        CubaFields(131071),
        readout=True,
    )
    layers = (first, second, third, last)
    return ChipGraph("toy", (2, 5, 7), layers, 16, Encoding(), class_names=("a", "ß", "c"))
