"""The way to a chip, as far as a CPU can go: probe, latencies, read-out, what is made of readings.

The ports of the chip are Intel's and are not here. A detour holds signals up instead.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.errors import EnvironmentProblem, UsageError
from compiler.ir.chip import ChipGraph, ChipInput, CubaFields
from netx_export import read_netx
from sim import loihi2
from sim.calibration import (
    PERIOD,
    SPIKE_AT,
    STEPS,
    calibrate,
    probe_drive,
    probe_graph,
    read_probe,
)
from sim.compare import compare_spikes
from sim.encoding import drive_from_images
from sim.lava import LavaJob, LavaRun, run_lava
from sim.lava_task import CPU, Latency, Place
from sim.measure import Request, measure
from sim.reference import simulate, trace
from sim.results import SimulationResult
from sim.show import show
from sim.traces import INPUT, LayerTrace, NetworkTrace

GOLDEN = Path(__file__).parents[1] / "golden" / "digits.net"
SHAPES = {"conv": (2, 5, 3), "dense": (7, 1, 1)}


@pytest.fixture(scope="session")
def golden() -> ChipGraph:
    return read_netx(GOLDEN).graph


UNKNOWN = Place(latency=Latency(0, 0, 8), whole=False)
LATE = Place(detour=Latency(1, 2, 0), latency=Latency(2, 2, 0), whole=False)
PLACES = {"plain": CPU, "made good": LATE, "missed": replace(LATE, latency=Latency(1, 2, 0))}


@pytest.fixture(scope="session")
def probed() -> dict[str, LavaRun]:
    """The probe through a convolution and a dense layer; the latter in some places too."""
    kinds = [(kind, kind, UNKNOWN) for kind in SHAPES]
    rows = [*kinds, *((name, "dense", place) for name, place in PLACES.items())]
    jobs = [
        LavaJob(probe_graph(kind, SHAPES[kind]), probe_drive(SHAPES[kind]), place=place)
        for _, kind, place in rows
    ]
    return dict(zip((name for name, *_ in rows), run_lava(jobs), strict=True))


@pytest.mark.parametrize("kind", SHAPES)
def test_the_probe_finds_the_latency_of_the_cpu(probed: dict[str, LavaRun], kind: str) -> None:
    """It is the one that sim.lava counts on, and that other tests prove spike by spike."""
    assert read_probe(probed[kind]).latency == Latency() == CPU.latency == Latency(1, 0, 0)


@pytest.mark.parametrize(
    "detour", [Latency(2, 1, -2), pytest.param(Latency(0, 3, 0), marks=pytest.mark.slow)]
)
def test_a_detour_is_found_and_made_good(
    golden: ChipGraph, detour: Latency, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a chip: latencies unknown, the last layer alone recorded, v as a message."""
    images = np.random.default_rng(0).random((3, *golden.input_shape), np.float32)
    drive = drive_from_images(golden, images)
    place = Place(detour=detour, whole=False)
    placed = loihi2.run_at(place, GOLDEN, golden, drive)
    found = placed.calibration.latency
    assert found == Latency(1 + detour.input, detour.spikes, detour.states)
    reference = trace(golden, images)
    assert np.array_equal(placed.run.trace.voltage_nk, reference.voltage_nk)
    assert len(placed.run.trace.layers) == 1
    counted = simulate(golden, images)
    said = loihi2.describe(placed, counted)
    assert said["agreement"] == {
        "samples": 3, "same_logits": 3, "same_predictions": 3, "first_difference": None,
    }  # fmt: skip
    result = loihi2.chip_result(placed, counted)
    assert np.array_equal(result.logits_nk, counted.logits_nk)
    figures = measure(Request(GOLDEN, "digits", samples=3))
    for profile in (None, loihi2.measured(PROFILE, timesteps=32)):
        show(figures | {"backend": "loihi2", "chip": said | {"measured": profile}})
        text = capsys.readouterr().out
        assert "digits.net in a Loihi 2: 3 images" in text
        (power,) = (line for line in text.splitlines() if "power of the board" in line)
        assert "3 of 3" in text and ("0.7 W" if profile else "not measured") in power


