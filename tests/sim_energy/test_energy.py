"""Joules by hand, the sources of every number, and the claim of 55 to 60 times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim import energy
from sim.energy import (
    energy_rows,
    energy_sources,
    load_model,
    load_models,
    privatesnn_claim,
    read_yaml_energies,
)


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


def test_every_number_has_unit_condition_and_source():
    for model in load_models():
        for line in model.lines.values():
            assert line.condition
            if not model.absent:
                assert line.value is not None and line.value > 0
                assert line.unit
                assert line.source
    assert all(entry["source"] for entry in energy_sources())


def test_published_numbers():
    horowitz = load_model("horowitz_2014_45nm.toml")
    davies = load_model("loihi1_davies_2018.toml")
    assert horowitz.joules("mac_float32") == pytest.approx(4.6e-12)
    assert horowitz.joules("ac_float32") == pytest.approx(0.9e-12)
    assert davies.joules("synaptic_operation_conv") == pytest.approx(23.6e-12)
    assert davies.joules("neuron_update") == pytest.approx(81e-12)
    assert davies.joules("neuron_update_least") == pytest.approx(52e-12)


def test_no_figure_is_invented_for_loihi2():
    assert not [model for model in load_models() if "loihi2" in model.name]
    assert "Loihi 2" in (energy.__doc__ or "")


def test_a_missing_sanafe_is_said_and_has_no_joules(monkeypatch):
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: None)
    rows = [row for row in energy_rows(LAYERS) if row["model"] == "loihi1-sanafe"]
    assert rows
    for row in rows:
        assert row["snn_joules"] is None
        assert row["gain"] is None
        assert "pip install sanafe" in row["note"]


ARCHITECTURE = """
architecture:
  tile:
    - name: loihi_tile[0..31]
      attributes:
        energy_north_hop: 4e-12  # a comment
        energy_east_hop: 3e-12
  soma:
    - name: loihi_lif
      attributes:
        model: leaky
        energy_access_neuron: 50.0e-12
        energy_update_neuron: 20.0e-12
        energy_spike_out: 70.0e-12
  synapse:
    - name: loihi_dense_synapse  # use the name
      attributes:
        energy_process_spike: 30.0e-12
    - name: loihi_conv_synapse
      attributes:
        latency_process_spike: 3e-9
        energy_process_spike: 25.0e-12
  axon_out:
    - name: loihi_out
      attributes:
        energy_message_out: 100.0e-12
"""


def fake_sanafe(monkeypatch, folder: Path, text: str) -> None:
    """An installed package of the same shape with made-up numbers."""
    (folder / "examples").mkdir(parents=True)
    (folder / "examples" / "loihi.yaml").write_text(text)

    class Spec:
        submodule_search_locations = (str(folder),)

    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: Spec)
    monkeypatch.setattr(energy.importlib.metadata, "version", lambda name: "0.0")


def test_an_installed_sanafe_is_read(monkeypatch, tmp_path):
    fake_sanafe(monkeypatch, tmp_path / "sanafe", ARCHITECTURE)
    row = find(
        energy_rows(LAYERS),
        model="loihi1-sanafe",
        ann_precision="float32",
        includes_input_layer=True,
    )
    wanted = 3000 * 25 + 600 * 30 + 150 * (50 + 20) + 47 * 70 + 47 * 100
    assert row["snn_joules"] == pytest.approx(wanted * 1e-12)
    assert row["source"].startswith("sanafe 0.0")


def test_a_sanafe_of_another_shape_is_named_not_guessed(monkeypatch, tmp_path):
    text = ARCHITECTURE.replace("energy_spike_out", "energy_out")
    fake_sanafe(monkeypatch, tmp_path / "sanafe", text)
    row = next(row for row in energy_rows(LAYERS) if row["model"] == "loihi1-sanafe")
    assert row["snn_joules"] is None
    assert "loihi_lif/energy_spike_out" in row["note"]


def test_yaml_energies_belong_to_the_element_above_them():
    energies = read_yaml_energies(ARCHITECTURE)
    assert energies["loihi_tile/energy_north_hop"] == 4e-12
    assert energies["loihi_conv_synapse/energy_process_spike"] == 25e-12
    assert len(energies) == 8


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
