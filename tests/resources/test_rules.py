"""Each design rule passes what is allowed, and names layer, value, limit and remedy else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.errors import ModelError, UsageError
from compiler.ir import (
    AnnGraph,
    AvgPool2d,
    ChipGraph,
    ChipInput,
    ChipLayer,
    Conv2d,
    ConvGeometry,
    CubaFields,
    Dense,
    Encoding,
    Flatten,
    Relu,
    SnnGraph,
    SnnLayer,
)
from compiler.resources import RULES, estimate, require, resource_rows
from compiler.resources.shapes import LayerShape, NetworkShape


def broken(network, chip, **options):
    return {
        violation.rule: violation for violation in estimate(network, chip, **options).violations
    }


def dense(inputs, outputs, **fields):
    return LayerShape("fc", "dense", (inputs, 1, 1), (outputs, 1, 1), **fields)


def one(layer, timesteps=16):
    return NetworkShape("net", (layer,), timesteps)


CASES = [
    # rule, chip, breaks it, keeps it, hard
    ("input_axons_fit_one_core", "loihi1", one(dense(4097, 2)), one(dense(4096, 2)), True),
    ("input_axons_fit_one_core", "loihi2", one(dense(16001, 2)), one(dense(16000, 2)), True),
    (
        "synapses_of_one_neuron_fit_one_core",
        "loihi2",
        one(dense(16001, 1)),
        one(dense(16000, 1)),
        True,
    ),
    ("timesteps_are_a_power_of_two", "loihi2", one(dense(4, 2), 24), one(dense(4, 2), 32), True),
    (
        "current_decays_on_loihi1",
        "loihi1",
        one(dense(4, 2, i_decay=0)),
        one(dense(4, 2, i_decay=1)),
        True,
    ),
    (
        "synaptic_delays_fit_the_field",
        "loihi2",
        one(dense(4, 2, largest_delay=63)),
        one(dense(4, 2, largest_delay=62)),
        True,
    ),
    (
        "one_step_sum_fits_the_accumulator",
        "loihi1",
        one(dense(4, 2, worst_sum=32768)),
        one(dense(4, 2, worst_sum=32767)),
        False,
    ),
    (
        "convolution_is_narrower_than_the_address",
        "loihi2",
        one(LayerShape("c", "conv", (1, 4, 255), (1, 4, 255))),
        one(LayerShape("c", "conv", (1, 4, 254), (1, 4, 254))),
        False,
    ),
    (
        "convolution_kind_is_documented",
        "loihi2",
        one(LayerShape("c", "conv", (2, 4, 4), (2, 4, 4), geometry=ConvGeometry(groups=2))),
        one(LayerShape("c", "conv", (2, 4, 4), (2, 4, 4))),
        False,
    ),
]


@pytest.mark.parametrize(("rule", "chip", "bad", "good", "hard"), CASES)
def test_rule_at_its_limit(rule, chip, bad, good, hard):
    violation = broken(bad, chip)[rule]
    assert violation.hard is hard
    assert all([violation.problem.layer, violation.problem.found, violation.problem.remedy])
    assert violation.problem.allowed
    assert rule not in broken(good, chip)


def test_every_rule_has_a_case_or_a_test_of_its_own():
    named = {case[0] for case in CASES}
    elsewhere = {"network_fits_one_chip", "output_axons_fit_one_core"}
    assert {rule.__name__ for rule in RULES} == named | elsewhere


def test_a_single_neuron_with_too_many_targets_breaks_the_output_rule(monkeypatch):
    """One neuron sends to at most 4096 cores; fewer are allowed here to reach the limit."""
    from compiler.resources import chips

    small = replace(chips.LOIHI1, output_axons=chips.Limit(2, "test"))
    monkeypatch.setitem(chips.CHIPS, "loihi1", small)
    network = NetworkShape(
        "net",
        (
            LayerShape("a", "dense", (1, 1, 1), (1, 1, 1)),
            LayerShape("b", "dense", (1, 1, 1), (3000, 1, 1)),
        ),
    )
    violation = broken(network, "loihi1")["output_axons_fit_one_core"]
    assert violation.hard
    assert violation.problem.layer == "a"


def test_more_cores_than_a_chip_is_a_warning_and_does_not_fit(yolo_kp):
    report = estimate(yolo_kp, "loihi2")
    assert "network_fits_one_chip" in {violation.rule for violation in report.violations}
    assert not report.fits
    require(report)


def test_require_lists_every_hard_problem_at_once():
    report = estimate(one(dense(16001, 1), 24), "loihi2")
    with pytest.raises(ModelError) as caught:
        require(report)
    assert len(caught.value.problems) == 3
    assert "timesteps 16 or 32" in str(caught.value)
    assert caught.value.exit_status == 1


def test_unknown_chip_is_wrong_usage():
    with pytest.raises(UsageError, match="loihi1 or loihi2"):
        estimate(one(dense(4, 2)), "loihi3")


def test_the_same_cores_before_and_after_training():
    """An ANN, a float spiking network and the chip's integers of one shape agree."""
    rng = np.random.default_rng(1)
    geometry = ConvGeometry((1, 1), ((1, 1), (1, 1)))
    kernel = rng.normal(size=(6, 1, 3, 3))
    matrix = rng.normal(size=(10, 6 * 8 * 8))
    ann = AnnGraph(
        "net",
        (1, 8, 8),
        (
            Conv2d("conv", kernel, None, geometry),
            Relu("relu"),
            Flatten("flat"),
            Dense("fc", matrix, np.zeros(10)),
        ),
    )
    snn = SnnGraph(
        "net",
        (1, 8, 8),
        16,
        Encoding(),
        (
            SnnLayer(
                "conv",
                "conv",
                (1, 8, 8),
                (6, 8, 8),
                kernel,
                None,
                1.0,
                unit=np.ones(6),
                geometry=geometry,
            ),
            SnnLayer("fc", "dense", (6, 8, 8), (10, 1, 1), matrix, None, 1.0, unit=np.ones(10)),
        ),
    )
    fields = CubaFields(255)
    chip = ChipGraph(
        "net",
        (1, 8, 8),
        (
            ChipLayer(
                "conv",
                "conv",
                (1, 8, 8),
                (6, 8, 8),
                np.zeros((6, 1, 3, 3), int),
                None,
                fields,
                geometry,
            ),
            ChipLayer("fc", "dense", (6, 8, 8), (10, 1, 1), np.zeros((10, 384), int), None, fields),
        ),
        16,
    )
    for target in ("loihi1", "loihi2"):
        maps = [estimate(graph, target, timesteps=16).core_map for graph in (ann, snn, chip)]
        assert maps[0] == maps[1] == maps[2]


