"""The attacker's first move: a spiking network read as an ordinary one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audit.reconversion import weight_distance
from audit.reconvert import reconvert
from compiler.config import ConversionConfig, SynthesisConfig
from compiler.conversion import convert
from compiler.ir import AnnGraph, Conv2d, Dense, Flatten, Relu
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.run_ann import run_ann
from compiler.ir.snn import Encoding
from compiler.passes import lower
from compiler.presets import load_preset
from compiler.quantization import quantize
from compiler.synthesis import synthesize
from sim.datasets import load_dataset


@pytest.fixture(scope="module")
def ann() -> AnnGraph:
    return lower(load_preset("digits")).graph


@pytest.fixture(scope="module")
def chip(ann: AnnGraph) -> ChipGraph:
    """Converted for many time-steps and never trained."""
    made = synthesize(ann, SynthesisConfig(count=192, held_out=64, steps=20), seed=0)
    config = ConversionConfig(
        timesteps=256, images=128, percentiles=(100.0,), threshold_scales=(1.0,)
    )
    return quantize(convert(ann, made, config, Encoding()).graph)


@pytest.mark.parametrize("activation", ["relu", "clipped_relu"])
def test_a_network_that_was_only_converted_gives_the_ann_back(
    ann: AnnGraph, chip: ChipGraph, activation: Any
) -> None:
    """Nothing is hidden without training: the audit must say that everything leaks."""
    digits = load_dataset("digits", ann.input_shape)
    expected = run_ann(ann, digits.images_nchw)
    found = run_ann(reconvert(chip, activation), digits.images_nchw)
    assert np.mean(found.argmax(1) == expected.argmax(1)) >= 0.97
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    assert np.mean(found.argmax(1) == digits.labels) >= 0.95


def by_hand(geometry: ConvGeometry) -> ChipGraph:
    draw = np.random.default_rng(0).integers
    conv = ChipLayer(
        "conv", "conv", (2, 4, 4), (2, 4, 4), frozen(2 * draw(-60, 60, (2, 2, 3, 3)), np.int32),
        frozen(2 * draw(-60, 60, (2, 4, 4)), np.int32), CubaFields(301), geometry,
    )  # fmt: skip
    weight = frozen(2 * draw(-60, 60, (3, 32)), np.int32)
    dense = ChipLayer("dense", "dense", conv.shape, (3, 1, 1), weight, None, CubaFields(201))
    weight, bias = frozen(2 * draw(-60, 60, (5, 3)), np.int32), frozen(draw(0, 9, 5), np.int32)
    last = ChipLayer(
        "last", "dense", (3, 1, 1), (5, 1, 1), weight, bias, CubaFields(131071), readout=True
    )
    return ChipGraph("by-hand", (2, 4, 4), (conv, dense, last), 16, Encoding())


def test_layers_are_the_integers_over_the_thresholds() -> None:
    graph = by_hand(ConvGeometry(padding=((1, 1), (1, 1))))
    for activation, maximum in (("relu", None), ("clipped_relu", 1.0)):
        found = reconvert(graph, activation)  # type: ignore[arg-type]
        kinds = [type(layer) for layer in found.layers]
        assert kinds == [Conv2d, Relu, Flatten, Dense, Relu, Dense]
        conv, relu, _, dense, _, last = found.layers
        assert relu.maximum == maximum
        assert conv.geometry == graph.layers[0].geometry
        for one, chip in zip((conv, dense, last), graph.layers, strict=True):
            theta = chip.neuron.v_th_mant
            np.testing.assert_allclose(one.weight * theta, chip.weight, rtol=1e-6)
            if chip.bias is None:
                assert one.bias is None
            else:
                np.testing.assert_allclose(one.bias * theta, chip.bias, rtol=1e-6)


def test_the_two_readings_differ_where_rates_would_pass_one() -> None:
    graph = by_hand(ConvGeometry(padding=((1, 1), (1, 1))))
    images = np.random.default_rng(1).random((32, 2, 4, 4)).astype(np.float32)
    plain, clipped = (
        run_ann(reconvert(graph, activation), images)  # type: ignore[arg-type]
        for activation in ("relu", "clipped_relu")
    )
    assert np.abs(plain - clipped).max() > 1e-4
    dark = run_ann(reconvert(graph, "relu"), np.zeros((1, 2, 4, 4), np.float32))
    assert np.isfinite(dark).all()


def test_a_factor_of_the_layer_is_no_change() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 4))
    noise = np.random.default_rng(1).normal(size=(5, 4))
    assert weight_distance(weight, 3 * weight).change == pytest.approx(0, abs=1e-7)
    assert weight_distance(weight, -weight).cosine == pytest.approx(-1)
    found = weight_distance(weight, 7 * (weight + 0.1 * noise))
    factors = np.linspace(0.05, 0.25, 20_001)
    tried = [np.linalg.norm(a * 7 * (weight + 0.1 * noise) - weight) for a in factors]
    assert found.change == pytest.approx(min(tried) / np.linalg.norm(weight), rel=1e-4)
    nothing = np.zeros_like(weight)
    assert weight_distance(weight, nothing).change == 1
    assert weight_distance(nothing, nothing).change == 0
