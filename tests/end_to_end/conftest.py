"""The whole command on the preset `digits`, with so few images that it takes seconds."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = """
[synthesize]
count = 64
held_out = 24
steps = 4
batch = 64
[convert]
timesteps = 16
images = 32
percentiles = [99.0, 99.9]
threshold_scales = [1.0]
[encrypt]
epochs = 2
batch = 20
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str


Compile = Callable[..., Outcome]


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "few.toml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="session")
def command(settings: Path) -> list[str]:
    """Arguments of a quick compile; the first Lava run is left to those who test it."""
    return ["--config", str(settings), "--lava-samples", "0"]


@pytest.fixture(scope="session")
def export() -> Compile:
    """Run the command line in this process."""

    def run_it(*arguments: object) -> Outcome:
        from compiler.export import run

        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = run([str(argument) for argument in arguments])
        return Outcome(status, out.getvalue(), err.getvalue())

    return run_it


def _hear_interrupts() -> None:
    """A shell that runs the tests in the background has them, and so their children, ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start the command line, or other Python, in a process of its own."""

    def start_it(*arguments: object, **more: object) -> subprocess.Popen[str]:
        environment = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONPATH=str(ROOT))
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=_hear_interrupts, **more,
        )  # type: ignore[call-overload,no-any-return] # fmt: skip

    return start_it


@pytest.fixture(scope="session")
def whole_run(
    tmp_path_factory: pytest.TempPathFactory, export: Compile, command: list[str]
) -> tuple[Path, Outcome]:
    """A finished compile with evaluation on 20 real digits and two samples in Lava."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = export(
        *command, "--out", folder, "--eval", "digits", "--samples", 20, "--lava-samples", 2
    )
    return folder, outcome


@pytest.fixture
def finished(whole_run: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the finished compile, to spoil."""
    assert whole_run[1].status == 0, whole_run[1].err
    shutil.copytree(whole_run[0], tmp_path / "run")
    return tmp_path / "run"
