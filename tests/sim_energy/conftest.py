"""A result of a simulation, made from spike trains that the test knows in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from compiler.chip.execute import run_graph
from compiler.ir import ChipGraph, ChipLayer, ConvGeometry, CubaFields
from sim import published
from sim.results import LayerCounts, SimulationResult


@dataclass(frozen=True)
class Recording:
    """A small network, every spike it fired, and the counts that a simulator would return."""

    graph: ChipGraph
    spikes: list[np.ndarray]  # input, then layers: (t, n, C, H, W)
    result: SimulationResult


def record(graph: ChipGraph, spikes_tnchw: np.ndarray) -> Recording:
    trains = [spikes_tnchw]
    for run in run_graph(graph, spikes_tnchw):
        trains.append(np.moveaxis(run.spikes_tnhwc, -1, 2))
    shaped = [
        train.reshape(*train.shape[:2], *shape)
        for train, shape in zip(
            trains, [graph.input_shape, *(layer.shape for layer in graph.layers)], strict=True
        )
    ]
    counts = tuple(
        LayerCounts(
            layer.name,
            train.sum((0, 1), dtype=np.int64),
            train.sum((0, 2, 3, 4), dtype=np.int64),
            0,
        )
        for layer, train in zip(graph.layers, shaped[1:], strict=True)
    )
    samples = spikes_tnchw.shape[1]
    result = SimulationResult(
        "reference",
        spikes_tnchw.shape[0],
        np.zeros((samples, graph.layers[-1].shape[0]), np.int64),
        np.zeros(samples, np.int64),
        shaped[0].sum((0, 1), dtype=np.int64),
        shaped[0].sum((0, 2, 3, 4), dtype=np.int64),
        counts,
        0,
        0.0,
    )
    return Recording(graph, shaped, result)


def sparse_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Even integers, a third of them zero."""
    weights = 2 * rng.integers(-40, 60, shape)
    weights[rng.random(shape) < 0.33] = 0
    return weights.astype(np.int32)


@pytest.fixture(scope="session")
def recording() -> Recording:
    """Two convolutions (stride, padding, groups, dilation), two dense layers; 8 steps, 3 images."""
    rng = np.random.default_rng(7)
    first = ConvGeometry((2, 1), ((1, 1), (0, 0)))
    second = ConvGeometry((1, 1), ((0, 0), (2, 2)), (1, 2), 2)
    graph = ChipGraph(
        "small",
        (2, 7, 6),
        (
            ChipLayer(
                "conv1",
                "conv",
                (2, 7, 6),
                (4, 4, 5),
                sparse_weights(rng, (4, 2, 3, 2)),
                np.full(4, 6, np.int32),
                CubaFields(61),
                first,
            ),
            ChipLayer(
                "conv2",
                "conv",
                (4, 4, 5),
                (6, 3, 5),
                sparse_weights(rng, (6, 2, 2, 3)),
                None,
                CubaFields(41),
                second,
            ),
            ChipLayer(
                "fc1",
                "dense",
                (6, 3, 5),
                (9, 1, 1),
                sparse_weights(rng, (9, 90)),
                None,
                CubaFields(101),
            ),
            ChipLayer(
                "fc2",
                "dense",
                (9, 1, 1),
                (3, 1, 1),
                sparse_weights(rng, (3, 9)),
                None,
                CubaFields(131071),
                readout=True,
            ),
        ),
        8,
    )
    spikes = (rng.random((8, 3, 2, 7, 6)) < 0.4).astype(np.uint8)
    made = record(graph, spikes)
    assert all(train.sum() > 20 for train in made.spikes[:-1])
    return made


ARCHITECTURE = """
architecture:
  name: loihi_chip
  attributes:
    sync_model: table
    latency_sync: { 1: 1e-7, 2: 2e-7, 4: 3e-7, 29: 4e-7 }
  tile:
    - name: loihi_tile[0..31]
      attributes:
        energy_north_hop: 4e-12  # a comment
        latency_north_hop: 6e-9
        energy_east_hop: 3e-12
        latency_east_hop: 5e-9
  axon_in:
    - name: loihi_in
      attributes:
        latency_message_in: 11e-9
  soma:
    - name: loihi_lif
      attributes:
        model: leaky
        energy_access_neuron: 50.0e-12
        latency_access_neuron: 7e-9
        energy_update_neuron: 20.0e-12
        latency_update_neuron: 2e-9
        energy_spike_out: 70.0e-12
        latency_spike_out: 9.0e-9
  synapse:
    - name: loihi_dense_synapse  # use the name
      attributes:
        energy_process_spike: 30.0e-12
        latency_process_spike: 4e-9
    - name: loihi_conv_synapse
      attributes:
        latency_process_spike: 3e-9
        energy_process_spike: 25.0e-12
  axon_out:
    - name: loihi_out
      attributes:
        energy_message_out: 100.0e-12
        latency_message_out: 8e-9
"""


@pytest.fixture
def architecture() -> str:
    """A file of SANA-FE's shape with made-up numbers."""
    return ARCHITECTURE


@pytest.fixture
def fake_sanafe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Install a package of SANA-FE's shape; a line or an entry with the given text is left out."""

    def install(without: str = "") -> None:
        kept = ARCHITECTURE.replace(f", {without}", "") if without else ARCHITECTURE
        lines = [line for line in kept.splitlines() if not without or without not in line]
        (tmp_path / "sanafe" / "examples").mkdir(parents=True)
        (tmp_path / "sanafe" / "examples" / "loihi.yaml").write_text("\n".join(lines))

        class Spec:
            submodule_search_locations = (str(tmp_path / "sanafe"),)

        monkeypatch.setattr(published.importlib.util, "find_spec", lambda name: Spec)
        monkeypatch.setattr(published.importlib.metadata, "version", lambda name: "0.0")

    return install
