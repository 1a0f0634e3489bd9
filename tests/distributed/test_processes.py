"""Two processes under torchrun give what one gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.distributed import World
from compiler.export import run as export_here
from compiler.ir.snn import SnnGraph
from compiler.store import load
from netx_export import read_netx
from sim.measure import Request, measure
from sim.reference import simulate
from sim.shares import simulate_share

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "tests" / "golden" / "digits.net"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
QUICK = """
[synthesize]
count = 96
held_out = 32
steps = 3
[convert]
images = 32
percentiles = [99.0]
threshold_scales = [1.0]
[encrypt]
epochs = 2
batch = 15
"""


def run(processes: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, str(processes), "-m", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 7, 64])
def test_the_shares_are_everything_once(count: int) -> None:
    shares = [World(rank, 5).share(count) for rank in range(5)]
    found = [index for share in shares for index in range(count)[share]]
    assert found == list(range(count))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_one_process_is_its_own_world() -> None:
    world = World()
    assert world.main and world.gather("a") == ["a"] and world.tell("b") == "b"


def test_a_simulation_has_the_same_result(tmp_path: Path) -> None:
    """Of the `poisson` code, whose random numbers depend on a sample's number."""
    file = tmp_path / "figures.json"
    done = run(
        2, "sim.run", str(DIGITS), "--data", "digits", "--samples", "61",
        "--encoding", "poisson", "--json", str(file),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("61 images of digits") == 1 and "Gloo" not in done.stdout
    alone = measure(Request(DIGITS, "digits", samples=61, encoding="poisson"))
    two = json.loads(file.read_text())
    for figures in (alone, two):
        assert figures.pop("seconds") > 0 and figures.pop("samples_per_second") > 0
    assert two == json.loads(json.dumps(alone))


@dataclass(frozen=True)
class Gathered(World):
    """The last of some processes, which is told the others' results."""

    others: tuple[Any, ...] = ()

    def gather(self, value: Any) -> list[Any]:
        return [*self.others, value]


def test_more_processes_than_samples() -> None:
    graph = read_netx(DIGITS).graph
    images = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    found: tuple[Any, ...] = ()
    for rank in range(5):
        world = Gathered(rank, 5, found)
        whole = simulate_share(world, graph, images)
        part = images[world.share(3)]
        found = (*found, simulate(graph, part) if len(part) else None)
    alone = simulate(graph, images)
    assert whole is not None and whole.samples == 3
    np.testing.assert_array_equal(whole.logits_nk, alone.logits_nk)
    np.testing.assert_array_equal(whole.input_nt, alone.input_nt)
    for one, other in zip(whole.layers, alone.layers, strict=True):
        np.testing.assert_array_equal(one.spikes_chw, other.spikes_chw)
        np.testing.assert_array_equal(one.spikes_nt, other.spikes_nt)


def test_a_wrong_input_is_told_once() -> None:
    done = run(2, "sim.run", str(DIGITS), "--data", "nowhere")
    assert done.returncode == 1
    assert done.stderr.count("no such data set") == 1


def trained(folder: Path) -> tuple[SnnGraph, list[dict[str, float]]]:
    """The trained network of a compile, and the course of its training."""
    manifest = json.loads((folder / "manifest.json").read_text())
    epochs = manifest["stages"]["encrypt"]["results"]["epochs"]
    return load(SnnGraph, folder / "private" / "encrypted.safetensors"), epochs


def test_a_training_has_the_same_result_but_for_the_order_of_sums(tmp_path: Path) -> None:
    """Batches of 15 are shared unevenly; the last batch has 4 samples."""
    settings = tmp_path / "quick.toml"
    settings.write_text(QUICK)
    arguments = ["--preset", "digits", "--config", str(settings), "--to", "encrypt", "--out"]
    assert export_here([*arguments, str(tmp_path / "one")]) == 0
    done = run(2, "compiler.export", *arguments, str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training in the spiking domain") == 1
    one, of_one = trained(tmp_path / "one")
    two, of_two = trained(tmp_path / "two")
    assert of_one[0]["loss"] > 1.02 * of_one[1]["loss"], "nothing was trained"
    for before, after in zip(of_one, of_two, strict=True):
        assert before["loss"] == pytest.approx(after["loss"], rel=1e-4)
    for a, b in zip(one.layers, two.layers, strict=True):
        scale = np.abs(a.weight).max()
        np.testing.assert_allclose(b.weight, a.weight, rtol=0, atol=1e-4 * scale)
        np.testing.assert_allclose(b.bias, a.bias, rtol=0, atol=1e-2)
