"""Networks and NIR files of this project and of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest

from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding
from netx_export import NetxFile, read_netx

ROOT = Path(__file__).parents[2]
NAMES = ("digits", "fashion_mnist")


@pytest.fixture(scope="session")
def golden_path() -> Callable[[str], Path]:
    return lambda name: ROOT / "tests" / "golden" / f"{name}.net"


@pytest.fixture(scope="session", params=NAMES)
def golden(request: pytest.FixtureRequest, golden_path: Callable[[str], Path]) -> NetxFile:
    return read_netx(golden_path(request.param))


def even(generator: np.random.Generator, shape: tuple[int, ...], high: int) -> Any:
    values = 2 * generator.integers(-high // 2, high // 2, shape)
    flat = values.reshape(-1)
    flat[0], flat[-1] = -high, high - 2
    return frozen(values, np.int32)


PLAIN = CubaFields(4095)


def _network(hidden: CubaFields = PLAIN, bias: str = "place") -> ChipGraph:
    """Conv, conv in two groups with `hidden` neurons, dense, read-out."""
    generator = np.random.default_rng(7)
    layers = (
        ChipLayer("conv_a", "conv", (2, 5, 5), (4, 6, 6), even(generator, (4, 2, 2, 2), 200),
                  even(generator, (4,), 900), CubaFields(301),
                  ConvGeometry((1, 1), ((1, 1), (1, 1)))),
        ChipLayer("conv_b", "conv", (4, 6, 6), (6, 3, 5), even(generator, (6, 2, 2, 2), 100),
                  None, hidden, ConvGeometry((2, 1), ((0, 0), (0, 0)), (1, 1), 2)),
        ChipLayer("hidden", "dense", (6, 3, 5), (10, 1, 1), even(generator, (10, 90), 256), None,
                  CubaFields(55)),
        ChipLayer("logits", "dense", (10, 1, 1), (3, 1, 1), even(generator, (3, 10), 40),
                  even(generator, (3,), 20), CubaFields(131071), readout=True),
    )  # fmt: skip
    biases = {"place": (6, 3, 5), "channel": (6,)}
    if bias in biases:
        second = replace(layers[1], bias=even(generator, biases[bias], 400))
        layers = (layers[0], second, *layers[2:])
    return ChipGraph("toy", (2, 5, 5), layers, 16, Encoding(), class_names=("a", "ß", "c"))


@pytest.fixture(scope="session")
def network() -> Callable[..., ChipGraph]:
    return _network


@pytest.fixture
def foreign(tmp_path: Path) -> Callable[..., Path]:
    """A NIR file as another framework would write it: names and nodes in order."""

    def write(*nodes: nir.NIRNode, metadata: dict[str, Any] | None = None) -> Path:
        named = {f"n{index}": node for index, node in enumerate(nodes)}
        edges = list(zip(named, list(named)[1:], strict=False))
        path = tmp_path / "foreign.nir"
        nir.write(path, nir.NIRGraph(named, edges, metadata or {}, type_check=False))
        return path

    return write
