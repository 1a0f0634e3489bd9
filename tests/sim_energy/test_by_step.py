"""Operations a layer, a time-step and a sample; tests/sim_run compares them with Lava's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.ir.snn import Encoding
from sim.events import by_step, with_events
from sim.reference import simulate, trace
from sim.synops import (
    CONVENTIONS,
    count_operations,
    fan_out,
    operation_tables,
    operations_by_step,
    synaptic_operations,
    synops_by_sample,
)

SAMPLES = 5


@pytest.fixture(scope="module")
def graph(recording):
    return replace(recording.graph, encoding=Encoding("poisson", 3))


@pytest.fixture(scope="module")
def images(graph):
    return np.random.default_rng(4).random((SAMPLES, *graph.input_shape)).astype(np.float32)


@pytest.fixture(scope="module")
def result(graph, images):
    return simulate(graph, images, fan_outs=operation_tables(graph))


def test_sums_over_steps_are_the_totals_exactly(graph, result):
    totals = count_operations(result, graph)[1:]
    for counts, row in zip(result.layers, totals, strict=True):
        sums = dict(zip(CONVENTIONS, counts.events_nt.sum((1, 2)).tolist(), strict=True))
        assert sums == {"chip": row.synops, "effective": row.synops_effective}
        assert counts.spikes_nt.sum() == row.spikes
        np.testing.assert_array_equal(counts.spikes_nt.sum(1), counts.spikes_n)
    assert result.input_nt.sum() == totals[0].input_spikes > 0
    assert totals[0].synops > totals[0].synops_effective


def test_every_step_of_every_sample_is_its_spikes_times_their_fan_out(graph, images, result):
    run = trace(graph, images)
    before = [run.input, *run.layers]
    for layer, counts, arriving in zip(graph.layers, result.layers, before, strict=False):
        for table, convention in zip(counts.events_nt, CONVENTIONS, strict=True):
            wanted = synaptic_operations(fan_out(layer, convention), arriving.spikes_tnchw).T
            np.testing.assert_array_equal(table, wanted)
        assert counts.events_nt.shape == (2, SAMPLES, 8)
    again = with_events(simulate(graph, images), run, operation_tables(graph))
    for one, other in zip(again.layers, result.layers, strict=True):
        np.testing.assert_array_equal(one.events_nt, other.events_nt)
        np.testing.assert_array_equal(by_step(run.spikes[one.name]), other.spikes_nt)


def test_batches_change_nothing(graph, images, result):
    parts = simulate(graph, images, batch=2, fan_outs=operation_tables(graph))
    assert operations_by_step(parts, graph) == operations_by_step(result, graph)
    assert synops_by_sample(parts) == synops_by_sample(result)


def test_rows_of_the_report(graph, result):
    rows = operations_by_step(result, graph)
    assert [row["name"] for row in rows] == ["input", "conv1", "conv2", "fc1", "fc2"]
    assert "synops" not in rows[0] and set(rows[1]["synops"]) == {"mean", "least", "most"}
    totals = count_operations(result, graph)
    for row, total in zip(rows, totals, strict=True):
        assert round(sum(row["spikes"]["mean"]) * SAMPLES) == total.spikes
        assert all(len(numbers) == 8 for numbers in row["spikes"].values())
    for row, total in zip(rows[1:], totals[1:], strict=True):
        assert sum(row["synops"]["mean"]) * SAMPLES == pytest.approx(total.synops, rel=1e-12)
        chip, least, most = (row["synops"][key] for key in ("mean", "least", "most"))
        assert all(low <= mean <= high for low, mean, high in zip(least, chip, most, strict=True))
    by_sample = synops_by_sample(result)
    assert len(by_sample) == SAMPLES and sum(by_sample) == sum(row.synops for row in totals)


def test_without_tables_nothing_is_made_up(graph, images):
    result = simulate(graph, images)
    assert operations_by_step(result, graph) == [] == synops_by_sample(result)
