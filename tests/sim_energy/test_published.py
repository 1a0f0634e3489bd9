"""The published numbers: each with unit, condition and source, none made up, none missed."""

from __future__ import annotations

import importlib.util

import pytest

from sim import published
from sim.published import load_model, load_models, published_lines, read_yaml_costs


def test_every_number_has_unit_condition_and_source():
    for model in load_models():
        for line in model.lines.values():
            assert line.condition
            assert line.dimension in ("J", "s", "W")
            if not model.absent:
                assert line.value is not None and line.value > 0
                assert line.source
    assert all(entry["source"] for entry in published_lines())


def test_energies_as_published():
    horowitz = load_model("horowitz_2014_45nm.toml")
    davies = load_model("loihi1_davies_2018.toml")
    assert horowitz.joules("mac_float32") == pytest.approx(4.6e-12)
    assert horowitz.joules("ac_float32") == pytest.approx(0.9e-12)
    assert davies.joules("synaptic_operation_conv") == pytest.approx(23.6e-12)
    assert davies.joules("neuron_update") == pytest.approx(81e-12)
    assert davies.joules("neuron_update_least") == pytest.approx(52e-12)
    assert davies.watts("static_power_chip") == pytest.approx(0.104)


def test_times_as_published():
    davies = load_model("loihi1_davies_2018.toml")
    found = {
        name.removeprefix("time_"): line.in_si
        for name, line in davies.lines.items()
        if line.dimension == "s"
    }
    assert found == pytest.approx(
        {
            "synaptic_operation_dense": 3.5e-9,
            "synaptic_operation_conv": 3.5e-9,
            "neuron_update": 8.4e-9,
            "neuron_update_least": 5.3e-9,
            "route": 2.1e-9,
            "hop_east_west": 4.1e-9,
            "hop_north_south": 6.5e-9,
            "barrier_1_tile": 113e-9,
            "barrier_32_tiles": 465e-9,
        }
    )


def test_an_energy_is_no_time_and_an_unknown_event_costs_nothing():
    davies = load_model("loihi1_davies_2018.toml")
    assert davies.seconds("neuron_update") == davies.joules("time_neuron_update") == 0
    assert davies.joules("nothing") == 0
    assert davies.watts("neuron_update") == 0 and davies.watts("nothing") is None


def test_no_figure_is_invented_for_loihi2():
    assert not [model for model in load_models() if "loihi2" in model.name]
    assert "Loihi 2" in (published.__doc__ or "")


def test_a_missing_sanafe_is_said(monkeypatch):
    monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: None)
    model = load_model("loihi1_sanafe.toml")
    assert "pip install sanafe" in model.absent
    assert model.joules("spike_out") == model.seconds("time_spike_out") == 0


def test_an_installed_sanafe_is_read(fake_sanafe):
    fake_sanafe()
    model = load_model("loihi1_sanafe.toml")
    assert not model.absent
    assert model.joules("synaptic_operation_conv") == 25e-12
    assert model.seconds("time_spike_out") == 9e-9
    assert {line.tiles: line.in_si for line in model.lines.values() if line.tiles} == {
        1: 1e-7, 2: 2e-7, 4: 3e-7, 29: 4e-7,
    }  # fmt: skip
    assert model.source("J") == model.source("s") == "sanafe 0.0, examples/loihi.yaml (GPL-3, " \
        "read, not copied)"  # fmt: skip


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("energy_spike_out", "loihi_lif/energy_spike_out"),
        ("latency_message_in", "loihi_in/latency_message_in"),
        ("29: 4e-7", "loihi_chip/latency_sync[29]"),
    ],
)
def test_a_sanafe_of_another_shape_is_named_not_guessed(fake_sanafe, text, missing):
    fake_sanafe(text)
    assert missing in load_model("loihi1_sanafe.toml").absent


def test_costs_belong_to_the_element_above_them(architecture):
    costs = read_yaml_costs(architecture)
    assert costs["loihi_tile/energy_north_hop"] == 4e-12
    assert costs["loihi_conv_synapse/latency_process_spike"] == 3e-9
    assert costs["loihi_chip/latency_sync[4]"] == 3e-7
    assert len(costs) == 21


@pytest.mark.skipif(importlib.util.find_spec("sanafe") is None, reason="sanafe is not installed")
def test_the_file_of_the_real_package_is_read():
    model = load_model("loihi1_sanafe.toml")
    assert not model.absent
    assert all(line.value is not None for line in model.lines.values())
    assert "sanafe" in model.source("J") and "GPL-3" in model.source("s")
