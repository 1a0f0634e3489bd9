"""Symmetric padding with a longer kernel computes the same sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.chip import ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen
from netx_export import symmetric_padding
from netx_export.checks import expected_shape


def _sums(layer: ChipLayer, image: Any) -> Any:
    (top, bottom), (left, right) = layer.geometry.padding
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right)))
    out = torch.nn.functional.conv2d(
        torch.tensor(padded, dtype=torch.float64)[None],
        torch.tensor(np.asarray(layer.weight), dtype=torch.float64),
        stride=layer.geometry.stride,
        dilation=layer.geometry.dilation,
        groups=layer.geometry.groups,
    )
    return out[0].numpy()


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
    ),
    seed=st.integers(0, 1000),
)
def test_every_sum_of_weights_is_unchanged(
    size: Any, kernel: Any, stride: Any, dilation: Any, padding: Any, seed: int
) -> None:
    geometry = ConvGeometry(stride, padding, dilation, 2)
    rows, columns = geometry.output_size(size, kernel)
    if rows < 1 or columns < 1:
        return
    generator = np.random.default_rng(seed)
    weight = frozen(generator.integers(-128, 128, (2, 1, *kernel)), np.int32)
    layer = ChipLayer(
        "c", "conv", (2, *size), (2, rows, columns), weight, None, CubaFields(1), geometry
    )
    changed = symmetric_padding(layer)
    assert changed.geometry.symmetric
    assert expected_shape(changed) == layer.shape
    image = generator.integers(0, 2, layer.input_shape)
    np.testing.assert_array_equal(_sums(changed, image), _sums(layer, image))
    if geometry.symmetric:
        assert changed is layer


def test_the_same_padding_of_tensorflow_needs_one_row_and_one_column_of_zeros() -> None:
    weight = frozen(np.ones((1, 1, 3, 3)), np.int32)
    geometry = ConvGeometry((2, 2), ((0, 1), (0, 1)))
    layer = ChipLayer("c", "conv", (1, 8, 8), (1, 4, 4), weight, None, CubaFields(1), geometry)
    changed = symmetric_padding(layer)
    assert changed.weight.shape == (1, 1, 4, 4)
    assert changed.geometry.padding == ((1, 1), (1, 1))
    assert int(changed.weight[0, 0, 0].sum() + changed.weight[0, 0, :, 0].sum()) == 0
