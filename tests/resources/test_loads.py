"""Work of every core, against walking through every spike and every synapse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.geometry import ConvGeometry
from compiler.resources import core_loads, estimate, message_traffic
from compiler.resources.shapes import LayerShape, NetworkShape

STEPS, SAMPLES = 3, 2


@st.composite
def networks(draw):
    """A convolution that takes several cores of Loihi 1, and a dense layer behind it."""
    groups = draw(st.sampled_from([1, 2]))
    geometry = ConvGeometry(
        (draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        ((draw(st.integers(0, 2)), draw(st.integers(0, 2))), (draw(st.integers(0, 1)),) * 2),
        (draw(st.integers(1, 2)), 1),
        groups,
    )
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = (draw(st.integers(9, 14)), draw(st.integers(9, 14)))
    inputs, outputs = 2, 2 * draw(st.integers(2, 16))
    shape = (outputs, *geometry.output_size(size, kernel))
    conv = LayerShape("conv", "conv", (inputs, *size), shape, kernel, geometry)
    flat = (shape[0] * shape[1] * shape[2], 1, 1)
    return NetworkShape("net", (conv, LayerShape("fc", "dense", flat, (5, 1, 1))), STEPS)


def spikes_for(network: NetworkShape, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [network.layers[0].input_shape, *(layer.shape for layer in network.layers)]
    return [(rng.random((STEPS, SAMPLES, *shape)) < 0.3).astype(np.uint8) for shape in shapes]


def reached_by(layer: LayerShape, place: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Neurons of `layer` that an input neuron reaches, once for each synapse."""
    if layer.kind == "dense":
        return [(neuron, 0, 0) for neuron in range(layer.shape[0])]
    geometry, found = layer.geometry, []
    group_in = layer.input_shape[0] // geometry.groups
    group_out = layer.shape[0] // geometry.groups
    channels = range(place[0] // group_in * group_out, (place[0] // group_in + 1) * group_out)
    for row, column, k, m in np.ndindex(*layer.shape[1:], *layer.kernel):
        y = row * geometry.stride[0] + k * geometry.dilation[0] - geometry.padding[0][0]
        x = column * geometry.stride[1] + m * geometry.dilation[1] - geometry.padding[1][0]
        if (y, x) == place[1:]:
            found += [(channel, row, column) for channel in channels]
    return found


def holds(tile, neuron) -> bool:
    ranges = (tile.channels, tile.rows, tile.columns)
    return all(low <= at < high for at, (low, high) in zip(neuron, ranges, strict=True))


@settings(max_examples=15, deadline=None)
@given(networks())
def test_synapses_and_messages_of_every_core_one_by_one(network):
    report = estimate(network, "loihi1")
    given_spikes, *spikes = spikes_for(network)
    loads = core_loads(report, given_spikes, spikes)
    conv = network.layers[0]
    wanted, messages = np.zeros((2, len(report.core_map), STEPS, SAMPLES), np.int64)
    for place in np.ndindex(*conv.input_shape):
        neurons = reached_by(conv, place)
        for use in report.core_map:
            if use.layer == "conv":
                here = sum(holds(use.tile, neuron) for neuron in neurons)
                spiking = given_spikes[:, :, place[0], place[1], place[2]]
                wanted[use.core] += here * spiking
                messages[use.core] += (here > 0) * spiking
    of_conv = [use.core for use in report.core_map if use.layer == "conv"]
    np.testing.assert_array_equal(loads.synops[of_conv, :STEPS], wanted[of_conv])
    np.testing.assert_array_equal(loads.messages_in[of_conv, :STEPS], messages[of_conv])
    of_fc = [use.core for use in report.core_map if use.layer == "fc"]
    every = spikes[0].sum((2, 3, 4), dtype=np.int64)
    assert [use.neurons for use in report.core_map if use.layer == "fc"] == [5]
    np.testing.assert_array_equal(loads.synops[of_fc[0], 1 : 1 + STEPS], 5 * every)
    assert loads.synops[of_conv, STEPS:].sum() == 0 == loads.synops[of_fc, 0].sum()


@settings(max_examples=15, deadline=None)
@given(networks())
def test_spikes_and_messages_agree_with_the_traffic(network):
    report = estimate(network, "loihi1")
    given_spikes, *spikes = spikes_for(network, 1)
    loads = core_loads(report, given_spikes, spikes)
    totals = {layer.name: s.sum((0, 1)) for layer, s in zip(network.layers, spikes, strict=True)}
    traffic = message_traffic(report, totals, 1)
    assert loads.spikes.sum() == sum(total.sum() for total in totals.values())
    assert loads.messages_out.sum() == traffic["conv"]["messages"]
    of_fc = [use.core for use in report.core_map if use.layer == "fc"]
    assert loads.messages_in[of_fc].sum() == loads.messages_out.sum()
    for use in report.core_map:
        if use.layer == "conv":
            part = use.tile.of(spikes[0])
            np.testing.assert_array_equal(
                loads.spikes[use.core, 1 : 1 + STEPS], part.sum((2, 3, 4))
            )


def test_steps_and_routes_by_hand(dense_shape):
    """Cores 0 to 2 hold `a`, 3 to 7 `b`: core 3 on their own tile, 4 to 7 one tile further."""
    network = NetworkShape("n", (dense_shape("a", 4000, 80), dense_shape("b", 80, 5000)))
    report = estimate(network, "loihi1")
    assert [use.layer for use in report.core_map] == ["a"] * 3 + ["b"] * 5
    given_spikes = np.zeros((2, 1, 4000, 1, 1), np.uint8)
    given_spikes[1, 0, :7] = 1
    a = np.zeros((2, 1, 80, 1, 1), np.uint8)
    a[1, 0, 0] = 1
    loads = core_loads(report, given_spikes, [a, np.zeros((2, 1, 5000, 1, 1), np.uint8)])
    assert loads.synops.shape == (8, 4, 1)
    neurons = np.array([use.neurons for use in report.core_map])
    np.testing.assert_array_equal(loads.neurons, neurons)
    # seven spikes enter in step 1; `a` answers with one spike in step 2, which `b` gets at once
    np.testing.assert_array_equal(loads.synops[:3, :, 0], np.outer(neurons[:3] * 7, [0, 1, 0, 0]))
    np.testing.assert_array_equal(loads.synops[3:, :, 0], np.outer(neurons[3:], [0, 0, 1, 0]))
    np.testing.assert_array_equal(loads.messages_in[:3, 1, 0], [7, 7, 7])
    assert loads.messages_out[0, 2, 0] == 5 and loads.messages_out.sum() == 5
    assert set(loads.routes) == {(0, 0), (1, 0)}
    np.testing.assert_array_equal(loads.routes[(1, 0)][:, 0], [False, False, True, False])


@pytest.mark.parametrize("own", [False, True])
def test_neurons_of_the_input_take_a_step_and_are_no_messages_from_outside(dense_shape, own):
    first = LayerShape("in", "input", (6, 1, 1), (6, 1, 1))
    layers = (dense_shape("a", 6, 4),)
    network = NetworkShape("n", (first, *layers) if own else layers)
    report = estimate(network, "loihi1")
    given_spikes, a = np.ones((2, 1, 6, 1, 1), np.uint8), np.zeros((2, 1, 4, 1, 1), np.uint8)
    spikes = [given_spikes, a] if own else [a]
    loads = core_loads(report, None if own else given_spikes, spikes)
    assert loads.spikes.shape[1] == (4 if own else 3)
    assert loads.synops[-1, :, 0].tolist() == ([0, 24, 24, 0] if own else [24, 24, 0])
    assert loads.messages_out.sum() == (12 if own else 0)
    assert loads.messages_in[-1].sum() == 12
