"""Networks made by hand, and one run of Lava over all of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.ir.chip import ChipGraph, ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, Shape, frozen
from compiler.ir.snn import Encoding
from netx_export import read_netx
from sim.encoding import Drive
from sim.lava import LavaJob, LavaRun, run_lava

PLAIN = ConvGeometry()
NEURON = CubaFields(401)


def even(generator: np.random.Generator, shape: tuple[int, ...], high: int) -> Any:
    """Even integers of both signs, up to `high` in size."""
    values = 2 * generator.integers(-(high // 2), high // 2, shape)
    values.reshape(-1)[:1], values.reshape(-1)[-1:] = -high, high - 2
    return frozen(values, np.int32)


def conv(
    name: str,
    before: Shape,
    weight: Any,
    geometry: ConvGeometry = PLAIN,
    bias: Any = None,
    neuron: CubaFields = NEURON,
) -> ChipLayer:
    """A conv layer whose output shape follows from the rest."""
    rows, columns = geometry.output_size(before[1:], weight.shape[2:])
    shape = (weight.shape[0], rows, columns)
    return ChipLayer(name, "conv", before, shape, weight, bias, neuron, geometry)


def dense(
    name: str,
    before: Shape,
    weight: Any,
    bias: Any = None,
    neuron: CubaFields = NEURON,
    readout: bool = False,
) -> ChipLayer:
    """A dense layer; a read-out one gets the highest threshold."""
    neuron = CubaFields(131071) if readout else neuron
    shape = (len(weight), 1, 1)
    return ChipLayer(name, "dense", before, shape, weight, bias, neuron, readout=readout)


def _graph(name: str, layers: list[ChipLayer], steps: int, **more: Any) -> ChipGraph:
    return ChipGraph(name, layers[0].input_shape, tuple(layers), steps, Encoding(), **more)


def _shapes(generator: np.random.Generator) -> ChipGraph:
    """5x7 input, 3x2 kernel, padding, stride, dilation, groups, all forms of bias, read-out."""
    a = conv(
        "kernel_3x2",
        (2, 5, 7),
        even(generator, (4, 2, 3, 2), 120),
        ConvGeometry(padding=((2, 2), (1, 1))),
        even(generator, (4,), 200),
    )
    b = conv(
        "grouped",
        a.shape,
        even(generator, (6, 2, 2, 2), 120),
        ConvGeometry((2, 1), ((0, 0), (1, 1)), (1, 2), 2),
        even(generator, (6, 3, 8), 300),
    )
    c = dense("hidden", b.shape, even(generator, (12, 144), 60), even(generator, (12,), 400))
    bias = frozen([-4096, 0, 2, 4094], np.int32)
    last = dense("logits", c.shape, even(generator, (4, 12), 200), bias, readout=True)
    return _graph("shapes", [a, b, c, last], 16)


def _asymmetric(generator: np.random.Generator) -> ChipGraph:
    """Padding that differs from side to side, with stride and dilation that do not divide it."""
    a = conv(
        "same",
        (1, 6, 8),
        even(generator, (3, 1, 3, 3), 250),
        ConvGeometry((2, 2), ((0, 1), (0, 1))),
    )
    b = conv(
        "dilated",
        a.shape,
        even(generator, (4, 3, 2, 2), 250),
        ConvGeometry((1, 1), ((1, 0), (2, 1)), (2, 2)),
        even(generator, (4,), 100),
    )
    return _graph("asymmetric", [a, b], 16)


def _ties(generator: np.random.Generator, v_decay: int) -> ChipGraph:
    """Odd and even thresholds that v meets exactly: every weight from 1 to 24 at each of them."""
    weight = frozen(np.arange(-4, 44).reshape(-1, 1).repeat(2, axis=1), np.int32)
    drawn = generator.integers(-9, 9, len(weight))
    drawn[::3] = 24 - np.asarray(weight)[::3, 0]  # one spike from rest meets the threshold
    bias = frozen(drawn, np.int32)
    layers, shape = [], (2, 1, 1)
    for index, threshold in enumerate((24, 25, 32, 21)):
        neuron = CubaFields(threshold, 4096, v_decay)
        layers.append(dense(f"at_{threshold}", shape, weight, bias, neuron))
        shape = layers[-1].shape
        weight = frozen(generator.integers(-6, 10, (48, 48)), np.int32)
        bias = frozen(generator.integers(-9, 9, 48), np.int32) if index % 2 else None
    return _graph(f"ties_{v_decay}", layers, 16)


def _decays(generator: np.random.Generator) -> ChipGraph:
    """Currents and voltages that decay, and states below zero, which round toward it."""
    neurons = [CubaFields(301, 512, 300), CubaFields(77, 1, 4095), CubaFields(901, 3001, 1)]
    layers, shape = [], (2, 3, 3)
    for index, neuron in enumerate(neurons):
        weight = even(generator, (10, int(np.prod(shape))), 90)
        layers.append(dense(f"decay_{index}", shape, weight, even(generator, (10,), 600), neuron))
        shape = layers[-1].shape
    return _graph("decays", layers, 16)


def _overflow() -> ChipGraph:
    """u beyond 24 bits, which wraps, and v beyond 24 bits, which clips, both ways."""
    rows = [np.full(64, 254), np.full(64, -256), np.tile([254, -256], 32), np.full(64, 2)]
    weight = frozen(np.array(rows), np.int32)
    slow = dense("wraps", (4, 4, 4), weight, None, CubaFields(131071, 1, 0))
    bias = frozen([-4096, 4094, -4096, 4094], np.int32)
    clips = dense("clips", (4, 1, 1), even(np.random.default_rng(1), (4, 4), 200), bias)
    return _graph("overflow", [slow, clips], 32)


def _deeper_than_long(generator: np.random.Generator) -> ChipGraph:
    """More layers than time-steps a sample: several samples are under way at once."""
    layers, shape = [], (3, 1, 1)
    for index in range(6):
        weight, bias = even(generator, (8, shape[0]), 250), even(generator, (8,), 300)
        layers.append(dense(f"deep_{index}", shape, weight, bias, CubaFields(101, 4096, 64)))
        shape = layers[-1].shape
    layers[-1] = dense("end", layers[-1].input_shape, layers[-1].weight, readout=True)
    return _graph("deeper_than_long", layers, 4)


def _delays(generator: np.random.Generator) -> ChipGraph:
    """Synapses that hold spikes back, some longer than a sample lasts."""
    a = dense("delayed", (5, 1, 1), even(generator, (9, 5), 200), None, CubaFields(201, 2048, 100))
    delay = frozen(generator.integers(0, 40, (9, 5)), np.int32)
    b = dense("plain", a.shape, even(generator, (3, 9), 100))
    return _graph("delays", [ChipLayer(**{**vars(a), "delay": delay}), b], 16)


def _input_neurons(generator: np.random.Generator) -> ChipGraph:
    """Neurons that turn pixels into spikes, a conv layer behind them."""
    given = ChipInput("input", (2, 4, 3), CubaFields(25, 4096, 1024), 40, 36)
    a = conv("behind", given.shape, even(generator, (3, 2, 2, 2), 90))
    last = dense("end", a.shape, even(generator, (3, 18), 90), readout=True)
    return _graph("input_neurons", [a, last], 16, input_neurons=given)


def _random(seed: int) -> ChipGraph:
    """Whatever the seed brings."""
    generator = np.random.default_rng(seed)
    pick = lambda low, high: int(generator.integers(low, high + 1))  # noqa: E731
    groups = pick(1, 2)
    shape = (2 * groups, pick(4, 6), pick(4, 6))
    start, layers = shape, []
    for index in range(pick(1, 2)):
        geometry = ConvGeometry(
            (pick(1, 2), pick(1, 2)),
            ((pick(0, 1), pick(0, 1)), (pick(0, 2), pick(0, 2))),
            (pick(1, 2), pick(1, 2)),
            groups,
        )
        weight = even(generator, (2 * groups, 2, pick(1, 2), pick(1, 3)), pick(40, 256) // 2 * 2)
        neuron = CubaFields(pick(1, 900), pick(1, 4096), pick(0, 4095))
        layers.append(
            conv(f"c{index}", shape, weight, geometry, even(generator, (2 * groups,), 400), neuron)
        )
        shape = layers[-1].shape
    weight = even(generator, (5, int(np.prod(shape))), 100)
    layers.append(dense("d", shape, weight, even(generator, (5,), 90), readout=bool(pick(0, 1))))
    assert layers[0].input_shape == start
    return _graph(f"random_{seed}", layers, 8)


def _spikes(graph: ChipGraph, samples: int, seed: int) -> Drive:
    """Random spikes, more of them from sample to sample; the first sample is the busiest
    where the network is meant to overflow."""
    generator = np.random.default_rng(seed)
    steps = graph.timesteps or 0
    rates = np.linspace(0.2, 0.9, samples).reshape(1, -1, 1, 1, 1)
    rates = np.ones_like(rates) if graph.name == "overflow" else rates
    drawn = generator.random((steps, samples, *graph.input_shape))
    return Drive(steps, spikes_tnchw=(drawn < rates).astype(np.uint8))


@dataclass(frozen=True)
class Case:
    """A network, what drove it, and what Lava did."""

    graph: ChipGraph
    drive: Drive
    lava: LavaRun


def _hand_made() -> dict[str, tuple[ChipGraph, Drive]]:
    generator = np.random.default_rng(11)
    graphs = [
        _shapes(generator),
        _asymmetric(generator),
        _ties(generator, 0),
        _ties(generator, 600),
        _decays(generator),
        _overflow(),
        _deeper_than_long(generator),
        _delays(generator),
        *(_random(seed) for seed in range(3)),
    ]
    cases = {graph.name: (graph, _spikes(graph, 3, 5)) for graph in graphs}
    given = _input_neurons(generator)
    bias = generator.integers(0, 80, (3, *given.input_shape), np.int32)
    cases[given.name] = (given, Drive(16, bias_nchw=bias))
    return cases


HAND_MADE = tuple(_hand_made())
FOREIGN = ("tiny", "mnist", "pilotnet", "ntidigits")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let `hand_made` and `foreign` stand for each case in turn."""
    for fixture, names in (("hand_made", HAND_MADE), ("foreign", FOREIGN)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, names)


