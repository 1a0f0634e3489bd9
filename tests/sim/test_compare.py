"""What a disagreement says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler.errors import AgreementError
from compiler.ir.chip import ChipGraph
from sim.compare import Agreement, Mismatch, compare_spikes, compare_states, require_agreement
from sim.reference import trace


@pytest.fixture
def run(toy: ChipGraph) -> Any:
    images = np.random.default_rng(0).random((2, *toy.input_shape)).astype(np.float32)
    return trace(toy, images, states=True)


def _flipped(run: Any, index: int, place: tuple[int, ...]) -> Any:
    layer = run.layers[index]
    spikes = layer.spikes_tnchw.copy()
    spikes[place] ^= 1
    layers = list(run.layers)
    layers[index] = replace(layer, spikes_tnchw=spikes)
    return replace(run, layers=tuple(layers))


def test_a_run_agrees_with_itself(run: Any) -> None:
    agreement = compare_states(run, run)
    assert agreement.holds and agreement.samples == 2
    assert agreement.spikes == sum(int(spikes.sum()) for spikes in run.spikes.values())
    require_agreement(agreement, "one", "the other")


def test_one_spike_is_found_and_named(run: Any) -> None:
    place = (5, 1, 3, 2, 6)
    before = int(run.layers[1].spikes_tnchw[place])
    agreement = compare_spikes(run, _flipped(run, 1, place))
    assert agreement.mismatches == 1
    with pytest.raises(AgreementError) as caught:
        require_agreement(agreement, "the reference", "Lava")
    text = str(caught.value)
    for word in ("grouped", "time-step 5", "(3, 2, 6)", "sample 1"):
        assert word in text
    assert f"{before} in the reference, {1 - before} in Lava" in text


def test_the_earliest_layer_and_step_come_first(run: Any) -> None:
    other = _flipped(
        _flipped(_flipped(run, 2, (0, 0, 1, 0, 0)), 1, (9, 0, 0, 0, 0)), 1, (4, 1, 0, 0, 0)
    )
    agreement = compare_spikes(run.spikes, other.spikes)
    assert agreement.mismatches == 3
    assert agreement.first is not None
    assert (agreement.first.layer, agreement.first.timestep) == ("grouped", 4)


def test_states_are_compared_too(run: Any) -> None:
    layer = run.layers[0]
    v = layer.v_tnchw.copy()
    v[3, 0, 1, 2, 2] += 1
    other = replace(run, layers=(replace(layer, v_tnchw=v), *run.layers[1:]))
    assert compare_spikes(run, other).holds
    first = compare_states(run, other).first
    assert first is not None
    assert (first.quantity, first.layer, first.timestep) == ("v", "kernel_3x2", 3)
    voltage = run.voltage_nk.copy()
    voltage[1, 2] -= 64
    first = compare_states(run, replace(run, voltage_nk=voltage)).first
    assert first is not None
    assert (first.quantity, first.sample, first.neuron) == ("final v", 1, (2, 0, 0))


def test_runs_of_different_networks_are_not_compared(run: Any) -> None:
    with pytest.raises(ValueError, match="layers"):
        compare_spikes(run.spikes, {"input": run.spikes["input"]})
    with pytest.raises(ValueError, match="shape"):
        compare_spikes({"a": run.spikes["input"]}, {"a": run.spikes["input"][:3]})


def test_agreements_of_parts_add_up() -> None:
    """The first difference is that of the first part that has one, its sample counted through."""
    place = Mismatch("conv", 3, 1, (0, 2, 2), (1, 0))
    same, other = Agreement(4, 100, 0), Agreement(2, 50, 7, place)
    assert same + same == Agreement(8, 200, 0)
    assert same + other == Agreement(6, 150, 7, replace(place, sample=5))
    assert other + other == Agreement(4, 100, 14, place)
