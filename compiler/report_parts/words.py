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

COMPARED = {
    "slayer_vs_reference": "SLAYER and the integer simulator",
    "reference_vs_lava": "the integer simulator and Lava",
}

COMPARED_NOTE = (
    "Compared on held-out synthetic images: every spike of every layer, and the read-out's last "
    "voltage."
)

OBFUSCATION = (
    "Training in the spiking domain is obfuscation, not cryptography; this is one simple attack "
    "and no bound on others."
)

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


def layer_title(name: str) -> str:
    """A layer's name; a mere number, as torch gives, with the word before it."""
    return f"layer {name}" if name.isdigit() else name


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
        return "held-out synthetic images"
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
    if abs(lost) < 0.05:
        return f"{sentence}, as many as the ANN ({percent(ann['accuracy'])})."
    relation = f"{lost:.1f} points fewer than" if lost > 0 else f"{-lost:.1f} points more than"
    return f"{sentence}, {relation} the ANN ({percent(ann['accuracy'])})."


def _proof(report: Report) -> str:
    agreement = report.get("agreement") or {}
    pairs = [(COMPARED.get(key, key), pair) for key, pair in agreement.items()]
    missing = [title for title, pair in pairs if not pair]
    sentences = []
    wrong = sum(pair.get("mismatches") or 0 for _, pair in pairs if pair)
    if wrong:
        sentences.append(f"The simulators disagree on {count(wrong)} spikes.")
    elif len(missing) < len(pairs):
        over = ", and in ".join(
            f"{title} over {count(pair.get('samples'))} samples" for title, pair in pairs if pair
        )
        sentences.append(f"Every spike of every layer is the same in {over}.")
    sentences += [f"Not compared: {title}." for title in missing]
    return " ".join(sentences)


def leak_verdict(report: Report) -> str:
    """What the weights give away when they are put into an ordinary network again.

    By accuracy; where there are no labels, by agreement with the ANN.
    """
    again = (report.get("encryption") or {}).get("reconverted") or {}
    accuracy = _best(again)
    agreement = _best(again.get("ann_agreement") or {})
    ann = (stages_by_name(report).get("ann") or {}).get("accuracy")
    opening = "Put back into an ordinary network, the weights"
    if accuracy is not None:
        compared = f" (the ANN: {percent(ann)})" if ann is not None else ""
        verdict = _verdict(report, accuracy, 1.0 if ann is None else ann)
        return f"{opening} score {percent(accuracy)}{compared}: {verdict}"
    if agreement is None:
        return ""
    verdict = _verdict(report, agreement, 1.0)
    return f"{opening} answer as the ANN on {percent(agreement)} of the images: {verdict}"


def _best(values: Mapping[str, Any]) -> float | None:
    found = [values[key] for key in ("relu", "clipped_relu") if values.get(key) is not None]
    return max(found, default=None)


def _verdict(report: Report, found: float, whole: float) -> str:
    classes = (report.get("model") or {}).get("classes") or 10
    if found >= _SAME_FUNCTION * whole:
        return "whoever has the file has the ANN's function; nothing is hidden from this attack."
    if found >= _BETTER_THAN_CHANCE / classes:
        return "part of the ANN's function can be read out in this simple way."
    return "this simple attack gains nothing; audit.leakage tries stronger ones."


def other_warnings(report: Report) -> list[str]:
    """The warnings that no other section says."""
    note = (report.get("evaluation") or {}).get("note")
    said = {*broken_rules(report), f"accuracy not measured: {note}"}
    return [warning for warning in report.get("warnings") or () if warning not in said]


def timestep_choice(found: Mapping[str, Any]) -> str:
    """How the number of steps was chosen."""
    tried = ", ".join(str(one["timesteps"]) for one in found["tried"])
    return (
        f"T = {found['timesteps']} was chosen: the smallest of {tried} whose agreement with the "
        f"ANN is at most {100 * found['margin']:.3g} points below the best of them "
        f"({percent(found['best'])}). Measured on {count(found['samples'])} held-out synthetic "
        "images, each counting as much as the ANN is sure of it, with the network converted anew "
        "for every T, before training; energy of its integers over "
        f"{count(found['energy_samples'])} of them."
    )


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
        f"By that rule this network takes {_times(whole)} "
        f"({count(whole['spikes_per_neuron'])} spikes a neuron); without the input layer "
        f"{_times(part)} ({count(part['spikes_per_neuron'])}).",
    ]


def _times(found: Mapping[str, Any]) -> str:
    return "none" if found["spikes_per_neuron"] == 0 else factor(found["gain"])


def fullest_core(chip: Mapping[str, Any]) -> str:
    """Which limit of a core is nearest, and in which layer."""
    layers = [layer for layer in chip.get("layers", ()) if layer.get("fullest_share") is not None]
    if not layers:
        return "-"
    worst = max(layers, key=lambda layer: float(layer["fullest_share"]))
    return f"{layer_title(worst['name'])}: {percent(worst['fullest_share'])} of {worst['fullest']}"


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
            causes = found.get(f"{key}_causes") or {}
            some = [
                f"{count(n)} in {layer_title(layer)}{_causes(causes.get(layer))}"
                for layer, n in by_layer.items()
                if n
            ]
            lines.append(f"neurons that {meaning}: {', '.join(some) if some else 'none'}")
    return lines


def sample(report: Report) -> str:
    """Which image the spikes are of, and what came out."""
    found = report["sample"]
    answer, ann = (_class_name(report, found[key]) for key in ("answer", "ann_answer"))
    shown = (
        ""
        if report.get("shown_pictures")
        else (
            " The input's spikes are left out, since they are the image itself; "
            "--pictures shows them."
        )
    )
    return (
        f"The first held-out synthetic image in the integer simulator, which answers {answer}; "
        f"the ANN answers {ann}.{shown}"
    )


def _class_name(report: Report, index: int) -> str:
    names = (report.get("confusion_matrix") or {}).get("labels") or ()
    return str(names[index]) if index < len(names) else str(index)


def raster_note(layer: Mapping[str, Any], timesteps: int) -> str:
    """What the drawing of a layer's spikes shows."""
    neurons, shown = layer["neurons"], len(layer["rows"])
    some = f"{count(shown)} of {count(neurons)}" if shown < neurons else count(neurons)
    return (
        f"{some} neurons downwards, {timesteps} steps to the right; "
        f"{count(layer['spikes'])} spikes in all."
    )


CAUSES = {
    "never_active_in_ann": "never active in the ANN either",
    "too_few_steps": "too weak for T",
    "threshold_too_high": "threshold too high",
    "always_active_in_ann": "as the ANN wants it",
    "fires_more_than_ann": "more than the ANN wants",
}


def _causes(found: Mapping[str, int] | None) -> str:
    """The likely causes of silent or saturated neurons, in brackets."""
    parts = [f"{count(n)} {CAUSES[cause]}" for cause, n in (found or {}).items() if n]
    return f" ({', '.join(parts)})" if parts else ""


def _sum(found: Mapping[str, Any], key: str) -> float | None:
    value = found.get(key)
    return sum(value.values()) if isinstance(value, Mapping) else value
