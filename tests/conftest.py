"""Settings of every test."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import settings

# The tensors of the tests are so small that a second thread only waits for the first: with two
# threads, and anything else at work on the machine, some tests take ten times as long. Numba
# sets the threads of OpenMP, and with them torch's, to its own number at its first loop.
for _library in ("OMP", "NUMBA"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

MOST_PROCESSES = 4

# a slow example means a busy machine
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share the whole quick suite among processes, one a core; `-n 0` keeps it in one.

    Tests that were named, or `-m slow`, stay in one process unless `-n` asks for more.
    """
    options = config.option
    if "PYTEST_XDIST_WORKER" in os.environ or not config.pluginmanager.hasplugin("xdist"):
        return  # a process that was given a share starts no others
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if options.numprocesses is None and whole and options.markexpr == "not slow":
        cores = min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
        options.numprocesses = cores if cores > 1 and not options.usepdb else 0
    if options.numprocesses and options.dist == "no":
        options.dist = "loadscope"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a folder's tests in one process: they share compiled networks and runs of Lava."""
    if config.option.dist != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.partition("::")[0].rpartition("/")[0]

    config.option.loadscopereorder = False
    return ByFolder(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Keep bytecode for the many processes that tests start, also where Python writes none.

    Containers often set PYTHONDONTWRITEBYTECODE, and uv installs packages without bytecode:
    every import of torch and Lava then compiles thousands of files, for six seconds each time.
    """
    if sys.dont_write_bytecode:
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(config.cache.mkdir("bytecode"))
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        os.environ["PYTHONDONTWRITEBYTECODE"] = ""
