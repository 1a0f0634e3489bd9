"""Threshold balancing for hard reset, strict threshold and binary spikes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from compiler.chip.execute_float import encode_nhwc, run_float_layer, run_snn
from compiler.chip.fields import ACCUMULATOR_LIMIT, BIAS_MANT, READOUT_V_TH_MANT, WEIGHT
from compiler.config import ConversionConfig, SynthesisConfig
from compiler.conversion import Conversion, balance, convert
from compiler.conversion.balance import VOLTAGE_LIMIT, balance_layer
from compiler.ir import AnnGraph, AvgPool2d, Conv2d, ConvGeometry, Dense, Flatten, Relu
from compiler.ir.geometry import frozen
from compiler.ir.run_ann import run_ann_layers
from compiler.ir.snn import Encoding, SnnLayer
from compiler.ir.stages import Stage
from compiler.ir.synthetic import SyntheticSet
from compiler.passes import lower
from compiler.quantization import quantize, step_bounds
from compiler.store import save
from compiler.synthesis import synthesize
from sim.reference import simulate

RATE = Encoding("rate")


@pytest.fixture(scope="module")
def converted(digits: AnnGraph, images_of_digits: SyntheticSet) -> Conversion:
    return convert(digits, images_of_digits, ConversionConfig(images=128), RATE)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


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
                ConversionConfig(
                    timesteps=steps, images=64, percentiles=(99.0,), threshold_scales=(1.0,)
                ),
                RATE,
            ),
            images_of_digits,
        )
        for steps in (4, 64)
    ]
    assert found[1] >= found[0] + 0.05


def test_the_thresholds_nearest_to_the_ann_are_kept(
    converted: Conversion, images_of_digits: SyntheticSet
) -> None:
    tried, config = converted.candidates, ConversionConfig()
    found = [(candidate.percentile, candidate.threshold_scale) for candidate in tried]
    assert found == list(product(config.percentiles, config.threshold_scales))
    assert converted.chosen == min(tried, key=lambda candidate: candidate.divergence)
    assert agreement(converted, images_of_digits) == pytest.approx(converted.chosen.agreement)
    assert len({candidate.divergence for candidate in tried}) > 1


def test_the_images_of_balancing_are_counted(
    digits: AnnGraph, images_of_digits: SyntheticSet, converted: Conversion
) -> None:
    """As many as were asked for, or as many as there are."""
    there = len(images_of_digits.pixels(images_of_digits.training))
    more = ConversionConfig(images=there + 1, timesteps=8, threshold_scales=(1.0,))
    assert converted.images == 128 < there
    assert convert(digits, images_of_digits, more, RATE).images == there


@pytest.mark.parametrize("bad", [{"percentiles": (50.0, 99.0)}, {"threshold_scales": (0.1, 1.0)}])
def test_bad_thresholds_are_not_kept(
    digits: AnnGraph, images_of_digits: SyntheticSet, bad: dict[str, tuple[float, float]]
) -> None:
    one = {"percentiles": (99.0,), "threshold_scales": (1.0,)}
    found = convert(digits, images_of_digits, ConversionConfig(images=64, **(one | bad)), RATE)
    worse, better = found.candidates
    assert found.chosen == better
    assert worse.agreement < better.agreement and worse.divergence > better.divergence


def test_correcting_the_bias_brings_the_mean_rates_nearer(
    digits: AnnGraph, images_of_digits: SyntheticSet
) -> None:
    one = ConversionConfig(images=256, percentiles=(99.0,), threshold_scales=(1.0,))
    without, corrected = (
        convert(digits, images_of_digits, replace(one, bias_passes=passes), RATE)
        for passes in (0, 1)
    )
    images = images_of_digits.pixels(images_of_digits.training)[:256]
    activation = next(
        output for layer, output in run_ann_layers(digits, images) if isinstance(layer, Relu)
    )
    wanted = activation.mean((0, 2, 3))

    def error(found: Conversion) -> float:
        first = found.graph.layers[0]
        spikes, _ = run_float_layer(first, encode_nhwc(images, found.graph))
        return float(np.abs(spikes.mean((0, 1, 2, 3)) * first.unit - wanted).sum())

    assert error(corrected) < 0.9 * error(without)


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


def test_a_silenced_neuron_has_room_too(generator: Any) -> None:
    """Many steps of strong inhibition: v stays within 24 bits, and the spikes are the same."""
    weight = np.where(generator.random((4, 64)) < 0.7, -1.0, 1.0)
    stage = Stage(
        Dense("d", frozen(weight, np.float32), None), (64, 1, 1), (4, 1, 1), 0, readout=False
    )
    spikes = (generator.random((1024, 8, 1, 1, 64)) < 0.5).astype(np.uint8)
    activation = np.maximum(spikes.mean(0).reshape(8, 64) @ weight.T, 0).reshape(8, 4, 1, 1)
    scale = np.full(4, 4.0)
    layer = balance_layer(stage, np.ones(64), activation, scale, spikes, 0).layer
    _, voltage = run_float_layer(layer, spikes)
    assert VOLTAGE_LIMIT / 4 < np.abs(voltage).max() <= VOLTAGE_LIMIT / 1.9
    assert layer.threshold % 2 == 1


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
    config = ConversionConfig(images=32, percentiles=(99.0,), threshold_scales=(1.0,))
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


def test_pools_of_several_divisors_stay_exact_on_the_chip(generator: Any) -> None:
    """Channels that a bias silences in most places never fire there, and the answers agree."""

    def normal(*shape: int) -> Any:
        return frozen(generator.normal(0, np.prod(shape[1:]) ** -0.5, shape), np.float32)

    around = ConvGeometry(padding=((1, 1), (1, 1)))
    pool = AvgPool2d("pool", (3, 3), ConvGeometry((2, 2), ((1, 1), (1, 1))), False)
    graph = AnnGraph(
        "pooled",
        (2, 9, 9),
        (
            Conv2d("a", normal(6, 2, 3, 3) * 2, None, around),
            Relu("r1"),
            pool,
            Conv2d("b", normal(8, 6, 3, 3) * 2, None, around),
            Relu("r2"),
            Flatten("f"),
            Dense("d", normal(4, 200) * 3, normal(4)),
        ),
    )
    lowered = lower(graph).graph
    images = synthesize(lowered, SynthesisConfig(count=256, held_out=96, batch=256), seed=0)
    found = convert(lowered, images, ConversionConfig(timesteps=64, images=128), RATE)
    chip = quantize(found.graph)
    pooled = simulate(chip, images.pixels(images.training)).layers[1].spikes_chw
    active = (pooled.reshape(6, -1, 5, 5) > 0).sum(1)
    assert active.max() == 1 and active.mean() > 0.5
    assert agreement(found, images) >= 0.85


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


@pytest.mark.parametrize("conv", [False, True])
def test_the_peak_of_the_read_out_is_found_block_by_block(
    generator: np.random.Generator, monkeypatch: pytest.MonkeyPatch, conv: bool
) -> None:
    spikes = generator.integers(0, 2, (8, 11, 4, 4, 8), np.uint8)
    weight = generator.normal(size=(3, 8, 4, 4) if conv else (3, 128))
    synapse = (Conv2d if conv else Dense)("end", frozen(weight, np.float32), None)
    stage, bias = Stage(synapse, (8, 4, 4), (3, 1, 1), 0, True), np.array([0.5, -0.5, 0.1])
    sizes: list[int] = []

    def counted(images_nhwc: Any, *rest: Any) -> Any:
        sizes.append(images_nhwc.numel())
        return apply_synapses(images_nhwc, *rest)

    apply_synapses = balance.apply_synapses
    monkeypatch.setattr(balance, "apply_synapses", counted)
    whole = balance._peak_voltage(stage, weight, bias, spikes)
    assert sizes == [spikes.size]
    most = spikes.size // 3
    monkeypatch.setattr(balance, "_BLOCK_SPIKES", most)
    assert balance._peak_voltage(stage, weight, bias, spikes) == whole
    blocks = sizes[1:]
    assert sum(blocks) == spikes.size and max(blocks) <= most and len(blocks) > 3
    drive = np.moveaxis(spikes, -1, 2).reshape(8, 11, -1) @ weight.reshape(3, -1).T + bias
    assert whole == pytest.approx(np.abs(np.cumsum(drive, 0)).max(), rel=1e-5)