def test_input_neurons_take_cores_and_an_unlowered_ann_is_refused():
    layer = ChipLayer(
        "fc", "dense", (12, 1, 1), (2, 1, 1), np.zeros((2, 12), int), None, CubaFields(9)
    )
    own = ChipInput("in", (3, 2, 2), CubaFields(25))
    report = estimate(ChipGraph("net", (3, 2, 2), (layer,), input_neurons=own), "loihi2")
    assert [use.layer for use in report.core_map] == ["in", "fc"]
    pooled = AnnGraph("net", (1, 4, 4), (AvgPool2d("pool", (2, 2), ConvGeometry((2, 2))),))
    with pytest.raises(ModelError, match="pool: found AvgPool2d"):
        estimate(pooled, "loihi1")


def test_rows_are_plain_data(pilotnet):
    import json

    rows = resource_rows([estimate(pilotnet, chip) for chip in ("loihi1", "loihi2")])
    again = json.loads(json.dumps(rows))
    assert [row["chip"] for row in again] == ["loihi1", "loihi2"]
    assert {"chip", "cores", "fits", "layers"} <= set(again[0])
    assert again[1]["limits"]["neurons"]["inferred"] is True
    assert len(again[1]["core_map"]) == again[1]["cores"]
    assert again[0]["violations"][0]["severity"] == "warning"
