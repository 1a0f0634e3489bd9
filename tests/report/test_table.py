"""The table in the terminal: complete, 100 columns, plain where it must be, never flattering."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from compiler.quantities import latency
from compiler.report import render_table
from compiler.report_parts.words import broken_rules


def printed(report, **options) -> str:
    out = io.StringIO()
    render_table(report, Console(file=out, width=100, **options))
    return out.getvalue()


def flat(text: str) -> str:
    """One line, so that wrapping does not hide a sentence."""
    return " ".join(text.split())


def test_every_section_is_there_and_fits_100_columns(report):
    text = printed(report)
    for title in (
        "Accuracy",
        "Every spike compared",
        "Operations a sample",
        "Dynamic energy an inference",
        "Latency an inference",
        "Cores",
        "What the weights give away",
        "Health",
        "Files",
    ):
        assert f"\n{title}\n" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_a_narrow_terminal_is_respected(report):
    out = io.StringIO()
    render_table(report, Console(file=out, width=72))
    assert max(len(line) for line in out.getvalue().splitlines()) <= 72


def test_plain_without_a_terminal_and_with_no_color(report, monkeypatch):
    assert "\x1b" not in printed(report)
    monkeypatch.setenv("NO_COLOR", "1")
    coloured = printed(report, force_terminal=True)
    assert "\x1b[36m" not in coloured and "\x1b[1;36m" not in coloured
    monkeypatch.delenv("NO_COLOR")
    assert "36m" in printed(report, force_terminal=True, color_system="standard")


def test_stages_agreement_and_cores_are_shown(report):
    text = printed(report)
    assert "91.4 %" in text and "90.7 %" in text and "87.5 %" in text
    assert "5,123,004" in text
    for chip in report["resources"]:
        line = next(row for row in text.splitlines() if row.strip().startswith(chip["title"]))
        assert str(chip["cores"]) in line.split()


def test_energy_is_shown_with_and_without_the_input_layer_and_says_when_it_is_more(report):
    text = flat(printed(report))
    assert "loihi1-davies-2018, chip float32" in text
    assert "x more" in text
    assert "w/o input layer" in text
    assert "PrivateSNN claims 55 to 60 times" in text
    assert "0.085 to 0.093 spikes a neuron" in text


def test_latency_says_steps_bounds_and_what_is_left_out(report):
    text = flat(printed(report))
    row = report["latency"][0]
    assert row["time_steps"] == 36
    assert f"{latency(row['seconds'])} {latency(row['seconds_least'])} 36" in text
    assert "no host, no input onto the chip" in text and "mean over 2 images" in text
    assert "hypothetical, since the network breaks a rule of Loihi 1" in text  # fc1: 6272 inputs
    for row in report["latency"]:
        row["seconds"] = None
    assert "Latency" not in printed(report)


def test_the_honest_figures_are_not_flattered(report):
    text = flat(printed(report))
    assert "plain ReLU 90.9 %" in text
    assert "whoever has the file has the ANN's function" in text
    report["encryption"]["reconverted"] = {"relu": 0.5, "clipped_relu": 0.3}
    assert "part of the ANN's function can be read out" in flat(printed(report))
    report["encryption"]["reconverted"] = {"relu": 0.11, "clipped_relu": 0.09}
    assert "audit.leakage tries stronger ones" in flat(printed(report))


def test_without_labels_the_agreement_of_the_weights_stands_in(unlabelled):
    assert "the weights answer as the ANN on 95.1 % of the images: whoever has the file" in flat(
        printed(unlabelled)
    )
    unlabelled["encryption"]["reconverted"]["ann_agreement"] = {"relu": 0.1, "clipped_relu": 0.08}
    assert "this simple attack gains nothing" in flat(printed(unlabelled))


def test_what_was_compared_is_said_pair_by_pair(report):
    text = flat(printed(report))
    assert (
        "the same in SLAYER and the integer simulator over 64 samples, and in the integer "
        "simulator and Lava over 8 samples" in text
    )
    assert "held-out synthetic images: every spike of every layer" in text
    report["agreement"]["reference_vs_lava"] = None
    text = flat(printed(report))
    assert "Not compared: the integer simulator and Lava." in text
    assert "obfuscation, not cryptography" in text


def test_layers_named_by_a_number_read_as_layers(report):
    report["health"]["silent"] = {"0": 3, "fc1": 1}
    report["encryption"]["weight_change"] = {"0": 0.02, "fc1": 0.5}
    text = flat(printed(report))
    assert "3 in layer 0, 1 in fc1" in text
    assert "layer 0 2.0 % fc1 50.0 %" in text


def test_silent_neurons_are_said_with_their_likely_cause(report):
    report["health"]["silent_causes"] = {
        "conv1": {"never_active_in_ann": 1500, "too_few_steps": 68, "threshold_too_high": 0},
    }
    text = flat(printed(report))
    assert "1,568 in conv1 (1,500 never active in the ANN either, 68 too weak for T)" in text
    assert "12 in conv2" in text


def test_a_warning_is_printed_once(report):
    note = "no labelled images were given"
    report["evaluation"]["note"] = note
    broken = {"severity": "hard", "layer": "fc1", "found": "a", "allowed": "b", "remedy": "c"}
    report["resources"][0]["violations"] = [broken]
    report["warnings"] = [
        *broken_rules({"resources": [report["resources"][0]]}),
        f"accuracy not measured: {note}",
        "something else",
    ]
    text = flat(printed(report))
    assert text.count("fc1 has a; allowed: b. What to do: c.") == 1
    assert "warning: something else" in text
    assert "warning: accuracy not measured" not in text


def test_a_better_result_than_the_ann_reads_right(report):
    report["stages"][3]["accuracy"] = 0.924
    assert "1.0 points more than the ANN" in flat(printed(report))


def test_the_same_result_as_the_ann_reads_right(report):
    report["stages"][3]["accuracy"] = report["stages"][0]["accuracy"]
    assert "right at T = 32, as many as the ANN (91.4 %)" in flat(printed(report))


def test_names_stay_whole_in_80_columns(report):
    out = io.StringIO()
    render_table(report, Console(file=out, width=80))
    for name in ("loihi1-davies-2018,", "45nm-arithmetic,", "report.html", "held-out", "1,492,992"):
        assert name in out.getvalue().replace("\n", " ").split()
    assert "in runs/fashion-mnist" in out.getvalue()


def test_a_disagreement_is_said_first_hand(report):
    report["agreement"]["reference_vs_lava"]["mismatches"] = 3
    text = flat(printed(report))
    assert "disagree on 3 spikes" in text
    assert "agree on every spike" not in text


def test_which_file_may_leave(report):
    rows = [row for row in printed(report).splitlines() if "the house" in row]
    assert ["model.net" in row for row in rows if "may leave" in row] == [True]
    assert len(rows) == 3


def test_without_labels_nothing_is_made_up(unlabelled):
    text = flat(printed(unlabelled))
    assert "not measured" in text
    assert "no labelled images were given" in text
    assert "held-out synthetic images" in text
    assert "agrees with the ANN on 96.7 %" in text
    assert "not compared" in text
    assert "None" not in text and "nan" not in text


def test_saturations_by_layer_are_summed(report):
    report["health"]["voltage_saturations"] = {"conv1": 2, "fc1": 5}
    assert "clips of a voltage (must be 0): 7" in flat(printed(report))


@pytest.mark.parametrize("key", ["stages", "layers", "energy", "resources", "encryption", "files"])
def test_a_report_cut_short_still_prints(report, key):
    del report[key]
    assert printed(report)


def test_an_empty_report_prints():
    assert "did not reach the chip's integers" in printed({})
