"""Seconds by hand, from work that is known in full; barriers as published; honest notes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compiler.resources import CoreLoads, estimate
from compiler.resources.shapes import LayerShape, NetworkShape
from sim.costs import LATENCY_SAMPLES, cost_rows, first_samples, loads_of_trace, reference_traces
from sim.energy import energy_rows
from sim.latency import PARTS, barrier_seconds, latency_rows
from sim.published import load_model, load_models
from sim.reference import simulate, trace
from sim.synops import count_operations, latency_steps

NS = 1e-9


@pytest.fixture
def report():
    """A convolution on one core, a dense layer on the next, one tile."""
    conv = LayerShape("conv", "conv", (1, 4, 4), (2, 4, 4))
    return estimate(NetworkShape("n", (conv, LayerShape("fc", "dense", (32, 1, 1), (3, 1, 1)))),
                    "loihi1")  # fmt: skip


@pytest.fixture
def loads():
    """Three steps, two samples; in step 1 the second core is the slower one of sample 0."""

    def work(first, second):
        return np.array([[[n, 0] for n in first], [[n, 0] for n in second]], np.int64)

    return CoreLoads(
        neurons=np.array([32, 3]),
        synops=work([100, 0, 0], [0, 900, 0]),
        spikes=work([0, 10, 0], [0, 0, 0]),
        messages_out=work([0, 10, 0], [0, 0, 0]),
        messages_in=work([5, 0, 0], [0, 10, 0]),
        routes={(0, 0): np.array([[0, 0], [1, 0], [0, 0]], bool),
                (2, 1): np.array([[0, 0], [1, 0], [0, 0]], bool)},
    )  # fmt: skip


def davies(rows):
    return next(row for row in rows if row["model"] == "loihi1-davies-2018")


def test_seconds_by_hand_after_davies(report, loads):
    row = davies(latency_rows(report, [loads]))
    slow = [
        100 * 3.5 + 32 * 8.4,  # step 0: the first core
        900 * 3.5 + 3 * 8.4 + 2.1 + 2 * 4.1 + 6.5,  # step 1: the second, and the longest route
        32 * 8.4,  # step 2: neurons alone
    ]
    barrier = 113
    sample0, sample1 = sum(slow) + 3 * barrier, 3 * (32 * 8.4 + barrier)
    assert row["seconds"] == pytest.approx((sample0 + sample1) / 2 * NS)
    assert row["seconds_per_step"] == pytest.approx(row["seconds"] / 3)
    assert (row["time_steps"], row["samples"]) == (3, 2)
    assert row["slowest_layer"] == "conv"  # five of the six steps
    assert set(row["parts"]) == set(PARTS)
    assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
    assert row["parts"]["routes"] == pytest.approx((2.1 + 8.2 + 6.5) / 2 * NS)
    assert row["parts"]["spikes"] == row["parts"]["messages"] == 0


def test_the_lower_end_by_hand(report, loads):
    """Neurons and synapses at once: the larger of the two, over all cores, and no routes."""
    row = davies(latency_rows(report, [loads]))
    idle = 32 * 5.3
    sample0 = max(350, idle) + max(3150, idle) + idle + 3 * 113
    assert row["seconds_least"] == pytest.approx((sample0 + 3 * (idle + 113)) / 2 * NS)
    assert row["seconds_least"] < row["seconds"]


def test_seconds_by_hand_with_a_model_that_charges_spikes_and_messages(report, loads, fake_sanafe):
    """Synapses 3 (conv) and 4 (dense), neurons 7 + 2, spikes 9, messages 8 out and 11 in, in ns."""
    fake_sanafe()
    row = next(r for r in latency_rows(report, [loads]) if r["model"] == "loihi1-sanafe")
    slow = [
        100 * 3 + 32 * 9 + 5 * 11,
        max(32 * 9 + 10 * 9 + 10 * 8, 900 * 4 + 3 * 9 + 10 * 11) + 2 * 5 + 6,
        32 * 9,
    ]
    barrier = 100
    wanted = (sum(slow) + 3 * 288 + 6 * barrier) / 2
    assert row["seconds"] == pytest.approx(wanted * NS)
    assert row["parts"]["messages"] == pytest.approx((5 + 10) * 11 / 2 * NS)
    assert row["static_joules"] is None


def test_batches_change_nothing(report, loads):
    def sample(n):
        part = {name: getattr(loads, name)[..., n : n + 1]
                for name in ("synops", "spikes", "messages_out", "messages_in")}  # fmt: skip
        routes = {way: used[:, n : n + 1] for way, used in loads.routes.items()}
        return CoreLoads(loads.neurons, routes=routes, **part)

    whole, parts = (davies(latency_rows(report, given))
                    for given in ([loads], [sample(0), sample(1)]))  # fmt: skip
    times = ("seconds", "seconds_least", "seconds_per_step", "static_joules")
    assert parts.pop("parts") == pytest.approx(whole.pop("parts"))
    assert [parts.pop(key) for key in times] == pytest.approx([whole.pop(key) for key in times])
    assert parts == whole


@pytest.mark.parametrize(("tiles", "nanoseconds"), [(1, 113), (32, 465), (2, 113 + 352 / 31)])
def test_barriers_between_the_published_ends_are_linear(tiles, nanoseconds):
    model = load_model("loihi1_davies_2018.toml")
    assert barrier_seconds(model, tiles) == pytest.approx(nanoseconds * NS)


@pytest.mark.parametrize(("tiles", "seconds"), [(1, 1e-7), (3, 2e-7), (28, 3e-7), (32, 4e-7)])
def test_barriers_of_sanafe_go_by_steps(fake_sanafe, tiles, seconds):
    fake_sanafe()
    assert barrier_seconds(load_model("loihi1_sanafe.toml"), tiles) == seconds


def test_energy_and_delay_are_multiplied(report, loads):
    energy = [{"model": "loihi1-davies-2018", "includes_input_layer": whole, "snn_joules": joules}
              for whole, joules in ((False, 1e-6), (True, 3e-6))]  # fmt: skip
    row = davies(latency_rows(report, [loads], energy))
    assert row["snn_joules"] == 3e-6
    assert row["energy_delay_product"] == pytest.approx(3e-6 * row["seconds"])
    assert row["static_joules"] == pytest.approx(0.104 * row["seconds"])


def test_only_models_with_times_have_a_row_and_a_missing_one_says_why(report, loads, monkeypatch):
    from sim import published

    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    rows = latency_rows(report, [loads])
    json.dumps(rows)
    assert [row["model"] for row in rows] == ["loihi1-davies-2018", "loihi1-sanafe"]
    assert "45nm-arithmetic" in {model.name for model in load_models()}
    assert rows[1]["seconds"] is None and "pip install sanafe" in rows[1]["note"]
    assert rows[0]["chip"] == "loihi1"


def test_several_chips_are_a_lower_bound_and_a_broken_rule_makes_it_hypothetical(loads, report):
    row = davies(latency_rows(report, [loads]))
    assert not row["lower_bound"] and "hypothetical" not in row["note"]
    large = NetworkShape("large", (LayerShape("a", "dense", (5000, 1, 1), (3000, 1, 1)),))
    row = davies(latency_rows(estimate(large, "loihi1"), []))
    assert row["lower_bound"] and "not published: a lower bound" in row["note"]
    assert "hypothetical" in row["note"]  # 5000 input axons are too many


def test_the_whole_way_from_spikes_to_seconds(recording):
    """Loads of a real run: every synaptic operation is on some core, T plus L steps."""
    from dataclasses import replace

    from compiler.ir.snn import Encoding

    graph = replace(recording.graph, encoding=Encoding())
    images = np.random.default_rng(1).random((20, *graph.input_shape)).astype(np.float32)
    result = simulate(graph, images[:LATENCY_SAMPLES])
    chip = estimate(graph, "loihi1", result.timesteps)
    run = trace(graph, images[:LATENCY_SAMPLES])
    loads = loads_of_trace(chip, graph, run)
    for row in count_operations(result, graph)[1:]:
        cores = [use.core for use in chip.core_map if use.layer == row.name]
        assert loads.synops[cores].sum() == row.synops
        assert loads.spikes[cores].sum() == row.spikes
    costs = cost_rows(graph, simulate(graph, images), reference_traces(graph, images))
    found = davies(costs["latency"])
    assert found["time_steps"] == 8 + latency_steps(graph)
    assert found["samples"] == LATENCY_SAMPLES
    assert found == davies(latency_rows(chip, [loads], costs["energy"]))
    assert found["snn_joules"] == next(
        row["snn_joules"] for row in costs["energy"] if row["model"] == found["model"]
    )
    assert costs["energy"] != energy_rows(costs["layers"])  # messages by core map


def test_only_the_first_samples_of_a_recorded_run_are_followed(recording):
    from dataclasses import replace

    from compiler.ir.snn import Encoding

    graph = replace(recording.graph, encoding=Encoding("poisson", 3))
    images = np.random.default_rng(1).random((20, *graph.input_shape)).astype(np.float32)
    whole = first_samples(trace(graph, images))
    assert whole.samples == LATENCY_SAMPLES == whole.layers[0].spikes_tnchw.shape[1]
    (again,) = reference_traces(graph, images)
    for name, spikes in whole.spikes.items():
        np.testing.assert_array_equal(again.spikes[name], spikes)
