"""A small network for the 8x8 digits, as a file with and without a deployment group."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding
from netx_export import deployment_of, write_netx


def even(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return frozen(2 * generator.integers(-60, 61, shape), np.int32)


@pytest.fixture(scope="session")
def graph() -> ChipGraph:
    """Conv and dense with random weights, ten classes read through the voltage."""
    generator = np.random.default_rng(4)
    geometry = ConvGeometry((2, 2), ((1, 1), (1, 1)))
    layers = (
        ChipLayer(
            "edges",
            "conv",
            (1, 8, 8),
            (6, 4, 4),
            even(generator, 6, 1, 3, 3),
            even(generator, 6),
            CubaFields(251),
            geometry,
        ),
        ChipLayer(
            "logits",
            "dense",
            (6, 4, 4),
            (10, 1, 1),
            even(generator, 10, 96),
            None,
            CubaFields(131071),
            readout=True,
        ),
    )
    names = tuple(str(digit) for digit in range(10))
    return ChipGraph("toy", (1, 8, 8), layers, 16, Encoding("poisson", 7), class_names=names)


@pytest.fixture
def network(graph: ChipGraph, tmp_path: Path) -> Path:
    """The network as this project writes it."""
    path = tmp_path / "toy.net"
    write_netx(graph, path, deployment_of(graph, seed=7))
    return path


@pytest.fixture
def foreign(network: Path, tmp_path: Path) -> Path:
    """The same file as someone else would have written it: the group `layer` alone."""
    path = tmp_path / "foreign.net"
    with h5py.File(network, "r") as source, h5py.File(path, "w") as target:
        source.copy("layer", target)
    return path


@pytest.fixture(scope="session")
def overflowing() -> ChipGraph:
    """A read-out whose voltage leaves the range within a few steps."""
    weight = np.full((2, 64), 254, np.int32)
    weight[1] = -256
    last = ChipLayer(
        "logits",
        "dense",
        (1, 8, 8),
        (2, 1, 1),
        frozen(weight, np.int32),
        None,
        CubaFields(131071),
        readout=True,
    )
    return ChipGraph("overflowing", (1, 8, 8), (last,), 64, Encoding())
