"""Spiking networks of every kind of layer, and a small one to train."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from compiler.config import ConversionConfig
from compiler.conversion import convert
from compiler.ir import AnnGraph, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import run_ann
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer
from compiler.ir.synthetic import SyntheticSet

DECAYS = {"integrate-and-fire": (4096, 0), "leaky": (1500, 200), "slow": (300, 3000)}


def _layer(
    name: str,
    before: tuple[int, int, int],
    weight: Array,
    bias: Array | None,
    decays: tuple[int, int],
    geometry: ConvGeometry | None = None,
    readout: bool = False,
) -> SnnLayer:
    rows, columns = (1, 1)
    if geometry:
        rows, columns = geometry.output_size(before[1:], weight.shape[2:])
    return SnnLayer(
        name,
        "conv" if geometry else "dense",
        before,
        (len(weight), rows, columns),
        frozen(weight, np.float64),
        None if bias is None else frozen(bias, np.float64),
        131071.0 if readout else 201.0,
        np.ones(len(weight)),
        *decays,
        readout,
        geometry or ConvGeometry(),
    )


def every_kind(decays: tuple[int, int]) -> SnnGraph:
    """Stride, padding, dilation, groups, all forms of bias, dense behind conv, read-out."""
    draw = np.random.default_rng(4).normal
    strided = ConvGeometry((2, 1), ((1, 1), (2, 2)))
    grouped = ConvGeometry((1, 1), ((0, 0), (1, 1)), (1, 2), 2)
    a = _layer("strided", (2, 7, 6), draw(9, 40, (4, 2, 3, 2)), draw(8, 20, 4), decays, strided)
    b = _layer(
        "grouped", a.shape, draw(9, 60, (6, 2, 2, 3)), draw(9, 30, (6, 3, 7)), decays, grouped
    )
    c = _layer("hidden", b.shape, draw(5, 30, (9, 126)), draw(0, 30, 9), decays)
    d = _layer("plain", c.shape, draw(20, 60, (8, 9)), None, decays)
    last = _layer("logits", d.shape, draw(0, 60, (5, 8)), draw(0, 30, 5), decays, readout=True)
    return SnnGraph("every-kind", (2, 7, 6), 16, Encoding(), (a, b, c, d, last))


def stacked() -> SnnGraph:
    """Convolutions whose channels fill vectors, wholly and in part; one has sums beyond 16 bits."""
    draw = np.random.default_rng(9).normal
    around = ((1, 1), (1, 1))
    plain, strided = ConvGeometry((1, 1), around), ConvGeometry((2, 2), around)
    uneven = ConvGeometry((2, 1), ((2, 2), (0, 0)), (2, 1))
    free = DECAYS["integrate-and-fire"]
    a = _layer("a", (3, 11, 14), draw(9, 40, (16, 3, 3, 3)), draw(8, 20, 16), free, plain)
    b = _layer("b", a.shape, draw(5, 40, (24, 16, 3, 3)), draw(0, 20, 24), free, strided)
    loud = np.random.default_rng(9).choice([-240.0, 244.0], (40, 24, 3, 5))
    c = _layer("c", b.shape, loud, draw(0, 20, 40), free, uneven)
    d = _layer("d", c.shape, draw(2, 30, (12, int(np.prod(c.shape)))), None, free)
    last = _layer("logits", d.shape, draw(0, 60, (5, 12)), None, free, readout=True)
    return SnnGraph("stacked", (3, 11, 14), 16, Encoding(), (a, b, c, d, last))


@pytest.fixture
def wide() -> SnnGraph:
    return stacked()


@pytest.fixture(params=DECAYS)
def network(request: pytest.FixtureRequest) -> SnnGraph:
    return every_kind(DECAYS[request.param])


@pytest.fixture
def spikes_tnchw() -> Array:
    """16 steps of 3 samples, from silent to busy."""
    rates = np.array([0.05, 0.4, 0.8]).reshape(1, 3, 1, 1, 1)
    return (np.random.default_rng(6).random((16, 3, 2, 7, 6)) < rates).astype(np.float32)


@dataclass(frozen=True)
class Lesson:
    """A network to train, its teacher and its images.

    `converted` has lost its biases and half of every weight's precision on the way, so that
    there is something to train.
    """

    ann: AnnGraph
    converted: SnnGraph
    synthetic: SyntheticSet


@pytest.fixture(scope="session")
def lesson() -> Lesson:
    """(1, 6, 6) pixels to 4 classes; every layer has biases."""
    generator = np.random.default_rng(8)

    def normal(*shape: int) -> Array:
        return frozen(generator.normal(0, np.prod(shape[1:]) ** -0.5, shape), np.float32)

    ann = AnnGraph(
        "lesson",
        (1, 6, 6),
        (
            Conv2d("conv", normal(6, 1, 3, 3) * 2, normal(6) * np.float32(0.2)),
            Relu("relu1"),
            Flatten("flat"),
            Dense("hidden", normal(16, 96) * 2, normal(16) * np.float32(0.2)),
            Relu("relu2"),
            Dense("logits", normal(4, 16) * 4, normal(4)),
        ),
    )
    images = generator.integers(0, 256, (320, 1, 6, 6), dtype=np.uint8)
    logits = run_ann(ann, images.astype(np.float32) / np.float32(255))
    soft = np.full((320, 4), 0.25, np.float32)
    synthetic = SyntheticSet(images, soft, logits, 64)
    config = ConversionConfig(timesteps=16, images=64, percentiles=(99.0,), threshold_scales=(1.0,))
    found = convert(ann, synthetic, config, Encoding()).graph
    damaged = (
        replace(
            layer,
            weight=layer.weight * generator.uniform(0.5, 1.5, layer.weight.shape),
            bias=np.zeros(layer.shape[0]),
        )
        for layer in found.layers
    )
    return Lesson(ann, found.with_layers(tuple(damaged)), synthetic)
