"""The benchmarks run, and their JSON has the fields that other programs rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common import OtherWork, alternate, median_ratio, speedups

ROOT = Path(__file__).parents[2]
PEERS = {
    "simulator": {"lava", "slayer", "snntorch", "spikingjelly"},
    "training": {"slayer", "snntorch", "spikingjelly"},
}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/run.py", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


# Lava's start alone takes a quarter of a minute
SUBJECTS = [
    pytest.param(name, marks=[pytest.mark.slow] if "lava" in PEERS[name] else [])
    for name in sorted(PEERS)
]


@pytest.fixture(scope="module", params=SUBJECTS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Subject, what was printed, and the JSON, of one quick run."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    done = bench(request.param, "--quick", "--rounds", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    return request.param, done.stdout, json.loads(file.read_text())


def test_fields(written: Any) -> None:
    subject, _, figures = written
    assert figures["benchmark"] == subject and figures["quick"] is True
    assert figures["ours"] > 0 and figures["unit"]
    assert set(figures["peers"]) == set(figures["speedup"]) == PEERS[subject]
    assert figures["roofline_fraction"] > 0 and figures["roofline"]
    machine = figures["machine"]
    assert machine["processor"] and machine["cores"] >= 1 and machine["memory_bytes"] > 1e8
    assert machine["torch_threads"] >= 1 and machine["numba_threads"] >= 1
    assert machine["versions"]["lava-dl"] == "0.6.0"
    assert isinstance(figures["load"]["busy"], bool)


def test_a_peer_without_a_figure_is_said_to_be_missing(written: Any) -> None:
    _, printed, figures = written
    for name, value in figures["peers"].items():
        if value is None:
            assert figures["speedup"][name] is None
            assert any(note.startswith(f"{name}: ") for note in figures["notes"])
            assert "not measured" in printed
        else:
            assert figures["speedup"][name] == pytest.approx(figures["ours"] / value)


def test_what_is_quick_says_that_it_measures_nothing(written: Any) -> None:
    _, printed, figures = written
    assert any("no measurement" in note for note in figures["notes"])
    assert "no measurement" in printed


def test_wrong_usage() -> None:
    assert bench("speed").returncode == 2
    assert bench("training", "--json", "/nowhere/at/all.json").returncode == 1


def test_rounds_take_turns() -> None:
    called: list[str] = []
    seconds = alternate({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 3, 1)
    assert called == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert median_ratio([6.0, 2.0, 8.0], [2.0, 1.0, 1.0]) == {"median": 3, "low": 2, "high": 8}
    assert speedups(8.0, {"one": 2.0, "absent": None}) == {"one": 4.0, "absent": None}


def test_own_work_is_not_counted_as_that_of_others() -> None:
    watch = OtherWork()
    sum(range(3_000_000))
    share = watch.share()
    assert share is None or 0 <= share <= 1


def test_the_table_of_growth(tmp_path: Path) -> None:
    """A second call runs no point again."""
    file, table = tmp_path / "scale.json", tmp_path / "scale.md"
    command = [sys.executable, "benchmarks/scale.py", "--quick", "--only", "train"]
    command += ["--json", str(file), "--markdown", str(table)]
    for printed in (1, 0):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Point(") == printed
    (point,) = json.loads(file.read_text())["points"]
    assert point["seconds"] > 0 and point["memory_bytes"] > 1e8
    assert table.read_text().count("| digits-cnn |") == 1
