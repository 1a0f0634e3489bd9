"""The recipes of docs/api.md run as they stand there, with quick settings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
RECIPES = dict(re.findall(r"^### (.+?)\n\n```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


def test_there_are_three() -> None:
    assert len(RECIPES) == TEXT.count("```python") == 3


@pytest.fixture
def cook(
    quickly: Any,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Run the recipe whose title begins so, in an empty folder; return what it printed."""
    shutil.copy(onnx_file, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)

    def run_it(start: str) -> tuple[list[str], Path]:
        (code,) = [recipe for title, recipe in RECIPES.items() if title.startswith(start)]
        exec(compile(code, f"docs/api.md: {start}", "exec"), {"__name__": "recipe"})
        return capsys.readouterr().out.splitlines(), tmp_path

    return run_it


def test_from_a_torch_module(cook: Any) -> None:
    lines, folder = cook("From a torch module")
    assert lines[0] == "runs/mine/model.net" and (folder / lines[0]).is_file()
    assert re.fullmatch(r"0\.\d+ -> 0\.\d+", lines[1])
    assert [line.split()[1] for line in lines[2:]] == ["input", "conv", "dense"]


def test_latency_against_accuracy(cook: Any) -> None:
    lines, folder = cook("Latency")
    rows = [[float(cell) for cell in line.split()] for line in lines]
    assert [row[0] for row in rows] == [8, 16]
    assert rows[0][2] < rows[1][2]  # more steps take longer
    assert (folder / "runs" / "digits-8" / "model.net").is_file()


def test_refusals_progress_and_the_page(cook: Any) -> None:
    lines, folder = cook("Refusals")
    assert lines[0].startswith("convert.timesteps 12 ")
    assert any(line.startswith("4/10 convert ") for line in lines)
    assert "accuracy not measured" in lines[-1]
    assert (folder / "mine.html").read_text().startswith("<!")
