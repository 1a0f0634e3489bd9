"""Joules from counted operations, by models whose every number carries its source.

The models are those of sim.published. All figures are dynamic energy an inference; static
power is a matter of time and stands with the latency (sim.latency). There is no model of
Loihi 2: no energy an operation has been published for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sim.published import ENERGY, MODEL_FILES, PublishedModel, load_model, load_models

ANN_PRECISIONS = ("float32", "int8")
_ARITHMETIC = MODEL_FILES[0]

CLAIMED_GAINS = (55.0, 60.0)
"""PrivateSNN, arXiv 2104.03414: 'about 55x' in version 3, 'about 60x' in version 1."""


Traffic = Mapping[str, float]
"""`messages`, `hops_east_west` and `hops_north_south` that a layer's spikes cause in a sample."""


def energy_rows(
    layers: Sequence[Mapping[str, Any]],
    traffic: Mapping[str, Traffic] | None = None,
    models: Sequence[PublishedModel] | None = None,
) -> list[dict[str, Any]]:
    """The entries of a report's `energy`, joules a sample.

    layers: the rows of `sim.synops.build_operations`. `traffic`, by layer name
    (from compiler.resources.message_traffic), adds messages and hops between cores;
    without it each spike is one message within its tile.
    Every model is set against a float32 and an int8 ANN, with and without the input layer
    (the layer that the input's spikes arrive at, left out on both sides).
    """
    arithmetic = load_model(_ARITHMETIC)
    rows: list[dict[str, Any]] = []
    for model in load_models() if models is None else models:
        for convention in model.conventions:
            for precision in ANN_PRECISIONS:
                for whole in (True, False):
                    chosen = list(layers) if whole else _without_input_layer(layers)
                    row = _row(model, arithmetic, chosen, convention, precision, traffic)
                    row["includes_input_layer"] = whole
                    rows.append(row)
    return rows


def privatesnn_claim(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The 55 to 60 times of PrivateSNN, recomputed under the rule that it seems to use.

    Assumed rule (the paper's own energy code is not published): E_ANN = sum FLOPs * 4.6 pJ
    and E_SNN = sum FLOPs_l * R_l * 0.9 pJ, R_l the spikes that an input neuron of layer l
    fires over the whole run. Neuron updates, messages and memory are not in it. The
    spikes a neuron that the claim needs are 4.6 / 0.9 / gain, weighted by FLOPs.
    """
    model = load_model(_ARITHMETIC)
    mac, accumulate = model.joules("mac_float32"), model.joules("ac_float32")
    result: dict[str, Any] = {
        "rule": "E_ANN = sum FLOPs * 4.6 pJ; E_SNN = sum FLOPs_l * R_l * 0.9 pJ, "
        "R_l = spikes an input neuron over all steps",
        "assumed": True,
        "source": "after P. Panda, A. Aketi, K. Roy 2020; the paper's own count is not published",
        "claimed_gains": list(CLAIMED_GAINS),
        "spikes_per_neuron_needed": [mac / accumulate / gain for gain in CLAIMED_GAINS],
    }
    for key, chosen in (
        ("with_input_layer", list(layers)),
        ("without_input_layer", _without_input_layer(layers)),
    ):
        macs = float(sum(row["macs"] for row in chosen))
        spiked = sum(row["macs"] * _spikes_per_input(row) for row in chosen)
        rate = spiked / macs if macs else None
        result[key] = {
            "spikes_per_neuron": rate,
            "gain": mac / (rate * accumulate) if rate else None,
        }
    return result


def _spikes_per_input(row: Mapping[str, Any]) -> float:
    if not row["inputs"]:
        return 0.0
    return float(row["input_spikes_per_sample"]) / int(row["inputs"])


def _without_input_layer(layers: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    after_input = [row for row in layers if row["kind"] != "input"]
    return after_input[1:]


def _row(
    model: PublishedModel,
    arithmetic: PublishedModel,
    layers: Sequence[Mapping[str, Any]],
    convention: str,
    precision: str,
    traffic: Mapping[str, Traffic] | None,
) -> dict[str, Any]:
    ann = sum(int(row["macs"]) for row in layers) * arithmetic.joules(f"mac_{precision}")
    parts = _parts(model, layers, convention, precision, traffic)
    snn = None if model.absent or not layers else sum(parts.values())
    return {
        "model": model.name,
        "title": model.title,
        "source": model.source(ENERGY),
        "convention": convention,
        "ann_precision": precision,
        "ann_joules": ann,
        "snn_joules": snn,
        "gain": ann / snn if snn and ann else None,
        "snn_joules_least": None if snn is None else snn - _idle_discount(model, layers),
        "parts": None if snn is None else parts,
        "note": model.absent or _note(model, traffic),
    }


def _parts(
    model: PublishedModel,
    layers: Sequence[Mapping[str, Any]],
    convention: str,
    precision: str,
    traffic: Mapping[str, Traffic] | None,
) -> dict[str, float]:
    """Joules a sample by kind of event."""
    synops = "synops_per_sample" if convention == "chip" else "synops_effective_per_sample"
    if model.kind == "arithmetic":
        total = sum(float(row[synops]) for row in layers)
        return {"synaptic_operations": total * model.joules(f"ac_{precision}")}
    updates = sum(float(row["neuron_updates_per_sample"]) for row in layers)
    fired = [row for row in layers if row["neuron_updates_per_sample"]]
    return {
        "synaptic_operations": sum(
            float(row[synops]) * model.joules(f"synaptic_operation_{row['kind']}") for row in layers
        ),
        "neuron_updates": updates * (model.joules("neuron_update") + model.joules("neuron_access")),
        "spikes": sum(float(row["spikes_per_sample"]) for row in fired) * model.joules("spike_out"),
        "messages": sum(_message_joules(model, row, traffic) for row in fired),
    }


def _message_joules(
    model: PublishedModel, row: Mapping[str, Any], traffic: Mapping[str, Traffic] | None
) -> float:
    if traffic is None or row["name"] not in traffic:
        return float(row["spikes_per_sample"]) * model.joules("message")
    sent = traffic[row["name"]]
    return (
        sent["messages"] * model.joules("message")
        + sent["hops_east_west"] * model.joules("hop_east_west")
        + sent["hops_north_south"] * model.joules("hop_north_south")
    )


def _idle_discount(model: PublishedModel, layers: Sequence[Mapping[str, Any]]) -> float:
    """What is saved if every neuron update were the cheapest kind."""
    if "neuron_update_least" not in model.lines:
        return 0.0
    updates = sum(float(row["neuron_updates_per_sample"]) for row in layers)
    return updates * (model.joules("neuron_update") - model.joules("neuron_update_least"))


def _note(model: PublishedModel, traffic: Mapping[str, Traffic] | None) -> str:
    if model.kind == "arithmetic":
        return (
            "additions of weights against multiply-adds; no memory traffic, and none of the "
            "additions that a neuron makes at every step"
        )
    sent = "one message a spike, no hops" if traffic is None else "messages and hops by core map"
    return f"dynamic energy of the chip ({sent}) against the ANN's arithmetic alone at 45 nm"