@pytest.fixture(scope="session")
def lava_tests() -> Path:
    """Folder of the files that lava-dl's wheel installs with its own tests."""
    spec = importlib.util.find_spec("lava")
    assert spec is not None and spec.submodule_search_locations is not None
    site = Path(next(iter(spec.submodule_search_locations))).parent
    return site / "tests" / "lava" / "lib" / "dl" / "netx"


@pytest.fixture(scope="session")
def pilotnet_bias(lava_tests: Path) -> Any:
    """Biases of PilotNet's input neurons for the image beside it, (1, C, H, W)."""
    image = np.load(lava_tests / "gts" / "pilotnet_lif" / "image.npy")
    return image.transpose(2, 1, 0)[None].astype(np.int32)


@pytest.fixture(scope="session")
def ntidigits_spikes(lava_tests: Path) -> Any:
    """Lava's own input for N-TIDIGITS, the first 64 steps, (T, 1, 1, 1, 64)."""
    spikes = np.load(lava_tests / "gts" / "ntidigits" / "input.npy")[:, :64]
    return spikes.T.astype(np.uint8).reshape(64, 1, 1, 1, 64)


@pytest.fixture(scope="session")
def lava_cases(lava_tests: Path, pilotnet_bias: Any, ntidigits_spikes: Any) -> dict[str, Case]:
    """Every network in Lava, in one child process."""
    generator = np.random.default_rng(2)
    tiny = np.load(lava_tests / "gts" / "tinynet" / "input_bias.npy").transpose(2, 1, 0)
    tiny = np.stack([tiny, generator.integers(0, 70, tiny.shape)]).astype(np.int32)
    mnist = generator.integers(64, 141, (2, 784, 1, 1), np.int32)
    files: dict[str, tuple[str, Drive, int | None]] = {
        "tiny": ("tiny.net", Drive(16, bias_nchw=tiny), None),
        "mnist": ("mnist.net", Drive(21, bias_nchw=mnist), None),  # no power of two
        "pilotnet": ("gts/pilotnet_lif/network.net", Drive(16, bias_nchw=pilotnet_bias), 3),
        "ntidigits": (
            "gts/ntidigits/ntidigits.net",
            Drive(64, spikes_tnchw=ntidigits_spikes),
            5,
        ),
    }
    inputs = _hand_made()
    jobs = [LavaJob(graph, drive, states=True) for graph, drive in inputs.values()]
    for name, (relative, drive, entries) in files.items():
        path = lava_tests / relative
        inputs[name] = (read_netx(path, lenient=True, layers=entries).graph, drive)
        jobs.append(LavaJob(path, drive, name != "ntidigits", entries))
    runs = run_lava(jobs, time_limit=300)
    return {
        name: Case(graph, drive, run)
        for (name, (graph, drive)), run in zip(inputs.items(), runs, strict=True)
    }


@pytest.fixture(scope="session")
def toy() -> ChipGraph:
    """A small network with all kinds of layers."""
    return _hand_made()["shapes"][0]


@pytest.fixture(scope="session")
def make_conv() -> Callable[..., ChipLayer]:
    return conv
