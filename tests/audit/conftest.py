"""A finished compile of `digits` that took seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compiler.export import run as export

SETTINGS = """
[synthesize]
count = 128
held_out = 48
steps = 10
batch = 64
[convert]
timesteps = 32
images = 80
percentiles = [99.9]
threshold_scales = [1.0]
[encrypt]
epochs = 1
batch = 20
"""


@pytest.fixture(scope="session")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of a compile of `digits` with settings for seconds."""
    settings = tmp_path_factory.mktemp("settings") / "few.toml"
    settings.write_text(SETTINGS)
    return ["--config", str(settings), "--lava-samples", "0", "--samples", "20", "--quiet"]


@pytest.fixture(scope="session")
def compiled(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    folder = tmp_path_factory.mktemp("audit") / "run"
    assert export([*arguments, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run_dir(compiled: Path, tmp_path: Path) -> Path:
    """A copy, to spoil."""
    shutil.copytree(compiled, tmp_path / "run")
    return tmp_path / "run"