def test_spikes_of_the_last_layer_come_through_a_detour(probed: dict[str, LavaRun]) -> None:
    """With a last layer that fires: held up, and read with right and with wrong latencies."""
    plain, made_good, missed = (probed[name].trace for name in PLACES)
    graph, drive = probe_graph("dense", SHAPES["dense"]), probe_drive(SHAPES["dense"])
    assert compare_spikes(trace(graph, drive), plain).holds
    assert plain.layers[0].spikes_tnchw.sum() == 1 + STEPS // PERIOD
    assert compare_spikes(plain, made_good).holds
    assert not compare_spikes(plain, missed).holds


def recorded(fired: list[int], counted: list[int], voltage: int = 0) -> LavaRun:
    """A run of the probe as it might have been seen."""
    spikes = np.zeros((STEPS, 1, 3, 1, 1), np.uint8)
    spikes[fired, 0, 0] = 1
    spikes[counted, 0, 1] = 1
    layer = LayerTrace("probe", spikes)
    found = NetworkTrace("lava", LayerTrace(INPUT, spikes), (layer,), np.array([[0, voltage, 0]]))
    return LavaRun(found, SimulationResult("lava", STEPS, *[np.zeros(1)] * 4, (), 0, 0.0))


def test_latencies_are_worked_out_from_what_was_seen() -> None:
    """Input 3 steps under way, output 2; v read as after step 58, not 56."""
    counted = list(range(PERIOD - 1 + 2, STEPS, PERIOD))
    found = read_probe(recorded([SPIKE_AT + 3 + 2], counted, 128 * (58 % PERIOD)))
    assert found.latency == Latency(3, 2, 2)


@pytest.mark.parametrize(
    ("fired", "counted"),
    [([], [10, 21, 32, 43, 54]), ([21, 30], [10, 21, 32, 43, 54]), ([21], [10, 22, 32, 43, 54]),
     ([21], []), ([21], [5, 16, 27, 38, 49, 60])],
    ids=["nothing arrived", "twice", "irregular", "no clock", "before its time"],
)  # fmt: skip
def test_a_probe_that_makes_no_sense_is_refused(fired: list[int], counted: list[int]) -> None:
    with pytest.raises(EnvironmentProblem, match="probe did not fire"):
        read_probe(recorded(fired, counted))


def test_networks_with_input_neurons_are_refused(golden: ChipGraph) -> None:
    graded = replace(golden, input_neurons=ChipInput("in", golden.input_shape, CubaFields(101)))
    with pytest.raises(UsageError, match="input neurons"):
        loihi2.run_at(loihi2.CHIP, GOLDEN, graded, probe_drive((1, 8, 8)))


PROFILE = {
    "power": {"total_power": [0.6, 0.8], "static_total_power": 0.2, "vdd_power": None},
    "time": {"avg_time_per_step": 150.0},
    "memory": {"core_idx": [0, 1, 4], "total_mpds": [0.1, 0.2, 0.3]},
    "activity": {"core_idx": [0, 1, 4], "syn_ops": [5, 6, 7], "dendrite_updates": [1, 1, 2]},
}


def test_readings_become_joules_a_sample() -> None:
    found = loihi2.measured(PROFILE, timesteps=32)
    assert found["seconds_per_sample"] == pytest.approx(32 * 150e-6)
    assert found["joules_per_sample"] == pytest.approx(0.7 * 32 * 150e-6)
    assert found["dynamic_joules_per_sample"] == pytest.approx(0.5 * 32 * 150e-6)
    assert (found["cores"], found["synops"], found["neuron_updates"]) == (3, 18, 4)


def test_a_reading_that_is_missing_is_none_and_said() -> None:
    assert set(loihi2.measured({}, 32).values()) == {None}
    placed = loihi2.PlacedRun(None, replace(recorded([], []), profile=(PROFILE,)))  # type: ignore[arg-type]
    said = " ".join(loihi2.notes(placed, steps=320))
    assert "power.vdd_power" in said and "10000" in said
    assert "10000" not in " ".join(loihi2.notes(placed, steps=20_000))


