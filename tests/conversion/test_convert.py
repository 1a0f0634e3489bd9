"""Threshold balancing for hard reset, strict threshold and binary spikes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.chip.execute_float import run_float_layer, run_snn
from compiler.chip.fields import ACCUMULATOR_LIMIT, BIAS_MANT, READOUT_V_TH_MANT, WEIGHT
from compiler.config import ConversionConfig
from compiler.conversion import Conversion, convert
from compiler.ir import AnnGraph
from compiler.ir.snn import Encoding, SnnLayer
from compiler.ir.synthetic import SyntheticSet
from compiler.quantization import quantize, step_bounds
from compiler.store import save
from sim.reference import simulate

RATE = Encoding("rate")


@pytest.fixture(scope="module")
def converted(digits: AnnGraph, images_of_digits: SyntheticSet) -> Conversion:
    return convert(digits, images_of_digits, ConversionConfig(images=128), RATE)


def agreement(conversion: Conversion, images: SyntheticSet) -> float:
    voltage = run_snn(conversion.graph, images.pixels(images.validation))
    teacher = images.logits_nk[images.validation]
    return float(np.mean(voltage.argmax(1) == teacher.argmax(1)))


def test_the_network_agrees_with_the_ann(
    converted: Conversion, images_of_digits: SyntheticSet
) -> None:
    assert agreement(converted, images_of_digits) >= 0.85
    scaled = run_snn(converted.graph, images_of_digits.pixels(images_of_digits.validation))
    scaled = scaled * converted.graph.logit_per_voltage
    teacher = images_of_digits.logits_nk[images_of_digits.validation]
    assert np.corrcoef(scaled.ravel(), teacher.ravel())[0, 1] > 0.9


def test_more_time_steps_agree_better(digits: AnnGraph, images_of_digits: SyntheticSet) -> None:
    found = [
        agreement(
            convert(
                digits,
                images_of_digits,
                ConversionConfig(timesteps=steps, images=64, percentiles=(99.0,)),
                RATE,
            ),
            images_of_digits,
        )
        for steps in (4, 64)
    ]
    assert found[1] >= found[0] + 0.05


def test_the_percentile_with_the_best_agreement_is_kept(
    converted: Conversion, images_of_digits: SyntheticSet
) -> None:
    tried = converted.candidates
    assert [candidate.percentile for candidate in tried] == list(ConversionConfig().percentiles)
    best = max(tried, key=lambda candidate: (candidate.agreement, -candidate.divergence))
    assert converted.percentile == best.percentile
    assert agreement(converted, images_of_digits) == pytest.approx(best.agreement)
    assert len({candidate.divergence for candidate in tried}) > 1


def test_a_bad_percentile_is_not_kept(digits: AnnGraph, images_of_digits: SyntheticSet) -> None:
    config = ConversionConfig(images=64, percentiles=(50.0, 99.0))
    found = convert(digits, images_of_digits, config, RATE)
    assert found.percentile == 99.0
    assert found.candidates[0].agreement < found.candidates[1].agreement


def test_everything_fits_the_chip(converted: Conversion) -> None:
    *hidden, last = converted.graph.layers
    for layer in hidden:
        assert layer.threshold == int(layer.threshold) and int(layer.threshold) % 2 == 1
        assert 1 <= layer.threshold <= 4095 and not layer.readout
    assert last.readout and last.threshold == READOUT_V_TH_MANT
    for layer in converted.graph.layers:
        assert np.abs(layer.weight).max() <= WEIGHT.high
        assert layer.bias is None or np.abs(layer.bias).max() <= BIAS_MANT.high
        assert (layer.i_decay, layer.v_decay) == (4096, 0)
    for bound in step_bounds(quantize(converted.graph)):
        assert bound.fits_accumulator and bound.worst < ACCUMULATOR_LIMIT


def test_the_read_out_has_room(converted: Conversion, images_of_digits: SyntheticSet) -> None:
    """The voltage stays below the threshold by the margin, and below 24 bits at every step."""
    images = images_of_digits.pixels(images_of_digits.training)[:128]
    found = simulate(quantize(converted.graph), images)
    assert found.readout_spikes == 0
    assert sum(layer.saturations for layer in found.layers) == 0
    margin = ConversionConfig().readout_margin
    assert np.abs(found.logits_nk).max() / 64 <= 1.05 * READOUT_V_TH_MANT / margin


def test_rounding_to_integers_loses_little(
    converted: Conversion, images_of_digits: SyntheticSet
) -> None:
    images = images_of_digits.pixels(images_of_digits.validation)
    whole = simulate(quantize(converted.graph), images).predictions_n
    assert np.mean(whole == run_snn(converted.graph, images).argmax(1)) >= 0.9


def test_the_same_input_gives_the_same_bytes(
    digits: AnnGraph, images_of_digits: SyntheticSet, tmp_path: Any
) -> None:
    config = ConversionConfig(images=32, percentiles=(99.0,))
    for name in ("first", "second"):
        save(convert(digits, images_of_digits, config, RATE).graph, tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize("code", ["rate", "poisson"])
def test_bias_per_place_groups_and_uneven_padding(
    uneven: AnnGraph, images_of_uneven: SyntheticSet, code: Any
) -> None:
    config = ConversionConfig(timesteps=64, images=128)
    found = convert(uneven, images_of_uneven, config, Encoding(code, seed=1))
    border, strided, _ = found.graph.layers
    assert border.bias is not None and border.bias.shape == (4, 5, 6)
    assert border.geometry.groups == 2 and not strided.geometry.symmetric
    assert found.graph.class_names == ("a", "b", "c")
    assert found.graph.encoding == Encoding(code, seed=1) and found.graph.timesteps == 64
    assert agreement(found, images_of_uneven) >= 0.8


def run_one_neuron(threshold: float, drive: list[float], bias: float = 0.0) -> tuple[Any, float]:
    """One neuron whose input neuron i brings drive[i] at step i."""
    steps = len(drive)
    layer = SnnLayer(
        "neuron", "dense", (steps, 1, 1), (1, 1, 1), np.array([drive]), np.array([bias]),
        threshold, np.ones(1),
    )  # fmt: skip
    spikes = np.eye(steps, dtype=np.uint8).reshape(steps, 1, 1, 1, steps)
    out, voltage = run_float_layer(layer, spikes)
    return out.ravel().tolist(), float(voltage[0, 0])


def test_the_neuron_is_strict_and_resets_to_zero() -> None:
    spikes, voltage = run_one_neuron(10, [10, 0.5, 25, 4, 6, 1])
    assert spikes == [0, 1, 1, 0, 0, 1]  # 10 is not above 10; the 15 beyond 10 are lost
    assert voltage == 0
    spikes, voltage = run_one_neuron(10, [0, 0, 0, 0], bias=4)
    assert spikes == [0, 0, 1, 0] and voltage == 4
    spikes, voltage = run_one_neuron(10, [-30, 20, 20, 0])
    assert spikes == [0, 0, 0, 0] and voltage == 10  # negative voltage is kept
