"""Other frameworks read our NIR file and give the same spikes, or differ where docs/nir.md says.

Norse and snnTorch flatten the batch too where NIR's Flatten says so: one sample at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from compiler.ir.chip import ChipGraph, CubaFields
from netx_export import NetxFile, prepared
from netx_export.nir_writer import DT, write_nir
from sim.reference import trace
from sim.traces import NetworkTrace

Network = Callable[..., ChipGraph]
pytestmark = pytest.mark.filterwarnings("ignore")


def norse(path: Path) -> torch.nn.Module:
    pytest.importorskip("norse")
    from norse.torch import from_nir

    module: torch.nn.Module = from_nir(nir.read(path, type_check=False), dt=DT)
    return module


def snntorch(path: Path) -> torch.nn.Module:
    pytest.importorskip("nirtorch")
    pytest.importorskip("snntorch")
    from snntorch.import_nir import import_from_nir

    module: torch.nn.Module = import_from_nir(nir.read(path, type_check=False))
    return module


READERS: dict[str, Callable[[Path], torch.nn.Module]] = {"norse": norse, "snntorch": snntorch}
INTEGRATORS: dict[str, Any] = {"norse": "IF", "snntorch": "LIF"}


def spikes_of(module: torch.nn.Module, spikes_tchw: Any) -> dict[str, Any]:
    """Spikes (T, neurons) of every neuron node, by name."""
    found: dict[str, list[Any]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _given: Any, out: Any) -> None:
            spikes = out[0] if isinstance(out, tuple) else out
            found.setdefault(name, []).append(spikes.detach().numpy().reshape(-1))

        return hook

    for path, part in module.named_modules():
        name = path.rpartition(".")[2]
        if name.startswith("neuron_"):
            part.register_forward_hook(keep(name))
    state = None
    with torch.no_grad():
        for row in spikes_tchw:
            _, state = module(torch.tensor(row, dtype=torch.float32), state)
    return {name: np.stack(rows) for name, rows in found.items()}


def mismatches(reference: NetworkTrace, path: Path, framework: str) -> list[int]:
    """Steps of neurons that differ, layer by layer, over all samples."""
    wrong = np.zeros(len(reference.layers), np.int64)
    for sample in range(reference.samples):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = READERS[framework](path)
        found = spikes_of(module, reference.input.spikes_tnchw[:, sample])
        for index, layer in enumerate(reference.layers):
            ours = layer.spikes_tnchw[:, sample].reshape(layer.spikes_tnchw.shape[0], -1)
            wrong[index] += np.count_nonzero(ours != found[f"neuron_{index}"])
    return [int(count) for count in wrong]


def images(graph: ChipGraph, count: int = 2) -> Any:
    return np.random.default_rng(0).random((count, *graph.input_shape), np.float32)


@pytest.mark.parametrize("framework", READERS)
def test_golden_networks_give_the_same_spikes(
    golden: NetxFile, framework: str, tmp_path: Path
) -> None:
    reference = trace(golden.graph, images(golden.graph))
    path = tmp_path / "a.nir"
    write_nir(golden.graph, path, golden.deployment, integrator=INTEGRATORS[framework])
    assert sum(int(layer.spikes_tnchw.sum()) for layer in reference.layers) > 5000
    assert mismatches(reference, path, framework) == [0] * len(reference.layers)


def test_the_read_out_is_the_voltage_in_norse(golden: NetxFile, tmp_path: Path) -> None:
    reference = trace(golden.graph, images(golden.graph, 1))
    write_nir(golden.graph, tmp_path / "a.nir", golden.deployment)
    module, state = norse(tmp_path / "a.nir"), None
    with torch.no_grad():
        for row in reference.input.spikes_tnchw[:, 0]:
            _, state = module(torch.tensor(row, dtype=torch.float32), state)
    last = f"neuron_{len(reference.layers) - 1}"
    voltage = state.state[last][0].v.numpy()  # type: ignore[attr-defined]
    assert np.array_equal(64 * voltage, reference.voltage_nk[0])


@pytest.mark.parametrize(
    ("hidden", "bias"),
    [
        (CubaFields(495), "place"),
        (CubaFields(4095, 4096, 128), "channel"),
        (CubaFields(1095, 1024, 128), "none"),
    ],
    ids=["bias by place, groups", "leak", "current with memory"],
)
def test_snntorch_knows_decays_and_border_nodes(
    network: Network, hidden: CubaFields, bias: str, tmp_path: Path
) -> None:
    graph = prepared(network(hidden, bias))
    reference = trace(graph, images(graph))
    write_nir(graph, tmp_path / "a.nir", integrator="LIF")
    assert reference.layers[1].spikes_tnchw.sum() > 50
    assert mismatches(reference, tmp_path / "a.nir", "snntorch") == [0, 0, 0, 0]


def test_norse_takes_a_second_path_for_recurrence(network: Network, tmp_path: Path) -> None:
    """nirtorch.load visits nodes depth first; what comes later arrives a step late."""
    graph = prepared(network())
    reference = trace(graph, images(graph))
    write_nir(graph, tmp_path / "a.nir")
    wrong = mismatches(reference, tmp_path / "a.nir", "norse")
    assert wrong[0] == 0
    assert wrong[1] > 0


def test_norse_ignores_r_of_a_lif(golden: NetxFile, tmp_path: Path) -> None:
    """So that the first layer hardly sees its input: this is why IF is the default."""
    reference = trace(golden.graph, images(golden.graph, 1))
    write_nir(golden.graph, tmp_path / "a.nir", golden.deployment, integrator="LIF")
    assert mismatches(reference, tmp_path / "a.nir", "norse")[0] > 0


def test_snntorch_reads_if_as_a_leaky_neuron(golden: NetxFile, tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    from snntorch import Leaky

    write_nir(golden.graph, tmp_path / "a.nir", golden.deployment)
    neurons = [part for part in snntorch(tmp_path / "a.nir").modules() if isinstance(part, Leaky)]
    assert {round(float(part.beta), 6) for part in neurons} == {0.9}
    assert {part.reset_mechanism for part in neurons} == {"subtract"}
