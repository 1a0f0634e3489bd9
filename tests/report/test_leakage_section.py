"""The audit's section of the page."""

from __future__ import annotations

import copy

from compiler.report import write_report_html
from compiler.report_parts import charts, leakage


def page(report, folder) -> str:
    write_report_html(report, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_quote_and_every_attack_are_on_the_page(complete, tmp_path):
    text = page(complete, tmp_path)
    for words in (
        "worst attack (deep)",
        "79.0 %",
        "11.0 % (floor)",
        "93.0 % (ceiling)",
        leakage.NO_GUARANTEE,
        "a difference of +9.0 points",
        "too few",
        "599 test images show no false-positive rate",
        "1.50 x",
    ):
        assert words in text
    for title, columns, rows, _ in leakage.tables(complete["leakage"]):
        assert title in text
        assert all(len(row) == len(columns) for row in rows)


def test_every_rate_is_drawn_with_its_interval(complete):
    drawing = charts.rate_dots(
        [("deep", {"ann": {"value": 0.5, "low": 0.25, "high": 1.0}})], ("ann", "random")
    )
    assert "<title>ann: 50.0% (25.0% to 100.0%)</title>" in drawing
    assert 'cx="242.0"' in drawing
    assert 'x="194.0"' in drawing
    assert 'width="144.0"' in drawing


def test_pictures_are_shown_only_where_they_are_given(complete, tmp_path):
    assert "<img" not in page(complete, tmp_path)
    shown = copy.deepcopy(complete)
    shown["leakage"]["sheets"] = {"deep": b"\x89PNG"}
    assert 'src="data:image/png;base64,iVBORw=="' in page(shown, tmp_path)


def test_names_from_the_audit_are_escaped(complete, tmp_path):
    evil = "<script>alert('x')</script>"
    report = copy.deepcopy(complete)
    audit = report["leakage"]
    audit["data"]["spec"] = evil
    audit["notes"] = [evil]
    for entry in audit["subjects"].values():
        for images in entry["attacks"].values():
            images["classes"][evil] = images["classes"].pop("boot")
    text = page(report, tmp_path)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 3
