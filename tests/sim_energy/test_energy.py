"""Joules by hand, and the claim of 55 to 60 times."""

from __future__ import annotations

import json

import pytest

from sim import published
from sim.energy import energy_rows, privatesnn_claim


def layer(name, kind="conv", **numbers):
    row = {
        "name": name,
        "kind": kind,
        "neurons": 10,
        "inputs": 20,
        "macs": 0,
        "input_spikes_per_sample": 0.0,
        "spikes_per_sample": 0.0,
        "synops_per_sample": 0.0,
        "synops_effective_per_sample": 0.0,
        "neuron_updates_per_sample": 0.0,
    }
    return row | numbers


LAYERS = [
    layer("input", "input", spikes_per_sample=500.0),
    layer(
        "conv",
        macs=1000,
        spikes_per_sample=40.0,
        synops_per_sample=3000.0,
        synops_effective_per_sample=2000.0,
        neuron_updates_per_sample=100.0,
        input_spikes_per_sample=500.0,
    ),
    layer(
        "fc",
        "dense",
        macs=400,
        spikes_per_sample=7.0,
        synops_per_sample=600.0,
        synops_effective_per_sample=500.0,
        neuron_updates_per_sample=50.0,
        input_spikes_per_sample=40.0,
    ),
]


def find(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_arithmetic_rows_by_hand():
    rows = energy_rows(LAYERS)
    whole = {"model": "45nm-arithmetic", "includes_input_layer": True}
    row = find(rows, convention="effective", ann_precision="float32", **whole)
    assert row["ann_joules"] == pytest.approx(1400 * 4.6e-12)
    assert row["snn_joules"] == pytest.approx(2500 * 0.9e-12)
    assert row["gain"] == pytest.approx(1400 * 4.6 / (2500 * 0.9))
    row = find(rows, convention="chip", ann_precision="int8", **whole)
    assert row["gain"] == pytest.approx(1400 * 0.3 / (3600 * 0.1))


def test_without_the_input_layer_both_sides_leave_it_out():
    rows = energy_rows(LAYERS)
    row = find(
        rows,
        model="45nm-arithmetic",
        convention="effective",
        ann_precision="float32",
        includes_input_layer=False,
    )
    assert row["ann_joules"] == pytest.approx(400 * 4.6e-12)
    assert row["snn_joules"] == pytest.approx(500 * 0.9e-12)


def test_loihi1_rows_by_hand():
    row = find(
        energy_rows(LAYERS),
        model="loihi1-davies-2018",
        ann_precision="float32",
        includes_input_layer=True,
    )
    wanted = 3600 * 23.6 + 150 * 81 + 47 * 1.7
    assert row["snn_joules"] == pytest.approx(wanted * 1e-12)
    assert row["snn_joules_least"] == pytest.approx((wanted - 150 * 29) * 1e-12)
    assert sum(row["parts"].values()) == pytest.approx(row["snn_joules"])


def test_messages_and_hops_come_in_with_the_core_map():
    traffic = {
        "conv": {"messages": 80.0, "hops_east_west": 10.0, "hops_north_south": 3.0},
        "fc": {"messages": 0.0, "hops_east_west": 0.0, "hops_north_south": 0.0},
    }
    row = find(
        energy_rows(LAYERS, traffic),
        model="loihi1-davies-2018",
        ann_precision="int8",
        includes_input_layer=True,
    )
    assert row["parts"]["messages"] == pytest.approx((80 * 1.7 + 10 * 3 + 3 * 4) * 1e-12)


def test_every_row_has_the_fields_of_the_report():
    rows = energy_rows(LAYERS)
    json.dumps(rows)
    fields = {
        "model",
        "source",
        "convention",
        "ann_precision",
        "ann_joules",
        "snn_joules",
        "gain",
        "includes_input_layer",
    }
    assert all(fields <= set(row) for row in rows)
    for precision in ("float32", "int8"):
        for whole in (True, False):
            assert any(
                row["ann_precision"] == precision and row["includes_input_layer"] is whole
                for row in rows
            )


def test_a_missing_sanafe_is_said_and_has_no_joules(monkeypatch):
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    rows = [row for row in energy_rows(LAYERS) if row["model"] == "loihi1-sanafe"]
    assert rows
    for row in rows:
        assert row["snn_joules"] is None
        assert row["gain"] is None
        assert "pip install sanafe" in row["note"]


def test_an_installed_sanafe_is_read(fake_sanafe):
    fake_sanafe()
    row = find(
        energy_rows(LAYERS),
        model="loihi1-sanafe",
        ann_precision="float32",
        includes_input_layer=True,
    )
    wanted = 3000 * 25 + 600 * 30 + 150 * (50 + 20) + 47 * 70 + 47 * 100
    assert row["snn_joules"] == pytest.approx(wanted * 1e-12)
    assert row["source"].startswith("sanafe 0.0")


def test_the_claim_needs_a_tenth_of_a_spike_a_neuron():
    claim = privatesnn_claim(LAYERS)
    assert claim["spikes_per_neuron_needed"] == pytest.approx([0.0929, 0.0852], abs=1e-4)
    assert claim["assumed"] is True


def test_the_claim_recomputed_by_hand():
    """conv: 500 spikes on 20 inputs, 1000 MACs; fc: 40 on 20, 400 MACs."""
    claim = privatesnn_claim(LAYERS)
    rate = (1000 * 25 + 400 * 2) / 1400
    assert claim["with_input_layer"]["spikes_per_neuron"] == pytest.approx(rate)
    assert claim["with_input_layer"]["gain"] == pytest.approx(4.6 / 0.9 / rate)
    assert claim["without_input_layer"]["gain"] == pytest.approx(4.6 / 0.9 / 2)


def test_the_claim_is_out_of_reach_with_the_official_encoder():
    """VGG16 on CIFAR10: the first conv alone, at 42.2 spikes a pixel, caps the gain at 21.6."""
    first_macs, all_macs = 1_769_472, 315_300_000
    layers = [
        layer("input", "input"),
        layer("conv1", macs=first_macs, inputs=3072, input_spikes_per_sample=42.24 * 3072),
        layer("rest", macs=all_macs - first_macs),
    ]
    claim = privatesnn_claim(layers)
    assert claim["with_input_layer"]["gain"] == pytest.approx(21.6, abs=0.1)
    assert claim["without_input_layer"]["gain"] is None
