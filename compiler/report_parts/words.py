"""Sentences about a report, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler.quantities import count, factor, percent, shape

Report = Mapping[str, Any]

NO_LABELS = "no labelled images were given; --eval DATA measures it"

_SAME_FUNCTION = 0.9
"""Share of the ANN's accuracy above which a read-out network counts as the same function."""

_BETTER_THAN_CHANCE = 2.0
"""Times chance above which a read-out network counts as knowing something."""

STAGE_TITLES = {
    "ann": "ANN",
    "converted": "converted, float spikes",
    "encrypted": "trained (encrypted)",
    "integer": "integers of the chip",
    "lava": "Lava, fixed point",
}


def stages_by_name(report: Report) -> dict[str, Mapping[str, Any]]:
    """The report's stages by their names."""
    return {stage["name"]: stage for stage in report.get("stages", ())}


def stage_title(name: str) -> str:
    """A stage's name for people."""
    return STAGE_TITLES.get(name, name)


def why_no_accuracy(report: Report) -> str:
    """Why accuracies are null."""
    note = (report.get("evaluation") or {}).get("note")
    return str(note) if note else NO_LABELS


def on_synthetic_images(report: Report) -> bool:
    """Whether the agreement was taken on held-out synthetic images for want of real ones."""
    return (report.get("evaluation") or {}).get("images") == "synthetic"


def images_in_words(report: Report) -> str:
    """Which images the stages were measured on."""
    evaluation = report.get("evaluation") or {}
    if on_synthetic_images(report):
        return "held-out synthetic images (no real ones were given)"
    data = evaluation.get("data")
    return f"images of {data}" if data else "images"


def heading(report: Report) -> str:
    """What was compiled, in one line."""
    model = report.get("model") or {}
    parts = [
        f"{model.get('name', 'network')}: {shape(model.get('input_shape'))} in",
        f"{model.get('classes', '?')} classes out",
        f"{count(model.get('parameters'))} parameters",
    ]
    if report.get("timesteps"):
        parts.append(f"T = {report['timesteps']}")
    if report.get("encoding"):
        parts.append(f"{report['encoding']} code")
    return ", ".join(parts)


def summary(report: Report) -> str:
    """The whole result in two or three sentences, good or bad."""
    return " ".join(
        sentence for sentence in (_result(report), _proof(report), leak_verdict(report)) if sentence
    )


def _result(report: Report) -> str:
    stages = stages_by_name(report)
    integer, ann = stages.get("integer"), stages.get("ann")
    if integer is None:
        return "The compile did not reach the chip's integers."
    steps = integer.get("timesteps")
    at = f" at T = {steps}" if steps else ""
    if integer.get("accuracy") is None:
        agrees = percent(integer.get("ann_agreement"))
        images = images_in_words(report)
        return f"The integer network agrees with the ANN on {agrees} of the {images}{at}."
    sentence = f"The integer network gets {percent(integer['accuracy'])}"
    sentence += f" of {count(integer.get('samples'))} {images_in_words(report)} right{at}"
    if ann is None or ann.get("accuracy") is None:
        return sentence + "."
    lost = 100 * (ann["accuracy"] - integer["accuracy"])
    relation = f"{lost:.1f} points fewer than" if lost >= 0 else f"{-lost:.1f} points more than"
    return f"{sentence}, {relation} the ANN ({percent(ann['accuracy'])})."


def _proof(report: Report) -> str:
    agreement = report.get("agreement") or {}
    pairs = [pair for pair in agreement.values() if pair]
    if not pairs:
        return ""
    wrong = sum(pair.get("mismatches") or 0 for pair in pairs)
    if wrong:
        return f"The simulators disagree on {count(wrong)} spikes."
    samples = min(pair.get("samples") or 0 for pair in pairs)
    names = "SLAYER, the integer simulator and Lava" if len(pairs) > 1 else "Two simulators"
    return f"{names} agree on every spike of every layer ({count(samples)} samples at least)."


def leak_verdict(report: Report) -> str:
    """What the weights give away when they are put into an ordinary network again."""
    again = (report.get("encryption") or {}).get("reconverted") or {}
    found = [value for value in (again.get("relu"), again.get("clipped_relu")) if value is not None]
    if not found:
        return ""
    best = max(found)
    classes = (report.get("model") or {}).get("classes") or 10
    ann = (stages_by_name(report).get("ann") or {}).get("accuracy")
    compared = f" (the ANN: {percent(ann)})" if ann is not None else ""
    opening = f"Put back into an ordinary network, the weights score {percent(best)}{compared}:"
    if ann is not None and best >= _SAME_FUNCTION * ann:
        rest = "whoever has the file has the ANN's function; nothing is hidden from this attack."
    elif best >= _BETTER_THAN_CHANCE / classes:
        rest = "part of the ANN's function can be read out in this simple way."
    else:
        rest = "this simple attack gains nothing; audit.leakage tries stronger ones."
    return f"{opening} {rest}"


def claim(report: Report) -> list[str]:
    """PrivateSNN's claim set beside what this network reaches under the same rule."""
    found = report.get("privatesnn_claim")
    if not found:
        return []
    needed, claimed = found["spikes_per_neuron_needed"], found["claimed_gains"]
    whole, part = found["with_input_layer"], found["without_input_layer"]
    return [
        f"PrivateSNN claims {claimed[0]:.0f} to {claimed[-1]:.0f} times. Under the rule that it "
        f"seems to use this takes {needed[-1]:.3f} to {needed[0]:.3f} spikes a neuron "
        "in a whole inference.",
        f"By that rule this network takes {factor(whole['gain'])} "
        f"({count(whole['spikes_per_neuron'])} spikes a neuron); without the input layer "
        f"{factor(part['gain'])} ({count(part['spikes_per_neuron'])}).",
    ]


def fullest_core(chip: Mapping[str, Any]) -> str:
    """Which limit of a core is nearest, and in which layer."""
    layers = [layer for layer in chip.get("layers", ()) if layer.get("fullest_share") is not None]
    if not layers:
        return "-"
    worst = max(layers, key=lambda layer: float(layer["fullest_share"]))
    return f"{worst['name']}: {percent(worst['fullest_share'])} of {worst['fullest']}"


def broken_rules(report: Report) -> list[str]:
    """Every broken design rule of every chip."""
    return [
        f"{chip.get('title', chip['chip'])}, {broken['severity']}: {broken['layer']} has "
        f"{broken['found']}; allowed: {broken['allowed']}. What to do: {broken['remedy']}."
        for chip in report.get("resources") or ()
        for broken in chip.get("violations", ())
    ]


def health(report: Report) -> list[str]:
    """Counters that must be 0, and neurons that never or always spike."""
    found = report.get("health") or {}
    lines = []
    if found:
        lines.append(f"spikes of the read-out (must be 0): {count(_sum(found, 'readout_spikes'))}")
        clips = count(_sum(found, "voltage_saturations"))
        lines.append(f"clips of a voltage (must be 0): {clips}")
    for key, meaning in (("silent", "never spike"), ("saturated", "spike at every step")):
        by_layer = found.get(key)
        if by_layer:
            some = [f"{layer} {count(n)}" for layer, n in by_layer.items() if n]
            lines.append(f"neurons that {meaning}: {', '.join(some) if some else 'none'}")
    return lines


def _sum(found: Mapping[str, Any], key: str) -> float | None:
    value = found.get(key)
    return sum(value.values()) if isinstance(value, Mapping) else value
