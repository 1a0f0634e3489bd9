"""Drawings: lengths and places that can be worked out by hand."""

from __future__ import annotations

import re

import pytest

from compiler.quantities import count, factor, joules, percent, seconds, short_count
from compiler.report_parts import charts


def number(pattern: str, drawing: str) -> float:
    return float(re.findall(pattern, drawing)[0])


@pytest.mark.parametrize(("share", "width"), [(0.0, 0), (0.25, 25), (1.0, 100), (1.7, 100)])
def test_a_bar_is_as_long_as_its_share(share, width):
    assert number(r'class="s2" width="([\d.]+)"', charts.bar(share, 2)) == width


def test_a_gain_goes_right_and_a_loss_left_by_the_same_length():
    more = charts.gain_bar(1 / 10, 100)
    less = charts.gain_bar(10, 100)
    assert number(r'class="good" x="([\d.]+)"', less) == 50
    assert number(r'class="good" x="50.00" width="([\d.]+)"', less) == 25
    assert number(r'class="bad" x="([\d.]+)"', more) == 25
    assert number(r'class="bad" x="25.00" width="([\d.]+)"', more) == 25


def test_a_core_is_filled_by_its_fullest_resource():
    limits = {"neurons": {"value": 100}, "synaptic_words": {"value": 10}}
    core = {"core": 0, "layer": "a", "neurons": 20, "synaptic_words": 5}
    drawing = charts.core_map([core], limits)
    assert "50% full" in drawing
    assert number(r'y="6.00" width="12" height="([\d.]+)"', drawing) == 6


def test_points_of_a_line_lie_where_they_should():
    drawing = charts.line_plot([(4, 0.5), (8, 0.75), (16, 1.0)], "T", "accuracy", 0.75)
    assert 'points="44.0,160.0 197.0,85.0 350.0,10.0"' in drawing
    assert 'y1="85.0" y2="85.0"' in drawing


def test_a_single_point_is_drawn():
    assert "<circle" in charts.line_plot([(32, 0.9)], "T", "accuracy", None)


def test_both_axes_of_a_log_plot_are_logarithmic():
    drawing = charts.log_plot({"a": [(1, 1e-6), (10, 1e-4)], "b": [(10, 1e-5)]}, "T", "E", str)
    assert 'class="line l0" points="44.0,160.0 350.0,10.0"' in drawing
    assert 'class="line l1" points="350.0,85.0"' in drawing
    assert "<title>b, 10: 1e-05</title>" in drawing
    assert drawing.count('class="grid"') == 3


def test_a_band_goes_from_the_least_to_the_most():
    drawing = charts.band_plot({"a": ([5, 0], [2, 0], [10, 0])}, "step", "synops", short_count)
    assert 'points="44.0,10.0 350.0,160.0 350.0,160.0 44.0,130.0"' in drawing
    assert 'class="line l0" points="44.0,85.0 350.0,160.0"><title>a</title>' in drawing
    assert ">7.5</text>" in drawing


def test_the_chosen_point_has_a_ring():
    drawing = charts.line_plot([(4, 0.5), (8, 1.0)], "T", "agreement", None, chosen=8)
    assert 'class="ring" cx="350.0" cy="10.0"' in drawing


def test_a_raster_has_a_mark_a_spike():
    drawing = charts.raster(["1000", "0001", "0000"])
    assert drawing.count('class="ink"') == 2
    assert "2 spikes of 3 neurons in 4 steps" in drawing
    assert 'x="270.0" y="8.0"' in drawing


def test_a_raster_of_nothing():
    assert "0 spikes of 0 neurons" in charts.raster([])


def test_a_heat_map_shades_by_the_share_of_the_row():
    drawing = charts.heat_map([[3, 1], [0, 0]])
    assert drawing.count("<rect") == 3
    assert 'class="good" x="0.00" y="0.00" width="180.00" height="180.00" fill-opacity="0.75"' in (
        drawing
    )
    assert 'class="bad" x="180.00" y="0.00"' in drawing and 'fill-opacity="1.00"' in drawing


def test_words_of_numbers():
    assert percent(0.9094) == "90.9 %"
    assert [count(n) for n in (0, 12, 3.25, 0.0929, 1234567)] == [
        "0",
        "12",
        "3.25",
        "0.0929",
        "1,234,567",
    ]
    assert [short_count(n) for n in (0, 75, 1250, 3.4e6, 2e9)] == ["0", "75", "1.25k", "3.4M", "2G"]
    assert [joules(j) for j in (0.0, 3.2e-10, 9.996e-10, 1.094e-3)] == [
        "0 J",
        "320 pJ",
        "1000 pJ",
        "1.09 mJ",
    ]
    assert [factor(g) for g in (1.0, 2.345, 0.05, 1 / 311)] == [
        "1 x less",
        "2.35 x less",
        "20 x more",
        "311 x more",
    ]
    assert [seconds(s) for s in (0.44, 59.9, 413.0)] == ["0.4 s", "59.9 s", "6 min 53 s"]
    assert percent(None, "no data") == "not measured (no data)"
