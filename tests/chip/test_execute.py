"""Layers on batches of spikes against sums written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chip.execute import bias_hwc, run_graph, run_layer, synaptic_sum, worst_sum
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, frozen


def conv_by_loops(layer: ChipLayer, spikes_chw: np.ndarray) -> np.ndarray:
    """Sum of weights that arrive at every neuron of (C, H, W) in one step."""
    geometry = layer.geometry
    group_out = layer.shape[0] // geometry.groups
    group_in = layer.weight.shape[1]
    out = np.zeros(layer.shape, np.int64)
    for o, y, x in np.ndindex(layer.shape):
        for i, ky, kx in np.ndindex(layer.weight.shape[1:]):
            row = y * geometry.stride[0] - geometry.padding[0][0] + ky * geometry.dilation[0]
            column = x * geometry.stride[1] - geometry.padding[1][0] + kx * geometry.dilation[1]
            inside = 0 <= row < layer.input_shape[1] and 0 <= column < layer.input_shape[2]
            if inside and spikes_chw[o // group_out * group_in + i, row, column]:
                out[o, y, x] += int(layer.weight[o, i, ky, kx])
    return out


def conv_layer(seed: int, geometry: ConvGeometry, size: tuple[int, int]) -> ChipLayer:
    generator = np.random.default_rng(seed)
    channels = 2 * geometry.groups
    kernel = (int(generator.integers(1, 4)), int(generator.integers(1, 4)))
    weight = frozen(2 * generator.integers(-128, 128, (channels * 2, 2, *kernel)), np.int32)
    rows, columns = geometry.output_size(size, kernel)
    shape = (channels * 2, rows, columns)
    return ChipLayer(
        "conv", "conv", (channels, *size), shape, weight, None, CubaFields(301), geometry
    )


sides = st.tuples(st.integers(0, 2), st.integers(0, 2))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    stride=pairs,
    padding=st.tuples(sides, sides),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.integers(1, 2),
)
def test_convolution(
    seed: int, stride: tuple, padding: tuple, dilation: tuple, groups: int
) -> None:
    geometry = ConvGeometry(stride, padding, dilation, groups)
    layer = conv_layer(seed, geometry, (5, 7))
    spikes = np.random.default_rng(seed).integers(0, 2, (2, 2, 5, 7, 2 * groups), dtype=np.uint8)
    found = synaptic_sum(layer, spikes).reshape(2, 2, layer.shape[1], layer.shape[2], -1)
    for t, n in np.ndindex(2, 2):
        expected = conv_by_loops(layer, np.moveaxis(spikes[t, n], -1, 0))
        np.testing.assert_array_equal(np.moveaxis(found[t, n], -1, 0), expected)


def dense_layer(weight: np.ndarray, before: tuple[int, int, int], **more: object) -> ChipLayer:
    shape = (len(weight), 1, 1)
    neuron = CubaFields(301)
    return ChipLayer(
        "dense", "dense", before, shape, frozen(weight, np.int32), None, neuron, **more
    )


def test_dense_weights_are_in_c_h_w_order() -> None:
    generator = np.random.default_rng(1)
    layer = dense_layer(generator.integers(-9, 9, (4, 2 * 3 * 5)), (2, 3, 5))
    spikes = generator.integers(0, 2, (3, 2, 3, 5, 2), dtype=np.uint8)
    found = synaptic_sum(layer, spikes)
    for t, n in np.ndindex(3, 2):
        flat = np.moveaxis(spikes[t, n], -1, 0).reshape(-1).astype(np.int64)
        np.testing.assert_array_equal(found[t, n], layer.weight.astype(np.int64) @ flat)


def test_delays_hold_spikes_back() -> None:
    generator = np.random.default_rng(2)
    weight, delay = generator.integers(-9, 9, (4, 6)), generator.integers(0, 7, (4, 6))
    layer = dense_layer(weight, (6, 1, 1), delay=frozen(delay, np.int32))
    spikes = generator.integers(0, 2, (5, 2, 1, 1, 6), dtype=np.uint8)
    found = synaptic_sum(layer, spikes)
    for t, n, o in np.ndindex(5, 2, 4):
        arriving = [
            weight[o, i] * spikes[t - delay[o, i], n, 0, 0, i] for i in range(6) if delay[o, i] <= t
        ]
        assert found[t, n, o] == sum(arriving)


def test_sums_beyond_float32_are_exact() -> None:
    """100,000 synapses of 253 are more than 2**24, and odd."""
    layer = dense_layer(np.full((1, 100_001), 253), (100_001, 1, 1))
    assert worst_sum(layer) == 253 * 100_001 > 1 << 24
    spikes = np.ones((1, 1, 1, 1, 100_001), np.uint8)
    assert int(synaptic_sum(layer, spikes)[0, 0, 0]) == 253 * 100_001


@pytest.mark.parametrize("shape", [(3,), (3, 2, 4)])
def test_bias_per_channel_and_per_neuron(shape: tuple[int, ...]) -> None:
    bias = frozen(np.arange(np.prod(shape)).reshape(shape), np.int32)
    weight = frozen(np.zeros((3, 1, 1, 1)), np.int32)
    layer = ChipLayer("c", "conv", (1, 2, 4), (3, 2, 4), weight, bias, CubaFields(9))
    found = bias_hwc(layer)
    for c, h, w in np.ndindex(3, 2, 4):
        assert found[h, w, c] == (bias[c] if bias.ndim == 1 else bias[c, h, w])


def test_a_chain_is_its_layers_one_after_the_other() -> None:
    """Every sample starts from rest, whatever stands beside it in the batch."""
    generator = np.random.default_rng(3)
    first = conv_layer(4, ConvGeometry(), (5, 7))
    weight = 2 * generator.integers(-50, 50, (3, int(np.prod(first.shape))))
    graph = ChipGraph("chain", first.input_shape, (first, dense_layer(weight, first.shape)))
    spikes = generator.integers(0, 2, (8, 4, 2, 5, 7), dtype=np.uint8)
    whole = list(run_graph(graph, spikes))
    hidden = run_layer(first, np.moveaxis(spikes, 2, -1))
    np.testing.assert_array_equal(whole[0].spikes_tnhwc, hidden.spikes_tnhwc)
    alone = list(run_graph(graph, spikes[:, 2:3]))
    for together, single in zip(whole, alone, strict=True):
        np.testing.assert_array_equal(together.spikes_tnhwc[:, 2:3], single.spikes_tnhwc)
        np.testing.assert_array_equal(together.voltage_nhwc[2:3], single.voltage_nhwc)
    assert whole[1].spikes_tnhwc.any()
