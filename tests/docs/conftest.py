"""The documents."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let `document` stand for every document in turn."""
    if "document" in metafunc.fixturenames:
        paths = sorted((ROOT / "docs").glob("*.md"))
        metafunc.parametrize("document", paths, ids=[path.name for path in paths])
