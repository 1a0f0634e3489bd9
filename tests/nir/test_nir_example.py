"""examples/run_from_nir.py: other frameworks give the same answer, with nothing of ours."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from netx_export import NetxFile
from netx_export.nir_writer import write_nir
from sim.reference import simulate

SCRIPT = Path(__file__).parents[2] / "examples" / "run_from_nir.py"


def test_it_imports_nothing_of_ours() -> None:
    names = set()
    for node in ast.walk(ast.parse(SCRIPT.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    others = {"nir", "norse", "numpy", "run_in_lava", "snntorch", "torch"}
    assert names - set(sys.stdlib_module_names) == others


@pytest.mark.parametrize(("framework", "integrator"), [("norse", "IF"), ("snntorch", "LIF")])
def test_it_gives_the_same_spikes_and_accuracy(
    golden: NetxFile, framework: str, integrator: str, tmp_path: Path
) -> None:
    pytest.importorskip(framework)
    graph = golden.graph
    if graph.name != "digits":
        pytest.skip("one network is enough")
    images = np.random.default_rng(8).random((4, *graph.input_shape)).astype(np.float32)
    expected = simulate(graph, images)
    labels = expected.predictions_n.copy()
    labels[1] += 1
    write_nir(graph, tmp_path / "a.nir", golden.deployment, integrator=integrator)  # type: ignore[arg-type]
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    command = [sys.executable, SCRIPT, "a.nir", "--data", "images.npz", "--framework", framework]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "samples 4",
        f"predictions {' '.join(str(p) for p in expected.predictions_n)}",
        "accuracy 75.00 %",
        f"spikes input {int(expected.input_n.sum())}",
        *(f"spikes {layer.name} {int(layer.spikes_n.sum())}" for layer in expected.layers),
    ]
