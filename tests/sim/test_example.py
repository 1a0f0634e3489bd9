"""examples/run_in_lava.py: stock Lava alone gives the same answer."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np

from compiler.ir.chip import ChipGraph
from netx_export import deployment_of, write_netx
from sim.reference import simulate

SCRIPT = Path(__file__).parents[2] / "examples" / "run_in_lava.py"


def test_it_imports_nothing_of_ours() -> None:
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    assert names - set(sys.stdlib_module_names) == {"h5py", "lava", "numpy"}


def test_it_gives_the_same_spikes_and_accuracy(toy: ChipGraph, tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    images = generator.random((5, *toy.input_shape)).astype(np.float32)
    expected = simulate(toy, images[:4])
    labels = expected.predictions_n.copy()
    labels[1] += 1
    write_netx(toy, tmp_path / "model.net", deployment_of(toy))
    np.savez(tmp_path / "images.npz", images=images, labels=np.append(labels, 0))
    command = [sys.executable, SCRIPT, "model.net", "--data", "images.npz", "--samples", "4"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "samples 4",
        f"predictions {' '.join(str(p) for p in expected.predictions_n)}",
        "accuracy 75.00 %",
        f"spikes input {int(expected.input_n.sum())}",
        *(f"spikes {layer.name} {int(layer.spikes_n.sum())}" for layer in expected.layers),
    ]
    assert done.stderr == ""
