"""Operation counts against counting one spike and one synapse at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.errors import ModelError
from compiler.ir import (
    AnnGraph,
    AvgPool2d,
    ChipInput,
    ChipLayer,
    Conv2d,
    ConvGeometry,
    CubaFields,
    Dense,
    Flatten,
    Relu,
)
from sim.synops import (
    ann_macs,
    build_operations,
    count_operations,
    fan_out,
    latency_steps,
    synaptic_operations,
)


def synapses_one_by_one(layer: ChipLayer, zeros_too: bool) -> np.ndarray:
    """Synapses leaving each input neuron, by walking over every output and kernel element."""
    count = np.zeros(layer.input_shape, np.int64)
    geometry = layer.geometry
    group_in = layer.input_shape[0] // geometry.groups
    group_out = layer.shape[0] // geometry.groups
    for out, row, column in np.ndindex(*layer.shape):
        for i, k, m in np.ndindex(*layer.weight.shape[1:]):
            y = row * geometry.stride[0] + k * geometry.dilation[0] - geometry.padding[0][0]
            x = column * geometry.stride[1] + m * geometry.dilation[1] - geometry.padding[1][0]
            inside = 0 <= y < layer.input_shape[1] and 0 <= x < layer.input_shape[2]
            if inside and (zeros_too or layer.weight[out, i, k, m] != 0):
                count[out // group_out * group_in + i, y, x] += 1
    return count


@st.composite
def conv_layers(draw):
    groups = draw(st.sampled_from([1, 2, 3]))
    geometry = ConvGeometry(
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        (
            (draw(st.integers(0, 2)), draw(st.integers(0, 2))),
            (draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        ),
        (draw(st.integers(1, 2)), draw(st.integers(1, 3))),
        groups,
    )
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 2)))
    size = (draw(st.integers(5, 8)), draw(st.integers(4, 7)))
    outputs, inputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    weight = draw(st.integers(0, 2**16))
    values = np.random.default_rng(weight).integers(-1, 2, (outputs, inputs // groups, *kernel))
    shape = (outputs, *geometry.output_size(size, kernel))
    return ChipLayer(
        "conv", "conv", (inputs, *size), shape, values * 2, None, CubaFields(9), geometry
    )


@settings(max_examples=60, deadline=None)
@given(conv_layers())
def test_fan_out_of_any_convolution(layer):
    np.testing.assert_array_equal(fan_out(layer, "chip"), synapses_one_by_one(layer, True))
    np.testing.assert_array_equal(fan_out(layer, "effective"), synapses_one_by_one(layer, False))


def test_fan_out_of_a_dense_layer():
    weight = np.array([[0, 2, 4, 0], [0, -2, 0, 0], [6, 0, 0, 0]], np.int32)
    layer = ChipLayer("fc", "dense", (1, 2, 2), (3, 1, 1), weight, None, CubaFields(9))
    np.testing.assert_array_equal(fan_out(layer, "chip"), np.full((1, 2, 2), 3))
    np.testing.assert_array_equal(fan_out(layer, "effective"), [[[1, 2], [1, 0]]])


def test_counts_equal_walking_through_every_spike(recording):
    counted = count_operations(recording.result, recording.graph)
    assert [row.name for row in counted] == ["input", "conv1", "conv2", "fc1", "fc2"]
    for i, layer in enumerate(recording.graph.layers):
        row, arriving = counted[i + 1], recording.spikes[i].sum((0, 1))
        for found, zeros_too in ((row.synops, True), (row.synops_effective, False)):
            if layer.kind == "conv":
                one_by_one = synapses_one_by_one(layer, zeros_too)
            else:
                present = np.ones_like(layer.weight) if zeros_too else layer.weight != 0
                one_by_one = present.sum(0).reshape(layer.input_shape)
            wanted = sum(
                int(arriving[place]) * int(one_by_one[place])
                for place in np.ndindex(*layer.input_shape)
            )
            assert found == wanted
        assert row.input_spikes == recording.spikes[i].sum()
        assert row.spikes == recording.spikes[i + 1].sum()


def test_zero_weights_make_the_two_conventions_differ(recording):
    for row in count_operations(recording.result, recording.graph)[1:-1]:
        assert 0 < row.synops_effective < row.synops


def test_neuron_updates_run_through_the_latency(recording):
    """8 steps and 4 layers: 12 steps a sample, 3 samples."""
    assert latency_steps(recording.graph) == 4
    rows = count_operations(recording.result, recording.graph)
    assert [row.neuron_updates for row in rows] == [0] + [
        layer.neurons * 12 * 3 for layer in recording.graph.layers
    ]


def test_neurons_of_the_input_are_updated_too(recording):
    own = ChipInput("in", recording.graph.input_shape, CubaFields(25))
    graph = replace(recording.graph, input_neurons=own)
    rows = count_operations(recording.result, graph)
    assert rows[0].name == "in"
    assert rows[0].neuron_updates == 84 * 13 * 3


def test_per_step_and_per_sample_counts_add_up(recording):
    layer, spikes = recording.graph.layers[0], recording.spikes[0]
    by_step = synaptic_operations(fan_out(layer), spikes)
    assert by_step.shape == (8, 3)
    assert by_step.dtype == np.int64
    assert by_step.sum() == count_operations(recording.result, recording.graph)[1].synops
    for step, sample in np.ndindex(8, 3):
        one = (spikes[step, sample] * synapses_one_by_one(layer, True)).sum()
        assert by_step[step, sample] == one


def test_rows_are_plain_numbers_a_sample(recording):
    import json

    rows = build_operations(recording.result, recording.graph)
    assert json.loads(json.dumps(rows)) == rows
    conv = rows[1]
    assert {"name", "kind", "neurons", "synapses", "macs", "spikes_per_sample"} <= set(conv)
    assert conv["synops_per_sample"] * 3 == pytest.approx(
        count_operations(recording.result, recording.graph)[1].synops
    )
    assert conv["synapses"] == synapses_one_by_one(recording.graph.layers[0], True).sum()


def test_multiplications_of_the_ann_exclude_padding(recording):
    first, second, *_ = recording.graph.layers
    ann = AnnGraph(
        "small",
        (2, 7, 6),
        (
            Conv2d("conv1", first.weight.astype(np.float32), None, first.geometry),
            Relu("relu1"),
            Conv2d("conv2", second.weight.astype(np.float32), None, second.geometry),
            Flatten("flat"),
            Dense("fc1", np.zeros((9, 90), np.float32), None),
        ),
    )
    assert ann_macs(ann) == {
        "conv1": synapses_one_by_one(first, True).sum(),
        "conv2": synapses_one_by_one(second, True).sum(),
        "fc1": 810,
    }


def test_pooling_folded_into_a_kernel_does_not_inflate_the_ann():
    """A 3 x 3 kernel after 2 x 2 pooling is a 6 x 6 kernel of stride 2: 4 times the products."""
    ann = AnnGraph(
        "pooled",
        (1, 8, 8),
        (
            AvgPool2d("pool", (2, 2), ConvGeometry((2, 2))),
            Conv2d("conv", np.ones((1, 1, 3, 3), np.float32), None),
        ),
    )
    folded = ChipLayer(
        "conv",
        "conv",
        (1, 8, 8),
        (1, 2, 2),
        np.ones((1, 1, 6, 6), np.int32),
        None,
        CubaFields(9),
        ConvGeometry((2, 2)),
    )
    assert ann_macs(ann) == {"conv": 36}
    assert fan_out(folded).sum() == 144


def test_macs_of_the_ann_replace_the_own(recording):
    """fc1's two ANN layers were merged into one; fc2 stands for a pooling, which has none."""
    macs = {"conv1": 5, "conv2": 7, "fc1": 11, "fc1b": 2}
    rows = build_operations(recording.result, recording.graph, macs)
    assert [row["macs"] for row in rows] == [0, 5, 7, 13, 0]


def test_counts_of_another_network_are_refused(recording):
    other = replace(recording.graph, layers=recording.graph.layers[:-1])
    with pytest.raises(ModelError, match="do not belong to this network"):
        build_operations(recording.result, other)
