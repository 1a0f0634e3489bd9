"""Parts of the simulator's benchmark that need no Lava."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import crossover, simulator
from benchmarks.simulator_load import Load, digits
from compiler.chip.encoding import encode
from compiler.ir.snn import Encoding
from sim.reference import simulate


@pytest.fixture(scope="module")
def load() -> Load:
    return digits()


@pytest.fixture(scope="module")
def logits(load: Load) -> Any:
    return simulate(load.graph, load.images_nchw).logits_nk


def test_stock_slayer_gives_the_same_voltages(load: Load, logits: Any) -> None:
    spikes = encode(load.images_nchw[:4], load.timesteps, load.graph.encoding or Encoding())
    candidates, agreement = simulator._peers(load, spikes, logits)
    assert agreement["slayer"] == "all of 40 read-out voltages"
    for name in candidates:
        if name != "slayer":
            assert agreement[name].startswith("4 of 4")
    wrong = logits + (np.arange(10) == 3)
    with pytest.raises(RuntimeError, match="voltages differ"):
        simulator._peers(load, spikes, wrong)


def test_the_limit_is_above_what_is_measured(load: Load) -> None:
    limit = simulator.addition_limit(quick=True)
    if limit is None:
        pytest.skip("no C++ compiler here")
    assert 1e8 < limit < 1e14
    result = simulate(load.graph, load.images_nchw)
    found = simulator._additions(load, result, [1.0], limit)
    spikes_reach = sum(float(layer.spikes_n.mean()) for layer in result.layers)
    assert found["additions_a_sample"] > spikes_reach
    assert found["dense_macs_a_sample"] > found["additions_a_sample"]
    assert found["additions_share_of_limit"] == pytest.approx(
        found["additions_a_sample"] * load.samples["ours"] / limit
    )


def test_rates_are_medians_of_samples(load: Load) -> None:
    rates = simulator._rates(load, {"ours": [1.0, 2.0, 50.0], "lava": [4.0, 4.0, 4.0]})
    assert rates["samples_per_second"] == {"ours": 50.0, "lava": 8 / 32 / 4.0}
    assert rates["times_slower_same_round"]["lava"] == {"median": 800, "low": 32, "high": 1600}


def test_the_crossover_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossover, "ACTIVITIES", (0.1, 1.0))
    monkeypatch.setattr(crossover, "SAMPLES", 1)
    size, found = crossover.ratios(1, 16, 8, 1)
    assert size == 9 * 16 * 2
    assert len(found) == 2 and min(found) > 0
