"""Rounding to the chip's integers: nothing is lost, nothing is passed over."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chip.fields import ACCUMULATOR_LIMIT, BIAS_MANT, READOUT_V_TH_MANT, WEIGHT
from compiler.encryption.network import WEIGHT_SCALE, SlayerNetwork, Surrogate
from compiler.errors import ChipRangeError
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer
from compiler.quantization import quantize, step_bounds
from compiler.quantization.quantize import clipped_share, quantize_layer


def layer(name: str = "layer", seed: int = 0, spread: float = 60, **more: object) -> SnnLayer:
    """A conv layer (2, 4, 4) -> (3, 3, 3) with float weights and a bias per neuron."""
    draw = np.random.default_rng(seed).normal
    plain = SnnLayer(
        name, "conv", (2, 4, 4), (3, 3, 3), draw(0, spread, (3, 2, 2, 2)),
        draw(0, 20 * spread, (3, 3, 3)), 601.0, np.ones(3), 4000, 7, False, ConvGeometry(),
    )  # fmt: skip
    return replace(plain, **more)


def graph(*layers: SnnLayer) -> SnnGraph:
    return SnnGraph("net", (2, 4, 4), 32, Encoding("poisson", 5), layers, ("a", "b"))


def test_fields_and_names_are_carried_over() -> None:
    found = quantize(graph(layer("first"), layer("last", readout=True)))
    assert (found.name, found.timesteps, found.class_names) == ("net", 32, ("a", "b"))
    assert found.encoding == Encoding("poisson", 5) and found.input_neurons is None
    first, last = found.layers
    assert first.neuron == CubaFields(601, 4000, 7)
    assert last.neuron == CubaFields(READOUT_V_TH_MANT, 4000, 7) and last.readout
    for one in found.layers:
        assert one.weight.dtype == one.bias.dtype == np.int32
        assert not one.weight.flags.writeable and not one.bias.flags.writeable
        assert not WEIGHT.violations(one.weight).any()
        assert not BIAS_MANT.violations(one.bias).any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([3.0, 60.0, 400.0]),
    whole=st.booleans(),
)
def test_training_sees_the_very_integers_that_are_exported(
    seed: int, spread: float, whole: bool
) -> None:
    """Ties and values beyond the fields included."""
    one = layer(seed=seed, spread=spread)
    if whole:
        one = replace(one, weight=np.rint(one.weight), bias=np.rint(one.bias))
    module = SlayerNetwork(graph(one), Surrogate())
    (block,) = module.blocks
    (stored,) = module.to_graph().layers
    exported = quantize_layer(stored)
    with torch.no_grad():
        weight = block.synapse.pre_hook_fx(block.synapse.weight).double().numpy() * WEIGHT_SCALE
        bias = block.neuron.norm.bias.double().numpy() * WEIGHT_SCALE
    np.testing.assert_array_equal(weight[..., 0], exported.weight)
    np.testing.assert_array_equal(bias, 0 if exported.bias is None else exported.bias)
    assert block.neuron.threshold * WEIGHT_SCALE == exported.neuron.v_th_mant


def test_biases_that_all_round_to_zero_are_left_out() -> None:
    (found,) = quantize(graph(layer(bias=np.full(3, 0.9)))).layers
    assert found.bias is None
    (found,) = quantize(graph(layer(bias=None))).layers
    assert found.bias is None


def test_every_problem_of_every_layer_is_listed() -> None:
    infinite = np.full((3, 2, 2, 2), np.nan)
    no_bias = np.array([0.0, np.inf, 2.0])
    with pytest.raises(ChipRangeError) as caught:
        quantize(
            graph(
                layer("good"),
                layer("zero", weight=np.full((3, 2, 2, 2), 0.5), threshold=9000.0),
                layer("nan", weight=infinite),
                layer("inf", bias=no_bias),
                layer("both", weight=infinite, bias=-no_bias),
                layer("low", threshold=0.2),
                layer("end", readout=True, threshold=131071.0),
                layer("soft", reset="subtract"),
            )
        )
    named = [problem.layer for problem in caught.value.problems]
    assert named == ["zero", "zero", "nan", "inf", "both", "both", "low", "soft"]
    text = str(caught.value)
    for words in (
        "round to zero",
        "vThMant 9000.0",
        "nan: found weights that are not finite",
        "inf: found biases that are not finite",
        "1..4095 in steps of 2",
    ):
        assert words in text
    assert "`subtract`" in text


def test_what_rounding_clips_is_counted() -> None:
    weight = np.zeros((3, 2, 2, 2))
    weight[0, 0, 0] = (300.0, -300.0)
    weight[1, 0, 0] = (254.9, -256.9)  # round into the field
    bias = np.array([5000.0, 0.0, -4096.0])
    weights, biases = clipped_share(layer(weight=weight, bias=bias))
    assert weights == pytest.approx(2 / 24) and biases == pytest.approx(1 / 3)


def worst_by_trying(one: ChipLayer) -> int:
    """Every pattern of spikes that can arrive at a neuron."""
    rows = one.weight.reshape(len(one.weight), -1).astype(np.int64)
    patterns = np.array(list(product((0, 1), repeat=rows.shape[1])))
    return int(np.abs(patterns @ rows.T).max())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_bounds_are_the_worst_of_all_patterns(seed: int, inputs: int) -> None:
    generator = np.random.default_rng(seed)
    weight = frozen(generator.integers(-256, 255, (3, inputs)), np.int32)
    bias = frozen(generator.integers(-4096, 4095, 3), np.int32)
    one = ChipLayer("d", "dense", (inputs, 1, 1), (3, 1, 1), weight, bias, CubaFields(9))
    (bound,) = step_bounds(ChipGraph("g", (inputs, 1, 1), (one,)))
    assert bound.worst == worst_by_trying(one)
    assert bound.state_share == 64 * (bound.worst + int(np.abs(bias).max())) / 2**23
    assert bound.fits_accumulator


@pytest.mark.parametrize(("inputs", "fits"), [(128, False), (127, True)])
def test_the_edge_of_the_accumulator(inputs: int, fits: bool) -> None:
    weight = frozen(np.full((1, inputs), -256), np.int32)
    one = ChipLayer("d", "dense", (inputs, 1, 1), (1, 1, 1), weight, None, CubaFields(9))
    (bound,) = step_bounds(ChipGraph("g", (inputs, 1, 1), (one,)))
    assert (bound.worst, bound.fits_accumulator) == (256 * inputs, fits)
    assert bound.accumulator_limit == ACCUMULATOR_LIMIT == 128 * 256


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(40, 4096))
def test_no_current_leaves_its_bound(seed: int, decay: int) -> None:
    """The worst input at every step, until the current moves no more."""
    generator = np.random.default_rng(seed)
    weight = frozen(generator.integers(-128, 127, (3, 4)) * 2, np.int32)
    neuron = CubaFields(131071, decay, 0)
    one = ChipLayer("d", "dense", (4, 1, 1), (3, 1, 1), weight, None, neuron)
    (bound,) = step_bounds(ChipGraph("g", (4, 1, 1), (one,)))
    limit, largest = bound.state_share * 2**23, 0
    for row in np.concatenate([weight > 0, weight < 0]):
        current = np.zeros(3, np.int64)
        for _ in range(400):
            kept = np.abs(current) * (4096 - decay) >> 12
            current = np.sign(current) * kept + 64 * (weight @ row)
            largest = max(largest, int(np.abs(current).max()))
    assert 0.95 * limit <= largest <= limit
