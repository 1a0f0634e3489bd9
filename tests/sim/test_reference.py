"""The integer simulator: counts, batches, input codes, and a model in plain Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.chip.engine.plan import plan_layers
from compiler.chip.engine.run import BATCH_BYTES, BATCH_UPDATES, batch_size
from compiler.errors import DataError, UsageError
from compiler.ir.chip import ChipGraph, ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import frozen
from compiler.ir.snn import Encoding
from sim.encoding import Drive, drive_from_images
from sim.reference import simulate, trace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def images(toy: ChipGraph) -> Any:
    return np.random.default_rng(0).random((7, *toy.input_shape)).astype(np.float32)


@pytest.mark.parametrize(
    "encoding", [Encoding(), Encoding("poisson", 3), Encoding("latency", 0, 0.1)]
)
@pytest.mark.parametrize("batch", [1, 3, None])
def test_batches_change_nothing(
    toy: ChipGraph, images: Any, encoding: Encoding, batch: int | None
) -> None:
    whole = trace(toy, images, encoding=encoding)
    done: list[tuple[int, int]] = []
    result = simulate(
        toy, images, encoding=encoding, batch=batch, progress=lambda *now: done.append(now)
    )
    np.testing.assert_array_equal(result.logits_nk, whole.voltage_nk)
    np.testing.assert_array_equal(result.input_chw, whole.input.spikes_tnchw.sum((0, 1)))
    np.testing.assert_array_equal(result.input_n, whole.input.spikes_tnchw.sum((0, 2, 3, 4)))
    for counts, layer in zip(result.layers, whole.layers, strict=True):
        np.testing.assert_array_equal(counts.spikes_chw, layer.spikes_tnchw.sum((0, 1)))
        np.testing.assert_array_equal(counts.spikes_n, layer.spikes_tnchw.sum((0, 2, 3, 4)))
    assert result.readout_spikes == 0
    assert result.samples == 7
    assert done[-1] == (7, 7)
    assert len(done) == -(-7 // (batch or 7))


def test_without_a_readout_the_logits_are_spike_counts(toy: ChipGraph, images: Any) -> None:
    shorter = replace(toy, layers=toy.layers[:-1])
    result = simulate(shorter, images)
    spikes = trace(shorter, images).layers[-1].spikes_tnchw
    np.testing.assert_array_equal(result.logits_nk, spikes.sum(0).reshape(7, -1))
    np.testing.assert_array_equal(result.predictions_n, result.logits_nk.argmax(1))


def test_a_readout_that_overflows_is_counted() -> None:
    weight = frozen([[254] * 64, [2] * 64], np.int32)
    layer = ChipLayer(
        "out",
        "dense",
        (64, 1, 1),
        (2, 1, 1),
        weight,
        None,
        CubaFields(131071, 1, 0),
        readout=True,
    )
    graph = ChipGraph("loud", (64, 1, 1), (layer,), 32, Encoding())
    result = simulate(graph, np.ones((2, 64, 1, 1), np.float32))
    assert result.readout_spikes > 0
    assert result.layers[0].saturations > 0


def test_the_batch_is_bounded_by_memory_and_work(toy: ChipGraph) -> None:
    plans = plan_layers(toy.layers, toy.input_shape)
    inputs, neurons = int(np.prod(toy.input_shape)), sum(layer.neurons for layer in toy.layers)
    size = batch_size(plans, 16)
    assert size > 1 and size * 16 * inputs < BATCH_BYTES
    assert size * 16 * neurons <= BATCH_UPDATES
    assert batch_size(plans, 1024) < size
    assert batch_size(plans, 16, tables=10_000) < size
    assert batch_size(plans, 1 << 30) == 1


MEMORY = """
import resource, sys
import numpy as np
from netx_export import read_netx
from sim.reference import simulate
graph = read_netx(sys.argv[1]).graph
images = np.broadcast_to(np.float32(0.5), (int(sys.argv[2]), *graph.input_shape))
simulate(graph, images[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert simulate(graph, images).samples == len(images)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_memory_grows_with_the_counts_alone() -> None:
    """40,000 digits: the first layer alone sends 1.3 GB of spikes; counts a layer and step stay."""
    path, samples = ROOT / "tests" / "golden" / "digits.net", 40_000
    command = [sys.executable, "-c", MEMORY, str(path), str(samples)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counts = samples * (5 * 32 * 4 + 10 * 8)  # input and four layers; logits
    assert int(done.stdout) < 2.5 * counts + 30_000_000


def _plain(graph: ChipGraph, drive: Drive) -> list[list[list[int]]]:
    """Dense layers in plain Python integers: spikes per layer and step of the first sample."""
    assert drive.spikes_tnchw is not None
    arriving = [[int(s) for s in row.reshape(-1)] for row in drive.spikes_tnchw[:, 0]]
    answer = []
    for layer in graph.layers:
        u, v = [0] * layer.neurons, [0] * layer.neurons
        rows = []
        for spikes in arriving:
            row = []
            for m in range(layer.neurons):
                total = sum(int(w) * s for w, s in zip(layer.weight[m], spikes, strict=True))
                u[m] = _toward_zero(u[m], 4096 - layer.neuron.i_decay) + 64 * total
                u[m] -= (1 << 24) * (u[m] > 1 << 23) - (1 << 24) * (u[m] <= -(1 << 23))
                bias = 0 if layer.bias is None else int(layer.bias[m])
                v[m] = _toward_zero(v[m], 4096 - layer.neuron.v_decay) + u[m] + 64 * bias
                v[m] = max(min(v[m], (1 << 23) - 1), 1 - (1 << 23))
                row.append(int(v[m] > 64 * layer.neuron.v_th_mant))
                v[m] = 0 if row[-1] else v[m]
            rows.append(row)
        answer.append(rows)
        arriving = rows
    return answer


def _toward_zero(state: int, keep: int) -> int:
    return int(Fraction(state * keep, 4096))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 4096),
    st.integers(0, 4095),
    st.integers(1, 4000),
    st.integers(2, 254),
)
def test_plain_python_integers_agree(
    seed: int, i_decay: int, v_decay: int, threshold: int, size: int
) -> None:
    generator = np.random.default_rng(seed)
    neuron = CubaFields(threshold, i_decay, v_decay)
    layers, shape = [], (40, 1, 1)
    for index in range(2):
        weight = frozen(generator.integers(-size, size + 1, (6, shape[0])), np.int32)
        bias = frozen(generator.integers(-4096, 4096, 6), np.int32)
        layers.append(ChipLayer(f"{index}", "dense", shape, (6, 1, 1), weight, bias, neuron))
        shape = (6, 1, 1)
    graph = ChipGraph("plain", (40, 1, 1), tuple(layers), 16, Encoding())
    spikes = (generator.random((16, 1, 40, 1, 1)) < 0.5).astype(np.uint8)
    drive = Drive(16, spikes_tnchw=spikes)
    found = trace(graph, drive)
    for layer, rows in zip(found.layers, _plain(graph, drive), strict=True):
        np.testing.assert_array_equal(layer.spikes_tnchw.reshape(16, -1), rows)


def test_the_rate_code_is_the_formula_of_the_file(toy: ChipGraph) -> None:
    levels = np.linspace(0, 1, 70, dtype=np.float32).reshape(1, 2, 5, 7)
    spikes = drive_from_images(toy, levels).spikes_tnchw
    assert spikes is not None
    for place in np.ndindex(2, 5, 7):
        exact = Fraction(float(levels[(0, *place)])) * 16
        k = round(exact)  # half to even
        train = [(t + 1) * k // 16 > t * k // 16 for t in range(16)]
        assert spikes[(slice(None), 0, *place)].tolist() == train


def test_the_poisson_code_is_drawn_per_sample(toy: ChipGraph, images: Any) -> None:
    encoding = Encoding("poisson", 12)
    spikes = drive_from_images(toy, images, encoding=encoding).spikes_tnchw
    assert spikes is not None
    for index, image in enumerate(images):
        key = np.array([12, index], np.uint64)
        drawn = np.random.Generator(np.random.Philox(key=key)).random((16, 2, 5, 7))
        np.testing.assert_array_equal(spikes[:, index], drawn < image)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 255, "0..1"),
        (lambda x: x - 0.5, "0..1"),
        (lambda x: np.where(x > 0.5, np.nan, x), "not a number"),
        (lambda x: x[:, :, :, :5], "shape"),
        (lambda x: x[0], "shape"),
        (lambda x: x[:0], "at least 1"),
        (lambda x: x.astype(str), "type"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    toy: ChipGraph, images: Any, change: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        simulate(toy, change(images))


def test_settings_that_the_file_lacks_must_be_given(toy: ChipGraph, images: Any) -> None:
    foreign = replace(toy, timesteps=None, encoding=None)
    with pytest.raises(UsageError, match="no number of time-steps"):
        simulate(foreign, images)
    with pytest.raises(UsageError, match="input code"):
        simulate(foreign, images, timesteps=16)
    for steps in (0, 1025):
        with pytest.raises(UsageError, match=f"{steps} time-steps"):
            simulate(toy, images, timesteps=steps)
    given_ = simulate(foreign, images, timesteps=16, encoding=Encoding())
    np.testing.assert_array_equal(given_.logits_nk, simulate(toy, images).logits_nk)


def test_input_neurons_take_their_bias_from_the_image(toy: ChipGraph) -> None:
    given_ = replace(toy, input_neurons=ChipInput("i", toy.input_shape, CubaFields(25), 40, 36))
    images = np.full((2, *toy.input_shape), -0.51, np.float32)
    drive = drive_from_images(given_, images)
    assert drive.bias_nchw is not None
    assert set(drive.bias_nchw.reshape(-1).tolist()) == {36 - 20}
    result = simulate(given_, images)
    # v grows by 16 a step and passes 25 on the second
    assert result.input_chw.tolist() == np.full(toy.input_shape, 2 * 8).tolist()
    with pytest.raises(DataError, match="bias"):
        simulate(given_, np.full((1, *toy.input_shape), 1000.0))


def test_a_drive_of_the_wrong_kind_or_shape_is_refused(toy: ChipGraph) -> None:
    with pytest.raises(DataError, match="spikes"):
        trace(toy, Drive(16, bias_nchw=np.zeros((1, *toy.input_shape), np.int32)))
    with pytest.raises(DataError, match="shape"):
        trace(toy, Drive(16, spikes_tnchw=np.zeros((8, 1, *toy.input_shape), np.uint8)))
