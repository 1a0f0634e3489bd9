"""The documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as continuous integration builds it."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let `document` stand for every document in turn."""
    if "document" in metafunc.fixturenames:
        docs = ROOT / "docs"
        paths = sorted(docs.rglob("*.md"))
        names = [str(path.relative_to(docs)) for path in paths]
        metafunc.parametrize("document", paths, ids=names)
