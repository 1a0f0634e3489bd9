"""Lava under supervision: crashes and hangs become one clear error, and nothing stays behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compiler.errors import EnvironmentProblem, NetxFormatError
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding
from sim.encoding import Drive
from sim.lava import simulate_lava


def _children() -> set[str]:
    """Command lines of what sim.lava started from here and still runs."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_text(errors="replace"))
    return {line for line in found if f"lava-child-of-{os.getpid()}-" in line}


@pytest.fixture
def long_kernel(make_conv: Callable[..., ChipLayer]) -> tuple[ChipGraph, Drive]:
    """Lava keeps kernel sizes in 8 bits, so that 128 rows become -128 and its process dies."""
    neuron = CubaFields(41)
    first = make_conv("fine", (1, 130, 2), frozen([[[[2]]]], np.int32), neuron=neuron)
    tall = frozen(np.full((1, 1, 128, 1), 2), np.int32)
    second = make_conv("too_tall", first.shape, tall, neuron=neuron)
    graph = ChipGraph("tall", (1, 130, 2), (first, second), 4, Encoding())
    return graph, Drive(4, spikes_tnchw=np.ones((4, 1, 1, 130, 2), np.uint8))


def test_a_crash_names_the_layer(long_kernel: tuple[ChipGraph, Drive]) -> None:
    with pytest.raises(EnvironmentProblem, match="negative dimensions") as caught:
        simulate_lava(*long_kernel, time_limit=120)
    assert caught.value.problems[0].layer == "too_tall"
    assert _children() == set()


def test_a_run_tells_how_far_it_is(
    long_kernel: tuple[ChipGraph, Drive], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sim import child
    from sim.lava import LavaJob, _steps_done, _tasks

    monkeypatch.setattr(child, "_TELL_SECONDS", 0.02)
    told: list[int] = []
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert child.wait_for(sleeper, 30.0, lambda: told.append(1)) == 0
    assert told
    tasks = [task for name in "01" for task in _tasks(tmp_path / name, LavaJob(*long_kernel))]
    drive = long_kernel[1]
    steps = drive.timesteps * drive.samples
    assert _steps_done(tmp_path, tasks) == (0, 2 * steps)
    (tmp_path / "current").write_text("1")
    assert _steps_done(tmp_path, tasks) == (steps, 2 * steps)
    tasks[1].out.mkdir()
    np.save(tasks[1].out / "progress.npy", np.array([3, 2, steps + 5]))
    assert _steps_done(tmp_path, tasks) == (steps + 2, 2 * steps)


def test_the_time_limit_holds_and_leaves_nothing_behind(
    long_kernel: tuple[ChipGraph, Drive],
) -> None:
    started = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"after 1.5 s"):
        simulate_lava(*long_kernel, time_limit=1.5)
    assert time.monotonic() - started < 8
    assert _children() == set()


def test_a_larger_network_may_take_longer(
    long_kernel: tuple[ChipGraph, Drive], tmp_path: Path
) -> None:
    from sim.lava import (
        PRODUCTS_PER_SECOND,
        SECONDS_PER_SAMPLE,
        START_SECONDS,
        LavaJob,
        _tasks,
        time_limit_for,
    )

    tasks = _tasks(tmp_path / "0", LavaJob(*long_kernel))
    small = time_limit_for(tasks)
    # 130 x 2 products with one weight, 3 x 2 with 128, in 4 steps of one sample
    assert small == START_SECONDS + SECONDS_PER_SAMPLE + 4 * (260 + 768) / PRODUCTS_PER_SECOND
    assert time_limit_for(tasks * 3) == pytest.approx(3 * small - 2 * START_SECONDS)


def test_a_hang_names_the_layer_that_is_behind(
    long_kernel: tuple[ChipGraph, Drive], tmp_path: Path
) -> None:
    from sim.lava import LavaJob, _tasks, _timeout

    tasks = _tasks(tmp_path / "0", LavaJob(*long_kernel))
    tasks[0].out.mkdir()
    (tmp_path / "current").write_text("0")
    np.save(tasks[0].out / "progress.npy", np.array([4, 3]))
    text = str(_timeout(tmp_path, tasks, 60))
    assert "too_tall" in text and "3 of 4 time-steps" in text and "60 s" in text


def test_a_missing_file_is_noticed_before_lava_starts(tmp_path: Path) -> None:
    with pytest.raises(NetxFormatError, match="no such file"):
        simulate_lava(tmp_path / "none.net", np.zeros((1, 1, 1, 1), np.float32))


def test_lava_is_not_imported_by_the_packages() -> None:
    program = (
        "import sys, sim.lava, sim.reference, sim.compare, netx_export;"
        "sys.exit(any(name.split('.')[0] in ('lava', 'torch') for name in sys.modules))"
    )
    root = Path(sys.modules["sim.lava"].__file__ or "").parent.parent
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
