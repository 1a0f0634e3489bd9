"""What a command does to the C library's memory: freed arrays are used again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PAGES_OF_TEN_ARRAYS = """
import resource

import click
import numpy as np

from compiler.commandline import run_command


@click.command()
def command():
    np.ones(1 << 23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(1 << 23)
    click.echo(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


run_command(command, "command", [])
"""


def _pages(**variables: str) -> int:
    environment = {name: text for name, text in os.environ.items() if "MALLOC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PAGES_OF_TEN_ARRAYS],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_arrays_are_used_again_unless_the_environment_says_otherwise() -> None:
    given_back = _pages(MALLOC_TRIM_THRESHOLD_="100000")
    assert given_back > 100  # huge pages, where the system gives them
    assert _pages() < given_back / 10
