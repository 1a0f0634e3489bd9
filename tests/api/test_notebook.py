"""The notebook runs from its first cell to its last, and what is kept in it came from a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "onnx_to_report.ipynb"
QUICKLY = """
import compiler

_whole = compiler.compile_model


def _quickly(*arguments, **settings):
    return _whole(*arguments, **{**settings, "config": QUICK, "samples": 30, "lava_samples": 0})


compiler.compile_model = _quickly
"""


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cells: list[Any]) -> str:
    return "".join(out.text for cell in cells for out in cell.outputs if out.get("text"))


@pytest.fixture(scope="module")
def executed(quick: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The notebook after a run with quick settings, and the folder that it ran in."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    before = nbformat.v4.new_code_cell(f"QUICK = {quick!r}\n{QUICKLY}")
    notebook.cells.insert(0, before)
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return notebook, folder


def test_every_cell_runs(executed: tuple[Any, Path]) -> None:
    notebook, folder = executed
    run = folder / "runs" / "onnx-digits"
    assert (run / "model.net").is_file() and (run / "report.html").is_file()
    text = printed(code_cells(notebook))
    for words in (
        "10/10 report",
        "integer ",
        "slayer_vs_reference",
        "0 different",
        "Loihi 2 takes",
    ):
        assert words in text
    pages = [out.data for out in code_cells(notebook)[-2].outputs if "data" in out]
    assert "<iframe" in pages[0]["text/html"]


def test_what_is_kept_in_it_came_from_one_whole_run() -> None:
    cells = code_cells(nbformat.read(NOTEBOOK, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    text = printed(cells)
    assert "reference_vs_lava" in text and text.count(" 0 different") == 2
    assert "10/10 report" in text
