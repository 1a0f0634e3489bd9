"""SLAYER, the integer simulator and Lava on both presets' files: every spike of every layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from compiler import verification
from compiler.errors import DataError
from compiler.ir.chip import ChipGraph
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer
from compiler.verification import verify_lava, verify_slayer
from netx_export import read_netx
from sim.datasets import Dataset, load_dataset
from sim.reference import simulate

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Case:
    file: Path
    data: str
    samples: int
    in_lava: int
    accuracy: float


CASES = [
    pytest.param(Case(GOLDEN / "digits.net", "digits", 100, 30, 0.96), id="digits"),
    pytest.param(Case(GOLDEN / "fashion_mnist.net", "fashion-mnist", 20, 8, 0.88), id="fashion"),
]


def _images(case: Case, samples: int | None) -> Dataset:
    try:
        return load_dataset(case.data, samples=samples)
    except DataError as missing:
        pytest.skip(str(missing))


def _as_snn(graph: ChipGraph) -> SnnGraph:
    """The integers as a network for SLAYER, which rounds them to themselves."""
    assert graph.timesteps and graph.encoding
    layers = tuple(
        SnnLayer(
            layer.name,
            "conv" if layer.kind == "conv" else "dense",
            layer.input_shape,
            layer.shape,
            layer.weight.astype(np.float64),
            None if layer.bias is None else layer.bias.astype(np.float64),
            float(layer.neuron.v_th_mant),
            np.ones(layer.shape[0]),
            layer.neuron.i_decay,
            layer.neuron.v_decay,
            layer.readout,
            layer.geometry,
        )
        for layer in graph.layers
    )
    return SnnGraph(graph.name, graph.input_shape, graph.timesteps, graph.encoding, layers)


@pytest.mark.parametrize("case", CASES)
def test_slayer_equals_the_integer_simulator(case: Case) -> None:
    data = _images(case, case.samples)
    network = _as_snn(read_netx(case.file).graph)
    agreement = verify_slayer(network, case.file, data.images_nchw)
    assert agreement.mismatches == 0
    assert agreement.samples == case.samples
    assert agreement.spikes > 1000 * case.samples


def test_slayer_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part by part, within a bound of memory, the same is found: with random input codes too."""
    graph = replace(read_netx(GOLDEN / "digits.net").graph, encoding=Encoding("poisson", 3))
    monkeypatch.setattr(verification, "read_netx", lambda _: SimpleNamespace(graph=graph))
    images, network = load_dataset("digits", samples=5).images_nchw, _as_snn(graph)
    whole = verify_slayer(network, GOLDEN / "digits.net", images)
    neurons = sum(layer.neurons for layer in graph.layers)
    monkeypatch.setattr(verification, "_MOST_BYTES", 12 * network.timesteps * neurons)
    assert verification._samples_at_once(network) == 2
    assert verify_slayer(network, GOLDEN / "digits.net", images) == whole
    assert whole.samples == 5 and whole.mismatches == 0


def _proven_in_lava(case: Case, samples: int) -> None:
    data = _images(case, samples)
    agreement, result = verify_lava(case.file, data.images_nchw, time_limit=300)
    assert agreement.mismatches == 0
    assert agreement.samples == samples
    assert agreement.spikes > 1000 * samples
    assert result.readout_spikes == 0


@pytest.mark.parametrize("case", CASES)
def test_lava_equals_the_integer_simulator(case: Case) -> None:
    _proven_in_lava(case, case.in_lava)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_lava_equals_the_integer_simulator_on_as_many_as_slayer(case: Case) -> None:
    _proven_in_lava(case, case.samples)


@pytest.mark.parametrize("case", CASES)
def test_the_whole_test_set_neither_clips_nor_fires_the_read_out(case: Case) -> None:
    data = _images(case, None if case.data == "digits" else 1000)
    result = simulate(read_netx(case.file).graph, data.images_nchw)
    assert result.readout_spikes == 0
    assert all(layer.saturations == 0 for layer in result.layers)
    assert np.mean(result.predictions_n == data.labels) > case.accuracy
