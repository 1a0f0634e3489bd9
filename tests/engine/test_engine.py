"""Both engines against a model in plain int64: every spike, voltage, clip and count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.chip.engine.plan import plan_layers
from compiler.chip.engine.run import Wanted, run_spikes
from compiler.ir.chip import ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen

STEPS, SAMPLES = 11, 3
QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _input(shape: tuple[int, ...], seed: int, share: float, steps: int = STEPS) -> Any:
    generator = np.random.default_rng(seed)
    return (generator.random((steps, SAMPLES, *shape)) < share).astype(np.uint8)


def _check(layers: list[ChipLayer], spikes: Any, plain: Any, run_chain: Any) -> list[Any]:
    """Compare the chain, layer by layer, each with all before it in one run."""
    found = []
    given_ = spikes
    for depth, layer in enumerate(layers, 1):
        expected = plain(layer, spikes)
        output, spikes = run_chain(layers[:depth], given_)
        name = layer.name
        np.testing.assert_array_equal(spikes, expected["spikes"], err_msg=name)
        last_first = np.moveaxis(expected["v"], 1, -1).reshape(SAMPLES, -1)
        np.testing.assert_array_equal(output.voltage_nm, last_first, err_msg=name)
        np.testing.assert_array_equal(output.clips_n, expected["clips"], err_msg=name)
        np.testing.assert_array_equal(output.steps_nt, spikes.sum((2, 3, 4)).T, err_msg=name)
        counts = np.moveaxis(spikes.sum(0), 1, -1).reshape(SAMPLES, -1)
        np.testing.assert_array_equal(output.counts_nm, counts, err_msg=name)
        np.testing.assert_array_equal(output.neurons, counts.sum(0), err_msg=name)
        found.append(expected)
    return found


@pytest.mark.parametrize(
    ("name", "crossover"),
    [("c++", 0.0), ("c++", 2.0), ("numba", 2.0)],
    ids=["table", "rows", "numba"],
)
@QUICK
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.02, 0.3, 1.0]),
    groups=st.sampled_from([1, 1, 2, 3]),
    loud=st.booleans(),
)
def test_random_networks(
    name: str,
    crossover: float,
    random_layers: Callable[..., list[ChipLayer]],
    use_engine: Callable[[str], None],
    plain: Any,
    run_chain: Any,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    share: float,
    groups: int,
    loud: bool,
) -> None:
    """The table, which numba has not, is looked up where the crossover lets it."""
    use_engine(name)
    monkeypatch.setattr("compiler.chip.engine.tables.CROSSOVERS", ((1 << 30, crossover),))
    layers = random_layers(seed, loud, groups)
    _check(layers, _input(layers[0].input_shape, seed, share), plain, run_chain)


def test_u_wraps_and_v_clips(
    each_engine: str, random_layers: Any, plain: Any, run_chain: Any
) -> None:
    """Otherwise the loud networks would test nothing."""
    wraps = clips = 0
    for seed in range(6):
        layers = random_layers(seed, loud=True)
        spikes = _input(layers[0].input_shape, seed, 1.0, steps=32)
        for layer in _check(layers, spikes, plain, run_chain):
            wraps, clips = wraps + layer["wraps"], clips + layer["clips"].sum()
    assert wraps > 100 and clips > 100


@pytest.mark.parametrize("size", [127, 128, 129, 600])
def test_sums_of_16_and_of_32_bits(each_engine: str, size: int, plain: Any, run_chain: Any) -> None:
    """128 weights of -256 are -2**15, 128 of 255 stay below it, 129 do not."""
    rows = [np.full(size, 255), np.full(size, -256), np.arange(size) % 511 - 255]
    weight = frozen(np.array(rows), np.int32)
    layer = ChipLayer("d", "dense", (size, 1, 1), (3, 1, 1), weight, None, CubaFields(9000, 200, 9))
    kind = plan_layers([layer], layer.input_shape)[0].weight.dtype
    assert kind == (np.int16 if size < 128 else np.int32)
    _check([layer], _input(layer.input_shape, 1, 1.0), plain, run_chain)


@pytest.mark.parametrize("groups", [4, 6, 12])
def test_one_channel_a_group(each_engine: str, groups: int, plain: Any, run_chain: Any) -> None:
    generator = np.random.default_rng(groups)
    weight = frozen(generator.integers(-256, 256, (2 * groups, 1, 3, 2)), np.int32)
    geometry = ConvGeometry((2, 1), ((1, 0), (0, 1)), (1, 2), groups)
    shape = (2 * groups, *geometry.output_size((6, 5), (3, 2)))
    layer = ChipLayer("c", "conv", (groups, 6, 5), shape, weight, None, CubaFields(99), geometry)
    _check([layer], _input(layer.input_shape, 1, 0.4), plain, run_chain)


def test_operations_are_summed_over_the_spikes(
    each_engine: str, random_layers: Any, run_chain: Any
) -> None:
    layers = random_layers(5)
    spikes = _input(layers[0].input_shape, 2, 0.4)
    generator = np.random.default_rng(1)
    tables = [
        [generator.integers(0, 1 << 40, layer.input_shape) for _ in range(2)] for layer in layers
    ]
    plans = plan_layers(layers, layers[0].input_shape)
    outputs = run_spikes(plans, np.moveaxis(spikes, 2, -1), Wanted(fans=tables))
    for depth, of_layer in enumerate(tables):
        sent = run_chain(layers[:depth], spikes)[1] if depth else spikes
        expected = [(sent * table).sum((2, 3, 4), dtype=np.int64).T for table in of_layer]
        np.testing.assert_array_equal(outputs[depth].events_fnt, expected)
    assert outputs[-1].events_fnt is None


def test_threads_change_nothing(random_layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = random_layers(8)
    plans = plan_layers(layers, layers[0].input_shape)
    spikes = np.moveaxis(np.concatenate([_input(layers[0].input_shape, k, 0.3) for k in range(9)],
                                        axis=1), 2, -1)  # fmt: skip
    answers = []
    for threads in (1, 2, 5):
        monkeypatch.setattr("compiler.chip.engine.run.thread_count", lambda n=threads: n)
        answers.append(run_spikes(plans, spikes))
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            np.testing.assert_array_equal(one.neurons, two.neurons)
            np.testing.assert_array_equal(one.steps_nt, two.steps_nt)
            np.testing.assert_array_equal(one.clips_n, two.clips_n)
        np.testing.assert_array_equal(answers[0][-1].voltage_nm, other[-1].voltage_nm)


def test_sums_beyond_32_bits_are_refused() -> None:
    weight = frozen(np.full((1, 200_000), 255), np.int32)
    layer = ChipLayer("wide", "dense", (200_000, 1, 1), (1, 1, 1), weight, None, CubaFields(9))
    with pytest.raises(OverflowError, match="wide"):
        plan_layers([layer], layer.input_shape)
