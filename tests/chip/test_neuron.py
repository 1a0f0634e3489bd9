"""The neuron step against a model in plain Python integers, and its float twin."""

from __future__ import annotations

from fractions import Fraction
from math import trunc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compiler.chip.neuron import decay_toward_zero, integrate_and_fire_float, run_neurons
from compiler.ir.chip import CubaFields

TOP = 2**23


def step_by_step(
    current: np.ndarray, bias: np.ndarray, fields: CubaFields
) -> dict[str, np.ndarray]:
    """One neuron and step after the other, in integers of any size."""
    steps, samples, neurons = current.shape
    out = {name: np.zeros(current.shape, np.int64) for name in ("spikes", "u", "v")}
    out["last"] = np.zeros((samples, neurons), np.int64)
    out["clips"] = np.zeros(samples, np.int64)
    for n in range(samples):
        for m in range(neurons):
            u = v = 0
            for t in range(steps):
                u = trunc(Fraction(u * (4096 - fields.i_decay), 4096)) + 64 * int(current[t, n, m])
                u += -2 * TOP if u > TOP else 2 * TOP if u <= -TOP else 0
                v = trunc(Fraction(v * (4096 - fields.v_decay), 4096)) + u + 64 * int(bias[m])
                out["clips"][n] += abs(v) > TOP - 1
                v = max(min(v, TOP - 1), 1 - TOP)
                fired = v > 64 * fields.v_th_mant
                out["u"][t, n, m], out["v"][t, n, m], out["spikes"][t, n, m] = u, v, fired
                v = 0 if fired else v
            out["last"][n, m] = v
    return out


def check(current: np.ndarray, bias: np.ndarray, fields: CubaFields) -> dict[str, np.ndarray]:
    run = run_neurons(current, bias, fields, traces=True)
    expected = step_by_step(current, bias, fields)
    np.testing.assert_array_equal(run.spikes_tnm, expected["spikes"])
    np.testing.assert_array_equal(run.u_tnm, expected["u"])
    np.testing.assert_array_equal(run.v_tnm, expected["v"])
    np.testing.assert_array_equal(run.voltage_nm, expected["last"])
    np.testing.assert_array_equal(run.saturations, expected["clips"])
    plain = run_neurons(current, bias, fields)
    np.testing.assert_array_equal(plain.spikes_tnm, run.spikes_tnm)
    assert plain.u_tnm is None and plain.v_tnm is None
    return expected


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([20, 600, 30_000, 130_000]),
    threshold=st.one_of(st.integers(1, 200), st.integers(1, 131_071)),
    i_decay=st.one_of(st.sampled_from([0, 1, 4096]), st.integers(0, 4096)),
    v_decay=st.one_of(st.sampled_from([0, 1, 4095, 4096]), st.integers(0, 4096)),
    dtype=st.sampled_from([np.float32, np.float64, np.int32]),
)
@example(0, 130_000, 131_071, 0, 0, np.float32)
def test_the_same_as_plain_integers(
    seed: int, size: int, threshold: int, i_decay: int, v_decay: int, dtype: type
) -> None:
    generator = np.random.default_rng(seed)
    current = generator.integers(-size, size + 1, (12, 2, 5)).astype(dtype)
    bias = generator.integers(-4096, 4096, 5).astype(np.int32)
    check(current, bias, CubaFields(threshold, i_decay, v_decay))


def test_u_wraps_and_v_clips_at_24_bits() -> None:
    up = np.full((6, 1, 2), 131_000, np.float32)
    up[:, :, 1] *= -1
    found = check(up, np.array([4095, -4096], np.int32), CubaFields(131_071, 1, 0))
    assert found["clips"].sum() > 0
    jumps = np.abs(np.diff(found["u"], axis=0))
    assert jumps.max() > TOP
    assert found["v"].min() == 1 - TOP


@pytest.mark.parametrize(("arriving", "first"), [(131_072, 2**23), (131_073, -(2**23) + 64)])
def test_the_edge_of_the_wrap(arriving: int, first: int) -> None:
    """As in lava-nc: 2**23 itself stays, one more goes round; -2**23 goes round."""
    for sign in (1, -1):
        current = np.full((1, 1, 1), sign * arriving, np.float32)
        u = run_neurons(current, np.zeros(1, np.int32), CubaFields(1), traces=True).u_tnm
        assert u is not None
        expected = first if sign == 1 else (2**23 if arriving == 131_072 else 2**23 - 64)
        assert int(u[0, 0, 0]) == expected


def test_the_threshold_is_strict_and_the_reset_hard() -> None:
    current = np.array([30, 30, 1, 75, 0], np.float32).reshape(5, 1, 1)
    run = run_neurons(current, np.zeros(1, np.int32), CubaFields(60), traces=True)
    assert run.spikes_tnm.ravel().tolist() == [0, 0, 1, 1, 0]
    assert run.v_tnm is not None
    assert (run.v_tnm.ravel() // 64).tolist() == [30, 60, 61, 75, 0]  # nothing is carried over
    assert int(run.voltage_nm[0, 0]) == 0


@given(st.integers(-(2**23), 2**23), st.integers(0, 4096))
def test_decay_rounds_toward_zero(state: int, keep: int) -> None:
    found = int(decay_toward_zero(np.int32(state), np.int32(keep)))
    assert found == trunc(Fraction(state * keep, 4096))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_the_float_neuron_is_the_same_on_integers(seed: int, threshold: int) -> None:
    generator = np.random.default_rng(seed)
    current = generator.integers(-60, 90, (16, 2, 6)).astype(np.float32)
    bias = generator.integers(-20, 20, 6).astype(np.int32)
    whole = run_neurons(current, bias, CubaFields(threshold))
    one = np.float32
    spikes, voltage = integrate_and_fire_float(
        current, bias.astype(np.float32), one(0), one(1), one(threshold), False
    )
    np.testing.assert_array_equal(spikes, whole.spikes_tnm)
    np.testing.assert_array_equal(voltage * 64, whole.voltage_nm)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_a_reset_by_subtraction_keeps_what_is_above_the_threshold(
    seed: int, threshold: int
) -> None:
    """v of all steps is what arrived less a threshold for every spike; it spikes above that."""
    current = np.random.default_rng(seed).integers(-60, 90, (16, 2, 6)).astype(np.float32)
    one = np.float32
    spikes, voltage = integrate_and_fire_float(
        current, np.zeros(6, one), one(0), one(1), one(threshold), True
    )
    before = current.cumsum(0) - threshold * (spikes.cumsum(0, dtype=np.int64) - spikes)
    np.testing.assert_array_equal(spikes, before > threshold)
    np.testing.assert_array_equal(voltage, current.sum(0) - threshold * spikes.sum(0))
