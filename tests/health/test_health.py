"""Silent and saturated neurons, and their likely cause, on a network made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.health import health, health_warnings
from compiler.ir import (
    AnnGraph,
    ChipGraph,
    ChipLayer,
    CubaFields,
    Dense,
    Encoding,
    Flatten,
    Relu,
    SnnGraph,
    SnnLayer,
)
from compiler.ir.geometry import frozen
from sim.reference import simulate

STEPS = 16
ACTIVATION = (-1.0, 0.02, 0.5, 2.0, 0.3, 0.5)
"""Of the ANN's six hidden neurons for a white image; half of it for a grey one."""

CHIP_WEIGHT = (-60, 2, 4, 0, 0, 60)
CHIP_BIAS = (0, 0, 0, 200, 200, 0)


@pytest.fixture(scope="module")
def ann() -> AnnGraph:
    hidden = np.array(ACTIVATION, np.float32)[:, None]
    return AnnGraph(
        "net",
        (1, 1, 1),
        (
            Flatten("flat"),
            Dense("hidden", frozen(hidden, np.float32), None),
            Relu("relu"),
            Dense("out", frozen(np.ones((2, 6)), np.float32), None),
        ),
    )


@pytest.fixture(scope="module")
def found(ann: AnnGraph) -> dict[str, Any]:
    """Weight 4 reaches 64 of 101 in 16 steps; a bias of 200 fires at every step."""
    shapes = ((1, 1, 1), (6, 1, 1), (2, 1, 1))
    weight = np.array(CHIP_WEIGHT)[:, None]
    out = np.ones((2, 6)) * 2
    layers = (
        ChipLayer("hidden", "dense", *shapes[:2], frozen(weight, np.int32),
                  frozen(CHIP_BIAS, np.int32), CubaFields(101)),
        ChipLayer("out", "dense", *shapes[1:], frozen(out, np.int32), None, CubaFields(131071),
                  readout=True),
    )  # fmt: skip
    chip = ChipGraph("net", (1, 1, 1), layers, STEPS, Encoding())
    float_layers = tuple(
        SnnLayer(layer.name, "dense", layer.input_shape, layer.shape, layer.weight * 1.0, None,
                 101.0, np.ones(layer.shape[0]), readout=layer.readout)
        for layer in layers
    )  # fmt: skip
    network = SnnGraph("net", (1, 1, 1), STEPS, Encoding(), float_layers)
    images = np.array([1.0, 0.5], np.float32).reshape(2, 1, 1, 1)
    return health(simulate(chip, images), network, ann, images)


def test_every_neuron_has_its_cause(found: dict[str, Any]) -> None:
    assert found["silent"] == {"hidden": 3} and found["saturated"] == {"hidden": 2}
    assert found["silent_causes"] == {
        "hidden": {"never_active_in_ann": 1, "too_few_steps": 1, "threshold_too_high": 1}
    }
    assert found["saturated_causes"] == {
        "hidden": {"always_active_in_ann": 1, "fires_more_than_ann": 1}
    }
    assert found["readout_spikes"] == found["voltage_saturations"] == 0


def test_warnings_name_layer_number_cause_and_remedy(found: dict[str, Any]) -> None:
    silent, saturated = health_warnings(found, {"hidden": 6}, STEPS)
    assert silent.startswith("layer hidden: 3 of 6 neurons never fired: 1 are never active in the")
    assert "dead ReLUs" in silent and "T = 16" in silent and "more --timesteps" in silent
    assert "lower percentiles in [convert]" in silent
    assert saturated.startswith("layer hidden: 2 of 6 neurons fired at every step")
    assert "higher percentiles" in saturated and "fewer epochs" in saturated


@pytest.mark.parametrize(
    ("causes", "warned"),
    [
        ({"never_active_in_ann": 40}, False),
        ({"never_active_in_ann": 60}, True),
        ({"too_few_steps": 3, "threshold_too_high": 2}, False),
        ({"too_few_steps": 3, "threshold_too_high": 3}, True),
    ],
)
def test_dead_neurons_of_the_ann_are_no_fault_of_the_compile(
    causes: dict[str, int], warned: bool
) -> None:
    none = {"never_active_in_ann": 0, "too_few_steps": 0, "threshold_too_high": 0}
    found = {
        "readout_spikes": 0, "clipped": {}, "silent_causes": {"a": none | causes},
        "saturated_causes": {"a": {"always_active_in_ann": 0, "fires_more_than_ann": 0}},
    }  # fmt: skip
    assert bool(health_warnings(found, {"a": 100}, 32)) is warned


def test_counters_that_must_be_zero_warn(found: dict[str, Any]) -> None:
    clipped = {"hidden": 7, "last": 2000}
    bad = {**found, "readout_spikes": 3, "voltage_saturations": 2007, "clipped": clipped}
    lines = health_warnings(bad, {"hidden": 6, "last": 2}, STEPS)
    assert "fired 3 times" in lines[0]
    assert lines[1].startswith("layer hidden") and " 7 times" in lines[1]
    assert "readout_margin" not in lines[1]
    assert lines[2].startswith("layer last") and "2,000 times" in lines[2]
    assert "readout_margin" in lines[2]


def test_more_images_than_a_chunk_give_the_same(
    ann: AnnGraph, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compiler import health as module

    images = np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1, 1, 1)
    layer = SnnLayer("hidden", "dense", (1, 1, 1), (6, 1, 1), np.ones((6, 1)), None, 1.0,
                     np.full(6, 2.0))  # fmt: skip
    network = SnnGraph("net", (1, 1, 1), STEPS, Encoding(), (layer, layer))
    whole = module._ann_rates(network, ann, images)
    monkeypatch.setattr(module, "_CHUNK", 2)
    parts = module._ann_rates(network, ann, images)
    low, high = parts["hidden"]
    np.testing.assert_array_equal(high[:, 0, 0], np.maximum(ACTIVATION, 0).astype(np.float32) / 2)
    assert not low.any()
    for one, other in zip(whole["hidden"], parts["hidden"], strict=True):
        np.testing.assert_array_equal(one, other)
