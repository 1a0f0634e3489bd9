"""An interrupt has its own exit status wherever it comes; whoever reads the output may leave."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
import click
from compiler.commandline import run_command

@click.command()
def interrupted():
    exec("os.kill(os.getpid(), signal.{name}); time.sleep(10)")

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(run_command(interrupted, "tests", []))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_inside_code_made_from_a_string(name: str, tmp_path: Path) -> None:
    """Python would end itself by SIGINT after a plain KeyboardInterrupt there."""
    (tmp_path / "interrupted.py").write_text(SCRIPT.format(name=name))
    found = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 130
    assert found.stderr.strip() == "interrupted"


CHATTY = """
import sys
import click
from compiler.commandline import run_command

@click.command()
def chatty():
    for number in range(100_000):
        click.echo(number)

sys.exit(run_command(chatty, "tests", []))
"""

PIPED = '"$0" -c "$1" | head -c 10; echo "${PIPESTATUS[0]}"'


def test_a_reader_of_the_output_may_leave() -> None:
    found = subprocess.run(
        [
            "bash",
            "-c",
            '"$0" -c "$1" | head -c 10; echo "${PIPESTATUS[0]}"',
            sys.executable,
            CHATTY,
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout.split() == ["0", "1", "2", "3", "4", "1"] and found.stderr == ""
