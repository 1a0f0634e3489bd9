"""Compile kernels with the machine's C++ compiler, once for each user and kind of machine.

The library lies in the user's cache folder under a name made of everything that it depends on:
the source with the headers beside it, the flags, the compiler's version and the processor. It is
written under a temporary name and then renamed, so that programs that start together do not
disturb each other.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kernel.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-std=c++17", "-shared", "-fPIC", "-pthread")
"""No contraction: a fused multiplication and addition would round otherwise than two steps."""

ENGINE_VARIABLE = "PRIVATE_SNN_ENGINE"
"""Environment variable: `numba` keeps the compiler from being looked for."""

CACHE_NAME = "private-snn-compiler"
_COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 120


class NoKernel(Exception):
    """The kernel cannot be had on this machine; the text says why."""


def load_kernel(source: Path | None = None, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The compiled kernel, or another source compiled with `flags`; raises NoKernel."""
    if os.environ.get(ENGINE_VARIABLE) == "numba":
        raise NoKernel(f"{ENGINE_VARIABLE} asks for numba")
    found = _attempt(os.environ.get("CXX", ""), source or SOURCE, flags or FLAGS)
    if isinstance(found, str):
        raise NoKernel(found)
    return found


@lru_cache(maxsize=8)
def _attempt(command: str, source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | str:
    """The kernel, or why there is none; once for each process."""
    try:
        compiler = find_compiler(command)
        path = cache_folder() / f"{source.stem}-{_key(compiler, source, flags)}.so"
        if not path.exists():
            _run_compiler(compiler, source, flags, path)
        return ctypes.CDLL(str(path))
    except (NoKernel, OSError) as trouble:
        return str(trouble)


def find_compiler(command: str = "") -> tuple[str, ...]:
    """The command of CXX, or the first C++ compiler on the path; raises NoKernel."""
    given = shlex.split(command)
    for name in given[:1] or _COMPILERS:
        path = shutil.which(name)
        if path:
            return (path, *given[1:])
    raise NoKernel(f"no C++ compiler ({' '.join(given) or ', '.join(_COMPILERS)}) on the path")


def cache_folder() -> Path:
    """Folder of this user alone for compiled code; raises NoKernel."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / CACHE_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise NoKernel(f"{folder} belongs to another user")
    except OSError as error:
        raise NoKernel(f"no cache folder: {error}") from error
    return folder


def _key(compiler: tuple[str, ...], source: Path, flags: tuple[str, ...]) -> str:
    texts = [file.read_text() for file in (source, *sorted(source.parent.glob("*.hpp")))]
    parts = [*texts, *flags, *compiler, _run([*compiler, "--version"]), _processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _processor() -> str:
    """Model and instruction sets, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    kinds = ("model name", "flags", "Features")
    told = {line.partition("\t")[0]: line for line in lines if line.startswith(kinds)}
    return "\n".join([platform.machine(), platform.processor(), *told.values()])


def _run_compiler(
    compiler: tuple[str, ...], source: Path, flags: tuple[str, ...], path: Path
) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="compiling-") as folder:
        made = Path(folder) / path.name
        _run([*compiler, *flags, "-o", str(made), str(source)])
        made.replace(path)


def _run(command: list[str]) -> str:
    """Output of a command of the compiler; raises NoKernel with its last line where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernel(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise NoKernel(f"{command[0]}: {lines[-1] if lines else f'status {done.returncode}'}")
    return done.stdout
