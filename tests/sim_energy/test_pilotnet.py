"""PilotNet-LIF, which lava-dl's wheel brings along, against what Intel measured on Loihi 2."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from compiler.resources import estimate
from netx_export import read_netx
from sim.costs import cost_rows, reference_traces
from sim.energy import energy_rows
from sim.reference import simulate
from sim.synops import build_operations

MEASURED_JOULES = 1.094e-3
"""Dynamic energy an inference on Oheo Gulch: lava-dl tutorials pilotnet_snn/benchmark.ipynb."""

MEASURED_STEP = 152.8e-6
"""Seconds a step there: 408.91 inferences of 16 steps a second, one following the other."""


@pytest.fixture(scope="module")
def pilotnet():
    wheel = importlib.metadata.distribution("lava-dl")
    folder = Path(str(wheel.locate_file("tests/lava/lib/dl/netx/gts/pilotnet_lif")))
    graph = read_netx(folder / "network.net").graph
    own = graph.input_neurons
    # image.npy holds the biases of the input neurons, (W, H, C)
    biases = np.load(folder / "image.npy").transpose(2, 1, 0)[None]
    images = (biases - own.bias) / own.weight
    result = simulate(graph, images, timesteps=16)
    return graph, result, cost_rows(graph, result, reference_traces(graph, images, 16))


def of_davies(rows):
    return next(
        row for row in rows if row["model"] == "loihi1-davies-2018" and row["includes_input_layer"]
    )


def test_sanity_pilotnet_energy_is_within_a_factor_of_two_of_the_measurement(pilotnet):
    """A check of magnitude, not a validation: another chip, another image, no hops."""
    graph, result, _ = pilotnet
    row = of_davies(energy_rows(build_operations(result, graph)))
    assert MEASURED_JOULES / 2 < row["snn_joules_least"] < row["snn_joules"] < 2 * MEASURED_JOULES


def test_messages_and_hops_do_not_change_the_magnitude(pilotnet):
    _, _, costs = pilotnet
    row = of_davies(costs["energy"])
    assert row["snn_joules"] > of_davies(energy_rows(costs["layers"]))["snn_joules"]
    assert MEASURED_JOULES / 2 < row["snn_joules"] < 2 * MEASURED_JOULES


def test_sanity_pilotnet_step_is_within_a_factor_of_two_of_the_measurement(pilotnet):
    """A check of magnitude, not a validation: another chip, another image, no input or output."""
    row = next(row for row in pilotnet[2]["latency"] if row["model"] == "loihi1-davies-2018")
    assert row["time_steps"] == 26
    assert MEASURED_STEP / 2 < row["seconds_least"] / 26 < row["seconds_per_step"]
    assert row["seconds_per_step"] < 2 * MEASURED_STEP


def test_operations_of_the_whole_inference(pilotnet):
    """39,600 + 118,909 neurons for 16 + 10 steps; every synapse counted at the borders."""
    graph, result, _ = pilotnet
    rows = build_operations(result, graph)
    assert sum(row["neurons"] for row in rows) == 158_509
    assert sum(row["neuron_updates_per_sample"] for row in rows) == 158_509 * 26
    assert rows[0]["spikes_per_sample"] == rows[1]["input_spikes_per_sample"] > 0
    first = rows[1]
    assert first["synapses"] == 32 * 99 * 24 * 27  # no padding: every output has all its inputs


def test_the_file_takes_the_cores_of_its_shape(pilotnet):
    graph, *_ = pilotnet
    report = estimate(graph, "loihi2", timesteps=16)
    assert [layer.cores for layer in report.layers][:6] == [13, 25, 13, 3, 3, 2]
    assert abs(report.cores - 74) <= 74 / 4
    assert report.fits
