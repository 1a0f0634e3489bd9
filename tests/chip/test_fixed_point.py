"""Rounding to the chip's integers, and the fields themselves."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.chip import fields
from compiler.chip.fields import BIAS_MANT, HIDDEN_V_TH_MANT, WEIGHT, Field
from compiler.chip.fixed_point import (
    quantize_bias,
    quantize_threshold,
    quantize_weight,
    round_to_even_integer,
)

anything = st.floats(-1e6, 1e6, allow_nan=False)
integers_and_near = st.one_of(
    anything,
    st.integers(-10_000, 10_000).map(float),
    st.integers(-10_000, 10_000).map(lambda n: float(np.nextafter(n, np.inf))),
)


@given(integers_and_near)
def test_the_nearest_even_integer(value: float) -> None:
    found = int(round_to_even_integer(value))
    assert found == 2 * round(Fraction(value) / 2)  # Python rounds halves to even


@pytest.mark.parametrize(("value", "expected"), [(1, 0), (3, 4), (5, 4), (-1, 0), (-3, -4), (7, 8)])
def test_odd_integers_go_to_the_multiple_of_four(value: int, expected: int) -> None:
    assert round_to_even_integer(value) == expected


@pytest.mark.parametrize(
    ("quantize", "field"), [(quantize_weight, WEIGHT), (quantize_bias, BIAS_MANT)]
)
@given(values=st.lists(integers_and_near, min_size=1, max_size=20))
def test_weights_and_biases_fit_and_are_the_nearest(
    quantize: object, field: Field, values: list[float]
) -> None:
    found = quantize(values)  # type: ignore[operator]
    assert found.dtype == np.int32
    assert not field.violations(found).any()
    inside = np.clip(values, field.low, field.high)
    assert np.all(np.abs(found - inside) <= 1)
    np.testing.assert_array_equal(quantize(found), found)  # type: ignore[operator]
    order = np.argsort(values)
    assert np.all(np.diff(found[order]) >= 0)


@given(st.floats(-1e4, 1e6, allow_nan=False))
def test_thresholds_are_odd_fit_and_are_the_nearest(value: float) -> None:
    found = quantize_threshold(value)
    assert isinstance(found, int)
    assert found % 2 == 1 and 1 <= found <= 4095
    assert abs(found - min(max(value, 1), 4095)) <= 1


@given(st.integers(-600, 600))
def test_violations_are_what_the_range_does_not_hold(value: int) -> None:
    for field in (WEIGHT, BIAS_MANT, HIDDEN_V_TH_MANT):
        inside = value in range(field.low, field.high + 1, field.step)
        assert bool(field.violations(np.array(value))) is not inside


def test_problems_name_layer_count_and_the_worst_value() -> None:
    (problem,) = WEIGHT.problems("conv1", np.array([[2, 3], [-258, 254]]), "retrain")
    assert problem.layer == "conv1" and problem.remedy == "retrain"
    assert problem.found == "2 values of weight out of range, for instance -258"
    assert problem.allowed == "weight -256..254 in steps of 2"
    assert WEIGHT.problems("conv1", np.array([-256, 0, 254]), "retrain") == []


def test_every_field_names_its_source_and_is_no_wider_than_its_bits() -> None:
    found = [value for value in vars(fields).values() if isinstance(value, Field)]
    assert len(found) >= 7
    for field in found:
        assert ":" in field.source or "lava-dl" in field.source, field.name
        assert field.low <= field.high and (field.high - field.low) % field.step == 0
    assert WEIGHT.low == -(2**8) and WEIGHT.high < 2**8
    assert BIAS_MANT.low == -(2**12) and BIAS_MANT.high < 2**12
    assert fields.V_TH_MANT.high == 2**17 - 1
    assert fields.STATE_LIMIT == 2**23 and fields.ACCUMULATOR_LIMIT == 2**15
