"""A report with the figures of a plausible compile, complete and reduced."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from compiler.ir import ChipGraph, ChipLayer, ConvGeometry, CubaFields, Encoding
from compiler.resources import estimate, resource_rows
from sim.costs import cost_rows, reference_traces
from sim.energy import privatesnn_claim
from sim.published import published_lines
from sim.reference import simulate
from sim.results import LayerCounts, SimulationResult
from sim.synops import operation_tables, operations_by_step

STEPS, SAMPLES = 32, 594


def network() -> ChipGraph:
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return 2 * rng.integers(-100, 100, shape).astype(np.int32)

    same = ConvGeometry((1, 1), ((1, 1), (1, 1)))
    fields = CubaFields(255)
    layers = (
        ChipLayer(
            "conv1", "conv", (1, 28, 28), (16, 28, 28), weights(16, 1, 3, 3), None, fields, same
        ),
        ChipLayer(
            "conv2",
            "conv",
            (16, 28, 28),
            (32, 14, 14),
            weights(32, 16, 4, 4),
            None,
            fields,
            ConvGeometry((2, 2), ((1, 1), (1, 1))),
        ),
        ChipLayer("fc1", "dense", (32, 14, 14), (64, 1, 1), weights(64, 6272), None, fields),
        ChipLayer(
            "fc2",
            "dense",
            (64, 1, 1),
            (10, 1, 1),
            weights(10, 64),
            None,
            CubaFields(131071),
            readout=True,
        ),
    )
    return ChipGraph("fashion-mnist", (1, 28, 28), layers, STEPS, Encoding())


def simulated(graph: ChipGraph) -> SimulationResult:
    rng = np.random.default_rng(3)

    def counts(shape: tuple[int, ...], rate: float) -> np.ndarray:
        return rng.binomial(STEPS * SAMPLES, rate, shape).astype(np.int64)

    rates = (0.082, 0.051, 0.11, 0.0)
    trains = [counts(layer.shape, rate) for layer, rate in zip(graph.layers, rates, strict=True)]
    pixels = counts(graph.input_shape, 0.29)

    def by_sample(total: int) -> np.ndarray:
        share = np.full(SAMPLES, total // SAMPLES)
        share[0] += total - share.sum()
        return share

    return SimulationResult(
        "reference",
        STEPS,
        np.zeros((SAMPLES, 10), np.int64),
        np.zeros(SAMPLES, np.int64),
        pixels,
        by_sample(int(pixels.sum())),
        tuple(
            LayerCounts(layer.name, train, by_sample(int(train.sum())), 0)
            for layer, train in zip(graph.layers, trains, strict=True)
        ),
        0,
        1.0,
    )


def full_report() -> dict[str, Any]:
    graph = network()
    images = np.random.default_rng(2).random((2, *graph.input_shape)).astype(np.float32)
    costs = cost_rows(graph, simulated(graph), reference_traces(graph, images))
    counted = simulate(graph, images, fan_outs=operation_tables(graph))
    costs["operations_by_step"] = operations_by_step(counted, graph)
    stage = {"samples": SAMPLES, "timesteps": STEPS}
    return {
        "schema_version": 1,
        "command": "python -m compiler.export --preset fashion-mnist --seed 0",
        "created": "2026-11-20 14:03 UTC",
        "seed": 0,
        "timesteps": STEPS,
        "encoding": "rate",
        "versions": {"python": "3.10.13", "torch": "2.9.1", "lava-nc": "0.10.0"},
        "hashes": {"sha256 of model.net": "9f2c51d7" * 8},
        "model": {
            "name": "fashion-mnist",
            "input_shape": [1, 28, 28],
            "classes": 10,
            "parameters": 410_592,
        },
        "evaluation": {"data": "fashion-mnist", "images": "real"},
        "stages": [
            {"name": "ann", "accuracy": 0.914, "ann_agreement": 1.0, "samples": SAMPLES,
             "timesteps": None},
            {"name": "converted", "accuracy": 0.9066, "ann_agreement": 0.971, **stage},
            {"name": "encrypted", "accuracy": 0.9091, "ann_agreement": 0.967, **stage},
            {"name": "integer", "accuracy": 0.9091, "ann_agreement": 0.967, **stage},
            {"name": "lava", "accuracy": 0.875, "ann_agreement": 1.0, "samples": 8,
             "timesteps": STEPS},
        ],
        "encryption": {
            "recipe": "paper",
            "weight_change": {"conv1": 0.162, "conv2": 0.083, "fc1": 0.061, "fc2": 0.034},
            "reconverted": {
                "relu": 0.909,
                "clipped_relu": 0.884,
                "ann_agreement": {"relu": 0.951, "clipped_relu": 0.933},
            },
        },
        "agreement": {
            "slayer_vs_reference": {"samples": 64, "spikes": 5_123_004, "mismatches": 0},
            "reference_vs_lava": {"samples": 8, "spikes": 640_333, "mismatches": 0},
        },
        "health": {
            "readout_spikes": 0,
            "voltage_saturations": 0,
            "silent": {"conv1": 1568, "conv2": 12, "fc1": 0},
            "saturated": {"conv1": 0, "conv2": 0, "fc1": 0},
        },
        **costs,
        "energy_sources": published_lines(),
        "privatesnn_claim": privatesnn_claim(costs["layers"]),
        "resources": resource_rows([estimate(graph, chip) for chip in ("loihi1", "loihi2")]),
        "timing": {"load": 0.4, "lower": 0.1, "synthesize": 96.3, "convert": 21.8, "encrypt": 413.0,
                   "quantize": 0.9, "export": 0.2, "verify": 66.1, "evaluate": 41.7, "report": 0.6},
        "peak_memory_bytes": 2_410_000_000,
        "warnings": ["conv1: 1,568 of 12,544 neurons never spike on the synthetic images; "
                     "two channels have a negative bias that no weight overcomes"],
        "files": [
            {"path": "runs/fashion-mnist/model.net", "may_leave": True,
             "what": "the spiking network, NetX HDF5"},
            {"path": "runs/fashion-mnist/report.html", "may_leave": False, "what": "this report"},
            {"path": "runs/fashion-mnist/private", "may_leave": False,
             "what": "the ANN, the synthetic images, files for resuming"},
        ],
    }  # fmt: skip


def optional_sections() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    counts = np.eye(10, dtype=int) * 50 + rng.poisson(0.8, (10, 10))
    labels = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
              "bag", "boot"]  # fmt: skip
    spikes = (rng.random((64, STEPS)) < 0.11).astype(int)
    return {
        "accuracy_by_timestep": [
            {
                "timesteps": t,
                "accuracy": a,
                "ann_agreement": a + 0.05,
                "samples": 500,
                "synops_per_sample": 1e6 * t,
                "snn_joules": {"45nm-arithmetic, effective": 9e-7 * t, "loihi1, chip": 3e-5 * t},
            }
            for t, a in ((4, 0.613), (8, 0.812), (16, 0.893), (32, 0.909), (64, 0.912))
        ],
        "conversion": {
            "timestep_choice": {
                "timesteps": 32,
                "margin": 0.02,
                "best": 0.975,
                "wanted": 0.955,
                "samples": 512,
                "energy_samples": 128,
                "tried": [
                    {
                        "timesteps": t,
                        "weighted_agreement": a,
                        "agreement": a - 0.05,
                        "percentile": 99.0,
                        "threshold_scale": 1.5,
                        "divergence": 0.1,
                        "synops_per_sample": 1e6 * t,
                        "snn_joules": {
                            "45nm-arithmetic, effective": 9e-7 * t,
                            "loihi1, chip": 3e-5 * t,
                        },
                    }
                    for t, a in ((8, 0.871), (16, 0.932), (32, 0.961), (64, 0.975))
                ],
            },
        },
        "confusion_matrix": {"labels": labels, "counts": counts.tolist()},
        "sample": {
            "ann_answer": 9,
            "answer": 7,
            "timesteps": STEPS,
            "layers": [
                {
                    "layer": "fc1",
                    "neurons": 128,
                    "spikes": 2 * int(spikes.sum()),
                    "rows": ["".join("01"[spike] for spike in row) for row in spikes],
                }
            ],
        },
        "leakage": leakage(),
    }


def ends(value: float) -> dict[str, float]:
    return {"value": value, "low": max(value - 0.03, 0.0), "high": min(value + 0.03, 1.0)}


def image_set(rate: float) -> dict[str, Any]:
    """The entry of one set of images in audit.json, where judges recognise `rate`."""
    return {
        "images": 500,
        "recognition": ends(rate),
        "judge_accuracy": {judge: ends(rate) for judge in ("conv-bn", "patches", "residual")},
        "judge_confidence": {judge: ends(rate) for judge in ("conv-bn", "patches", "residual")},
        "all_judges_agree": ends(rate / 2),
        "classes": {
            name: {"images": 50, "confidence": rate, **ends(rate)} for name in ("T-shirt", "boot")
        },
        "fid": 30.0 - 20 * rate,
        "kid": 1.0 - rate,
        "kid_std": 0.01,
        "fid_images": 500,
        "queries": 4_000,
    }


def leakage() -> dict[str, Any]:
    """audit.json of a network that hides a little: two attacks on four networks."""
    rates = {
        "ann": (0.83, 0.71),
        "converted": (0.82, 0.70),
        "encrypted": (0.79, 0.70),
        "random": (0.11, 0.09),
    }
    subjects: dict[str, Any] = {
        name: {
            "accuracy": 0.91,
            "reconverted": {"relu": 0.909, "clipped_relu": 0.884, "relu_rescaled": 0.91},
            "weight_change": {"conv1": 0.16} if name == "encrypted" else {},
            "weight_cosine": {"conv1": 0.98} if name == "encrypted" else {},
            "attacks": {"deep": image_set(deep), "clone": image_set(clone)},
        }
        for name, (deep, clone) in rates.items()
    }
    for name, rate in (("real", 0.93), ("noise", 0.1)):
        again = {"relu": None, "clipped_relu": None}
        subjects[name] = {
            "accuracy": None, "reconverted": again, "weight_change": {}, "weight_cosine": {},
            "attacks": {"images": image_set(rate)},
        }  # fmt: skip
    near = {"median": 3.0, "real_median": 2.0, "same_class": ends(0.4), "copies": ends(0.0)}
    member = {
        "members": 5000, "others": 599, "best": "margin", "auc": ends(0.62),
        "tpr_at": {"0.01": ends(0.05), "0.001": None},
        "tpr_notes": {"0.001": "599 test images show no false-positive rate below 0.17%"},
    }  # fmt: skip
    alike = {**ends(0.5), "chance": {"low": 0.46, "high": 0.54}, "p": 0.4}
    return {
        "quick": False,
        "seed": 0,
        "model_sha256": "9f2c51d7" * 8,
        "data": {
            "spec": "fashion-mnist",
            "test": {"images": 10_000},
            "training": {"images": 60_000},
        },
        "judges": {"conv-bn": {}, "patches": {}, "residual": {}},
        "features_of": "conv-bn",
        "fid_images": 500,
        "attacks": {
            "deep": {"title": "Deep", "family": "deep", "access": "weights", "extras": "nothing"},
            "clone": {"title": "Clone", "family": "clone", "access": "queries", "extras": "noise"},
        },
        "left_out": [],
        "subjects": subjects,
        "membership": {**dict.fromkeys(rates, member), "resemblance": {"synthetic": alike}},
        "nearest_image": {
            space: {name: dict.fromkeys(entry["attacks"], near) for name, entry in subjects.items()}
            for space in ("pixels", "features")
        },
        "worst_attack": "deep",
        "blackbox_attack": "clone",
        "worst": 0.79,
        "blackbox": 0.70,
        "whitebox_attack": "deep",
        "whitebox": 0.79,
        "floor": 0.11,
        "highest_floor": {"attack": "clone", **ends(0.12)},
        "ceiling": 0.93,
        "intervals": {
            name: ends(rate)
            for name, rate in (
                ("worst", 0.79),
                ("blackbox", 0.7),
                ("floor", 0.11),
                ("ceiling", 0.93),
            )
        },
        "gain_over_floor": ends(0.68),
        "gain_over_blackbox": ends(0.09),
        "hidden": {"value": 0.03, "low": 0.01, "high": 0.05},
        "sanity": {"ann": 0.83, "converted": 0.82, "attacks_work": True},
        "notes": [],
        "pictures": [],
    }


@pytest.fixture(scope="session")
def complete() -> dict[str, Any]:
    """Everything a report can have."""
    return full_report() | optional_sections()


@pytest.fixture
def report(complete: dict[str, Any]) -> dict[str, Any]:
    """What a compile with real test images writes, free to be changed by a test."""
    some = copy.deepcopy(complete)
    for key in optional_sections():
        del some[key]
    return some


@pytest.fixture
def unlabelled(report: dict[str, Any]) -> dict[str, Any]:
    """What a compile without any data writes: no accuracy anywhere, no comparison with Lava."""
    for stage in report["stages"]:
        stage["accuracy"] = None
    report["encryption"]["reconverted"].update({"relu": None, "clipped_relu": None})
    report["evaluation"] = {"data": None, "images": "synthetic"}
    report["agreement"]["reference_vs_lava"] = None
    return report
