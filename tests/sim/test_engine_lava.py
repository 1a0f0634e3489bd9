"""The engine that `simulate` uses, and Lava: every spike of every layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.chip.engine.build import ENGINE_VARIABLE
from compiler.chip.engine.plan import plan_layers
from compiler.chip.engine.run import Wanted, engine, run_spikes, spikes_of


def _check(case: Any) -> None:
    entering = np.moveaxis(case.lava.trace.input.spikes_tnchw, 2, -1)
    layers = case.graph.layers
    for depth, recorded in enumerate(case.lava.trace.layers, 1):
        plans = plan_layers(layers[:depth], case.graph.input_shape)
        output = run_spikes(plans, entering, Wanted(spikes=True))[-1]
        spikes = np.moveaxis(spikes_of(output, plans[-1]), -1, 2)
        np.testing.assert_array_equal(spikes, recorded.spikes_tnchw, err_msg=recorded.name)
        if recorded.v_tnchw is not None:
            last = np.moveaxis(recorded.v_tnchw[-1], 1, -1).reshape(spikes.shape[1], -1)
            np.testing.assert_array_equal(output.voltage_nm, last, err_msg=recorded.name)


@pytest.mark.parametrize("name", ["c++", "numba"])
def test_hand_made_networks(
    lava_cases: dict[str, Any], hand_made: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "numba":
        monkeypatch.setenv(ENGINE_VARIABLE, "numba")
    if engine().name != name:
        pytest.skip(engine().reason)
    _check(lava_cases[hand_made])


def test_files_of_others(lava_cases: dict[str, Any], foreign: str) -> None:
    _check(lava_cases[foreign])
