"""Memory: what glibc is asked to keep, and whose peak is told."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from compiler import allocator
from compiler.allocator import keep_freed_memory

MMAP, TRIM = -3, -1
MB = 1 << 20


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Calls of a mallopt that takes everything, in an environment that says nothing."""
    for name in ("GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return pretend(monkeypatch, most=1 << 40)


def pretend(monkeypatch: pytest.MonkeyPatch, most: int) -> list[tuple[int, int]]:
    """A C library that refuses a mapping threshold above `most`."""
    calls: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return int(parameter != MMAP or value <= most)

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: library)
    return calls


def test_freed_memory_is_kept(asked: list[tuple[int, int]]) -> None:
    keep_freed_memory()
    assert asked == [(MMAP, 1024 * MB), (TRIM, 1024 * MB)]


def test_an_older_library_is_asked_for_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pretend(monkeypatch, most=32 * MB)
    keep_freed_memory()
    assert calls == [(MMAP, 1024 * MB), (MMAP, 32 * MB), (TRIM, 1024 * MB)]


def test_a_library_that_refuses_both_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own threshold would else be fixed where it starts, at 128 kB."""
    calls = pretend(monkeypatch, most=MB)
    keep_freed_memory()
    assert TRIM not in [parameter for parameter, _ in calls]


@pytest.mark.parametrize(
    "variable", [("MALLOC_ARENA_MAX", "2"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")]
)
def test_the_environment_goes_over_it(
    asked: list[tuple[int, int]], variable: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable)
    keep_freed_memory()
    assert asked == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is getrusage alone")
def test_the_peak_is_that_of_the_process_alone() -> None:
    """A child of a process that holds 600 MB does not need as much itself."""
    held = bytearray(600 * MB)
    held[:: 4 << 10] = bytes(len(held[:: 4 << 10]))
    code = "from compiler.steps import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert MB < int(done.stdout) < 500 * MB
