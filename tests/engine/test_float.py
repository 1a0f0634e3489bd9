"""The float network: the same bits from both engines and any number of threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.chip.engine.build import ENGINE_VARIABLE
from compiler.chip.engine.run import engine
from compiler.chip.execute_float import run_float_layer, run_snn
from compiler.ir.chip import ChipLayer
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding, Reset, SnnGraph, SnnLayer

QUICK = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _float(layer: ChipLayer, generator: np.random.Generator, readout: bool = False) -> SnnLayer:
    """The same layer with weights, biases and a threshold that are no integers."""
    noise = generator.normal(0, 1, layer.weight.shape)
    bias = None if layer.bias is None else frozen(layer.bias / 7.3, np.float64)
    return SnnLayer(
        layer.name,
        "conv" if layer.kind == "conv" else "dense",
        layer.input_shape,
        layer.shape,
        frozen(layer.weight + noise, np.float64),
        bias,
        layer.neuron.v_th_mant + 0.37,
        frozen(np.ones(layer.shape[0]), np.float64),
        layer.neuron.i_decay,
        layer.neuron.v_decay,
        readout,
        layer.geometry,
    )


def _graph(
    layers: list[ChipLayer], seed: int, encoding: Encoding, reset: Reset = "zero"
) -> SnnGraph:
    generator = np.random.default_rng(seed)
    chain = [
        replace(_float(layer, generator, layer is layers[-1]), reset=reset) for layer in layers
    ]
    return SnnGraph("float", layers[0].input_shape, 16, encoding, tuple(chain))


@QUICK
@given(
    seed=st.integers(0, 10**6),
    groups=st.sampled_from([1, 2]),
    reset=st.sampled_from(get_args(Reset)),
)
def test_with_and_without_a_compiler_every_bit_is_the_same(
    seed: int, groups: int, reset: Reset, random_layers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine().name != "c++":
        pytest.skip(engine().reason)
    graph = _graph(random_layers(seed, False, groups), seed, Encoding(), reset)
    images = np.random.default_rng(seed).random((3, *graph.input_shape)).astype(np.float32)
    compiled = run_snn(graph, images)
    with monkeypatch.context() as patch:
        patch.setenv(ENGINE_VARIABLE, "numba")
        looped = run_snn(graph, images)
    assert compiled.dtype == np.float32 and compiled.shape == (3, graph.layers[-1].shape[0])
    assert compiled.tobytes() == looped.tobytes()


@pytest.mark.parametrize("encoding", [Encoding(), Encoding("poisson", 4), Encoding("latency")])
def test_threads_and_batches_change_no_bit(
    random_layers: Any, monkeypatch: pytest.MonkeyPatch, encoding: Encoding
) -> None:
    graph = _graph(random_layers(11), 11, encoding)
    images = np.random.default_rng(1).random((9, *graph.input_shape)).astype(np.float32)
    whole = run_snn(graph, images)
    monkeypatch.setattr("compiler.chip.engine.run.thread_count", lambda: 3)
    assert run_snn(graph, images).tobytes() == whole.tobytes()
    monkeypatch.setattr("compiler.chip.engine.run.BATCH_UPDATES", 1)
    assert run_snn(graph, images).tobytes() == whole.tobytes()


@QUICK
@given(seed=st.integers(0, 10**6), groups=st.sampled_from([1, 2]))
def test_on_integers_it_is_the_integer_network(
    each_engine: str, seed: int, groups: int, random_layers: Any, plain: Any
) -> None:
    """Sums of whole numbers below 2**24 are exact in float32, in any order."""
    generator = np.random.default_rng(seed)
    layer = random_layers(seed, False, groups)[0]
    neuron = replace(layer.neuron, i_decay=4096, v_decay=0)
    layer = replace(layer, neuron=neuron)
    spikes = (generator.random((16, 2, *layer.input_shape)) < 0.3).astype(np.uint8)
    expected = plain(layer, spikes)
    exact = replace(
        _float(layer, generator),
        weight=frozen(layer.weight, np.float64),
        bias=None if layer.bias is None else frozen(layer.bias, np.float64),
        threshold=float(neuron.v_th_mant),
    )
    found, voltage = run_float_layer(exact, np.moveaxis(spikes, 2, -1))
    assert not expected["clips"].any()
    np.testing.assert_array_equal(np.moveaxis(found, -1, 2), expected["spikes"])
    last_first = np.moveaxis(expected["v"], 1, -1).reshape(2, -1)
    np.testing.assert_array_equal(voltage * 64, last_first)
