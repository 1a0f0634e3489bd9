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
        docs = ROOT / "docs"
        paths = sorted(docs.rglob("*.md"))
        names = [str(path.relative_to(docs)) for path in paths]
        metafunc.parametrize("document", paths, ids=names)
