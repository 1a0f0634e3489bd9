"""The compiled kernel: one file for each machine, and what happens without a compiler."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from compiler.chip.engine import build
from compiler.chip.engine.run import engine
from compiler.ir.chip import ChipGraph
from compiler.ir.snn import Encoding
from netx_export import read_netx
from sim.reference import simulate

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(build.ENGINE_VARIABLE, raising=False)
    build._attempt.cache_clear()
    yield
    build._attempt.cache_clear()


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / build.CACHE_NAME


@pytest.fixture(scope="module")
def digits() -> ChipGraph:
    return read_netx(ROOT / "tests" / "golden" / "digits.net").graph


def _same(graph: ChipGraph, encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).random((20, *graph.input_shape)).astype(np.float32)
    runs = []
    for name in ("c++", "numba"):
        with monkeypatch.context() as patch:
            if name == "numba":
                patch.setenv(build.ENGINE_VARIABLE, "numba")
            runs.append(simulate(graph, images, encoding=encoding))
    one, two = runs
    assert (one.engine, two.engine) == ("c++", "numba")
    np.testing.assert_array_equal(one.logits_nk, two.logits_nk)
    np.testing.assert_array_equal(one.input_chw, two.input_chw)
    np.testing.assert_array_equal(one.input_nt, two.input_nt)
    for a, b in zip(one.layers, two.layers, strict=True):
        np.testing.assert_array_equal(a.spikes_chw, b.spikes_chw)
        np.testing.assert_array_equal(a.spikes_nt, b.spikes_nt)
        assert a.saturations == b.saturations


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding("poisson", 3), Encoding("latency", 0, 0.1)]
)
def test_without_a_compiler_the_answers_are_the_same(
    digits: ChipGraph, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    _need_a_compiler()
    _same(digits, encoding, monkeypatch)


def _need_a_compiler() -> None:
    if engine().name != "c++":
        pytest.skip(engine().reason)


def test_no_compiler_on_the_path(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.delenv("CXX", raising=False)
    found = engine()
    assert found.name == "numba" and "no C++ compiler" in found.reason


def test_a_compiler_that_fails(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    found = engine()
    assert found.name == "numba" and "false" in found.reason
    assert not list(cache.glob("*"))


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = engine()
    assert found.name == "numba" and "cache folder" in found.reason


def test_the_library_is_made_once_and_for_this_user(cache: Path) -> None:
    if engine().name != "c++":
        pytest.skip(engine().reason)
    (library,) = cache.glob("*")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    before = library.stat().st_mtime_ns
    build._attempt.cache_clear()
    assert engine().name == "c++"
    assert library.stat().st_mtime_ns == before


def test_other_flags_another_library() -> None:
    name = build._key(("cat",), build.SOURCE, build.FLAGS)
    assert build._key(("cat",), build.SOURCE, (*build.FLAGS, "-O0")) != name


def test_another_header_another_library(tmp_path: Path) -> None:
    source = tmp_path / "kernel.cpp"
    source.write_text('#include "part.hpp"')
    (tmp_path / "part.hpp").write_text("// one")
    name = build._key(("cat",), source, ())
    (tmp_path / "part.hpp").write_text("// two")
    assert build._key(("cat",), source, ()) != name


def test_programs_that_start_together(cache: Path) -> None:
    code = "from compiler.chip.engine.run import engine; print(engine().name)"
    command = [sys.executable, "-c", code]
    both = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    found = [child.communicate(timeout=120)[0].strip() for child in both]
    if found == ["numba", "numba"]:
        pytest.skip("no C++ compiler here")
    assert found == ["c++", "c++"]
    assert len(list(cache.glob("*"))) == 1


def test_the_kernel_is_data_of_the_package() -> None:
    """It lies beside the module that reads it, inside a package that the wheel holds whole."""
    assert build.SOURCE.is_file()
    assert build.SOURCE.parent == Path(build.__file__).parent