def test_what_is_missing_is_what_is_not_here() -> None:
    assert loihi2.missing() == tuple(loihi2.REQUIRED)
    assert not loihi2.extension_installed()
    with pytest.raises(EnvironmentProblem, match="nxcore") as caught:
        loihi2.require_extension()
    assert "inrc_interest@intel.com" in str(caught.value)


class Port:
    """Stands for a port: remembers what it was connected to."""

    def __init__(self, name: str, shape: tuple[int, ...] = (1,)) -> None:
        self.name, self.shape, self.targets = name, shape, []  # type: ignore[var-annotated]

    def connect(self, other: Port) -> None:
        self.targets.append(other.name)


class Adapter:
    """Stands for a process of the extension: the arguments, its two ends."""

    made: list[Adapter]

    def __init__(self, kind: str, **given: Any) -> None:
        self.kind, self.given = kind, given
        self.inp, self.out = Port(f"{kind}.inp"), Port(f"{kind}.out")
        Adapter.made.append(self)

    def connect_var(self, variable: Port) -> None:
        self.given["variable"] = variable.name


@pytest.fixture
def extension(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Adapter]]:
    """The names of the extension that ChipEdge uses, as lava-dl's tests use them."""
    Adapter.made = []
    spike, state, parent = (types.ModuleType(name) for name in ("spike", "state", "embedded_io"))
    for name in ("PyToN3ConvAdapter", "PyToNxAdapter", "NxToPyAdapter"):
        setattr(spike, name, lambda name=name, **given: Adapter(name, **given))
    state.Read = lambda **given: Adapter("Read", **given)  # type: ignore[attr-defined]
    parent.spike, parent.state = spike, state  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lava.proc.embedded_io", parent)
    monkeypatch.setattr("sim._lava_edges.choose_host", lambda: None)
    return lambda: Adapter.made


@pytest.mark.parametrize(
    ("shape", "adapter"), [((5, 5, 2), "PyToN3ConvAdapter"), ((7,), "PyToNxAdapter")]
)
def test_the_chip_is_connected_as_lava_dl_does(
    extension: Callable[[], list[Adapter]], shape: tuple[int, ...], adapter: str
) -> None:
    from sim._lava_edges import edge_for

    edge = edge_for("loihi2", {"input": 0, "spikes": 0, "states": 0})
    source, inp, recorder = Port("source"), Port("net.inp", shape), Port("recorder")
    edge.into(types.SimpleNamespace(inp=inp), source)
    spikes, v = Port("s_out", (3,)), Port("v", (3,))
    layer = types.SimpleNamespace(neuron=types.SimpleNamespace(s_out=spikes))
    edge.spikes(layer, recorder)
    edge.states(v, 32, 5, recorder)
    into, out, read = extension()
    assert (into.kind, into.given["shape"]) == (adapter, shape)
    assert (source.targets, into.out.targets) == ([f"{adapter}.inp"], ["net.inp"])
    assert (spikes.targets, out.out.targets) == (["NxToPyAdapter.inp"], ["recorder"])
    assert read.given == {"shape": (3,), "interval": 32, "offset": 5, "variable": "v"}
    assert read.out.targets == ["recorder"]


def test_calibrating_uses_the_input_of_the_network(
    golden: ChipGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[LavaJob] = []

    def keep(given: list[LavaJob], limit: float | None) -> tuple[LavaRun]:
        jobs.extend(given)
        return (recorded([21], [10, 21, 32, 43, 54], 128),)

    monkeypatch.setattr("sim.calibration.run_lava", keep)
    assert calibrate(golden, loihi2.CHIP).latency == Latency()
    (job,) = jobs
    assert isinstance(job.network, ChipGraph)
    assert (job.network.layers[0].kind, job.network.input_shape) == ("conv", (1, 8, 8))
    assert (job.place.backend, job.place.whole) == ("loihi2", False)
