"""report.json and report.html: contract, escaping, nothing loaded, nothing half-written."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from compiler import report as module
from compiler.quantities import energy_delay, latency
from compiler.report import write_report_html, write_report_json

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects section ids and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag == "section":
            self.sections.append(dict(attrs)["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.text += " " + data


def written(report, folder) -> str:
    path = folder / "report.html"
    write_report_html(report, path)
    return path.read_text(encoding="utf-8")


def test_json_keeps_every_field(report, tmp_path):
    path = tmp_path / "report.json"
    write_report_json(report, path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(report))
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_json_has_no_nan_and_no_numpy(tmp_path):
    path = tmp_path / "report.json"
    report = {"a": np.float32(0.5), "b": np.arange(3), "c": float("nan"), "d": np.inf, "e": path}
    write_report_json(report, path)
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert read == {"a": 0.5, "b": [0, 1, 2], "c": None, "d": None, "e": str(path)}


def test_an_old_report_survives_a_failure(report, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(module.Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report_html(report, path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_page_is_well_formed_and_complete(complete, tmp_path):
    page = Page(written(complete, tmp_path))
    assert page.sections == [
        "accuracy",
        "timestep-choice",
        "timesteps",
        "agreement",
        "privacy",
        "leakage",
        "operations",
        "raster",
        "confusion",
        "energy",
        "latency",
        "cores-loihi1",
        "cores-loihi2",
        "timing",
        "files",
        "provenance",
    ]


def test_optional_sections_need_their_keys(report, tmp_path):
    page = Page(written(report, tmp_path))
    assert not {"timesteps", "timestep-choice", "leakage", "raster", "confusion"} & set(
        page.sections
    )


def test_page_loads_nothing_and_runs_nothing(complete, tmp_path):
    text = written(complete, tmp_path)
    assert "<script" not in text
    assert not re.search(r"""(src|href|action)\s*=|@import|url\(""", text)
    assert "default-src 'none'" in text


def test_everything_is_escaped(report, tmp_path):
    evil = "<script>alert('x')</script>"
    report["model"]["name"] = evil
    report["command"] = evil
    report["warnings"] = [evil]
    report["layers"][1]["name"] = evil
    for chip in report["resources"]:
        chip["core_map"][0]["layer"] = evil
        chip["layers"][0]["name"] = evil
    report["files"][0]["path"] = evil
    text = written(report, tmp_path)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 6
    Page(text)


def test_numbers_of_the_report_are_on_the_page(report, tmp_path):
    text = " ".join(Page(written(report, tmp_path)).text.split())
    for words in ("91.4 %", "90.9 %", "16.2 %", "5,123,004", "whoever has the file", "6 min 53 s"):
        assert words in text
    for chip in report["resources"]:
        assert f"{chip['cores']} of {chip['limits']['cores']['value']} cores" in text
    for line in report["energy_sources"]:
        assert line["condition"] in text
    assert "2.24 GiB" in text
    assert report["hashes"]["sha256 of model.net"] in text


def test_the_latency_is_on_the_page_with_its_parts_and_sources(report, tmp_path):
    text = " ".join(Page(written(report, tmp_path)).text.split())
    row = report["latency"][0]
    for words in (
        latency(row["seconds"]),
        latency(row["seconds_least"]),
        energy_delay(row["energy_delay_product"]),
        "synaptic operations Loihi 1 (Davies et al. 2018)",
        "barrier Loihi 1 (Davies et al. 2018)",
        f"{row['note']}; mean over 2 images. Source: M. Davies",
    ):
        assert words in text
    del report["latency"]
    assert "latency" not in Page(written(report, tmp_path)).sections


def test_how_t_was_chosen_is_drawn_and_said(complete, tmp_path):
    text = written(complete, tmp_path)
    page = " ".join(Page(text).text.split())
    assert "T = 32 was chosen: the smallest of 8, 16, 32, 64 whose agreement" in page
    assert "at most 2 points below the best of them (97.5 %)" in page
    assert "32, chosen 96.1 % 91.1 % 99 32,000,000" in page
    assert text.count('class="ring"') == 1
    assert "<title>loihi1, chip, 16: 480 µJ</title>" in text


def test_without_labels_the_curve_is_the_agreement(complete, tmp_path):
    report = copy.deepcopy(complete)
    for row in report["accuracy_by_timestep"]:
        row["accuracy"] = None
    for stage in report["stages"]:
        stage["accuracy"] = None
    text = written(report, tmp_path)
    assert "<title>16: 94.3%</title>" in text
    assert "Agreement with the ANN, since there are no labels" in text


def test_operations_step_by_step_are_drawn(complete, tmp_path):
    text = written(complete, tmp_path)
    assert "Synaptic operations on the chip, step by step" in text
    assert '<polygon class="s1 faint"' in text
    report = copy.deepcopy(complete)
    report["operations_by_step"] = []
    assert "step by step" not in written(report, tmp_path)


def test_missing_numbers_say_why(unlabelled, tmp_path):
    text = " ".join(Page(written(unlabelled, tmp_path)).text.split())
    assert "Accuracy not measured: no labelled images were given; --eval DATA measures it" in text
    assert "the weights answer as the ANN on 95.1 % of the images: whoever has the file" in text
    assert "held-out synthetic images" in text
    assert "None" not in text


def test_an_empty_report_still_makes_a_page(tmp_path):
    assert Page(written({}, tmp_path)).sections == ["provenance"]


def test_one_square_a_core_and_none_for_a_crowd(report, tmp_path):
    text = written(report, tmp_path)
    cores = sum(chip["cores"] for chip in report["resources"])
    assert text.count("<title>core ") == cores
    use = report["resources"][0]["core_map"][0]
    report["resources"][0]["core_map"] = [use] * 2000
    text = written(report, tmp_path)
    assert text.count("<title>core ") == report["resources"][1]["cores"]


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63600000000200015d0b2a840000000049454e44ae426082"
)


def test_one_sample_is_followed_through_the_layers(complete, tmp_path):
    text = " ".join(Page(written(complete, tmp_path)).text.split())
    assert "in the integer simulator, which answers sneaker; the ANN answers boot." in text
    assert "64 of 128 neurons downwards, 32 steps to the right" in text
    assert "left out, since they are the image itself" in text


def test_images_and_input_spikes_are_shown_where_they_were_asked_for(complete, tmp_path):
    assert "data:image" not in written(complete, tmp_path)
    report = copy.deepcopy(complete)
    layer = {"layer": "input", "neurons": 2, "spikes": 3, "rows": ["110", "100"]}
    report["shown_pictures"] = {"input": layer, "sheet": PIXEL}
    text = written(report, tmp_path)
    assert "3 spikes of 2 neurons in 3 steps" in text
    assert text.count("data:image/png;base64,") == 1
    assert "must not leave the house" in text
    assert "left out" not in text


def test_a_confusion_matrix_of_many_classes_is_drawn(complete, tmp_path):
    report = copy.deepcopy(complete)
    counts = (np.eye(40, dtype=int) * 9).tolist()
    counts[3][5], counts[7][1] = 4, 2
    report["confusion_matrix"] = {"labels": [f"class {k}" for k in range(40)], "counts": counts}
    text = written(report, tmp_path)
    words = " ".join(Page(text).text.split())
    assert "confusion matrix of 40 classes" in text
    assert "times class 3 class 5 4 class 7 class 1 2" in words
