"""The integer simulator and Lava's CPU backend agree on every spike, u and v."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netx_export import read_netx
from sim.compare import compare_spikes, compare_states, require_agreement
from sim.encoding import Drive
from sim.lava import simulate_lava
from sim.reference import trace


def test_hand_made_networks(lava_cases: dict[str, Any], hand_made: str) -> None:
    case = lava_cases[hand_made]
    reference = trace(case.graph, case.drive, states=True)
    agreement = compare_states(reference, case.lava.trace)
    require_agreement(agreement, "the reference", "Lava")
    assert agreement.samples == 3
    for layer in reference.layers[:-1]:
        assert layer.spikes_tnchw.any(), f"{layer.name} says nothing"
        assert not layer.spikes_tnchw.all(), f"{layer.name} says nothing"


def test_files_of_others(lava_cases: dict[str, Any], foreign: str) -> None:
    case = lava_cases[foreign]
    reference = trace(case.graph, case.drive, states=True)
    agreement = compare_states(reference, case.lava.trace)
    require_agreement(agreement, "the reference", "Lava")
    assert agreement.spikes > 1000


def test_the_same_counts(lava_cases: dict[str, Any]) -> None:
    case = lava_cases["shapes"]
    reference = trace(case.graph, case.drive)
    result = case.lava.result
    np.testing.assert_array_equal(result.logits_nk, reference.voltage_nk)
    np.testing.assert_array_equal(result.predictions_n, reference.voltage_nk.argmax(1))
    assert result.readout_spikes == 0
    for counts, layer in zip(result.layers, reference.layers, strict=True):
        np.testing.assert_array_equal(counts.spikes_chw, layer.spikes_tnchw.sum((0, 1)))
        np.testing.assert_array_equal(counts.spikes_n, layer.spikes_tnchw.sum((0, 2, 3, 4)))


def test_thresholds_were_met_exactly(lava_cases: dict[str, Any]) -> None:
    """Otherwise the tests of ties would test nothing."""
    for name in ("ties_0", "ties_600"):
        case = lava_cases[name]
        reference = trace(case.graph, case.drive, states=True)
        for layer, run in zip(case.graph.layers, reference.layers, strict=True):
            assert np.any(run.v_tnchw == layer.neuron.v_th_mant << 6), (name, layer.name)


def test_states_left_24_bits(lava_cases: dict[str, Any]) -> None:
    """Otherwise the tests of overflow would test nothing."""
    case = lava_cases["overflow"]
    reference = trace(case.graph, case.drive, states=True)
    u, v = reference.layers[0].u_tnchw, reference.layers[0].v_tnchw
    assert u is not None and v is not None
    jumps = np.abs(np.diff(u.astype(np.int64), axis=0))
    assert jumps.max() > 1 << 23
    assert v.min() == -(2**23 - 1)
    assert np.any(reference.layers[0].spikes_tnchw)


def test_a_wrong_weight_is_found(lava_cases: dict[str, Any]) -> None:
    """The comparison can fail: one weight changed by the smallest step."""
    from dataclasses import replace

    case = lava_cases["shapes"]
    layer = case.graph.layers[0]
    weight = layer.weight.copy()
    weight[1, 0, 2, 1] += 2
    layers = (replace(layer, weight=weight), *case.graph.layers[1:])
    other = trace(replace(case.graph, layers=layers), case.drive, states=True)
    agreement = compare_states(other, case.lava.trace)
    assert agreement.mismatches > 0
    assert agreement.first is not None
    assert (agreement.first.layer, agreement.first.neuron[0]) == ("kernel_3x2", 1)


@pytest.mark.slow
def test_pilotnet_whole(lava_tests: Path, pilotnet_bias: Any) -> None:
    """All layers of PilotNet in Lava (20 s); the quick tests run its first three entries there
    and compare the others with the traces beside the file."""
    path = lava_tests / "gts" / "pilotnet_lif" / "network.net"
    drive = Drive(16, bias_nchw=pilotnet_bias)
    run = simulate_lava(path, drive, states=True)
    reference = trace(read_netx(path).graph, drive, states=True)
    agreement = compare_states(reference, run.trace)
    require_agreement(agreement, "the reference", "Lava")
    assert agreement.spikes == 741_321


def test_lava_and_its_tests_agree_on_tiny_net(lava_cases: dict[str, Any], lava_tests: Path) -> None:
    """Lava's recorded ground truth starts one step later and ends after 15."""
    case = lava_cases["tiny"]
    truth = np.load(lava_tests / "gts" / "tinynet" / "output.npy")[0].transpose(3, 0, 1, 2)
    reference = trace(case.graph, case.drive)
    ours = {"output": reference.layers[-1].spikes_tnchw[:15, :1]}
    assert compare_spikes(ours, {"output": truth[1:, None]}).mismatches == 0
    assert truth.sum() > 50
