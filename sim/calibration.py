"""How late signals arrive: a network of three neurons that is driven by one spike.

One neuron fires on the spike, one counts time-steps by its bias alone, one never fires. When the
second is seen to fire tells the way out; when the first is, the way in as well; what its voltage
is read as tells after which step it was read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from compiler.chip import fields
from compiler.errors import EnvironmentProblem, one_problem
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import Array, ConvGeometry, Shape, frozen
from compiler.ir.snn import Encoding
from sim.encoding import Drive
from sim.lava import LavaJob, LavaRun, run_lava
from sim.lava_task import Latency, Place

STEPS = 64
SPIKE_AT = 20
"""Step (from 0) at which the one input spike is sent."""

PERIOD = 11
"""The counting neuron fires after every so many steps; latencies up to 5 steps are told apart."""

EARLY = 8
"""Steps before the end after which its voltage is read."""

_FIRES, _COUNTS, _SILENT = range(3)
_MANTISSA, _BIAS = 64, 2


@dataclass(frozen=True)
class Calibration:
    """What the probe saw: when it saw the neurons fire (rows from 0), and the voltage."""

    latency: Latency
    fired_n: tuple[int, ...]
    counted_n: tuple[int, ...]
    voltage: int


def calibrate(graph: ChipGraph, place: Place, time_limit: float | None = None) -> Calibration:
    """The latencies of `place` for networks whose input is that of `graph`.

    The probe's input has the shape of the graph's and enters in the same way, since dense layers
    and convolutions take spikes through different adapters on a chip.
    Raises EnvironmentProblem if the probe does not fire as it must, and what
    sim.lava.run_lava raises.
    """
    probe = probe_graph(graph.layers[0].kind, graph.input_shape)
    nowhere = replace(place, latency=Latency(0, 0, EARLY), whole=False)
    run = run_lava([LavaJob(probe, probe_drive(graph.input_shape), place=nowhere)], time_limit)[0]
    return read_probe(run)


def probe_graph(kind: str, input_shape: Shape) -> ChipGraph:
    """One layer of three neurons on an input of this shape."""
    channels, height, width = input_shape
    threshold = CubaFields(_BIAS * PERIOD - 1)
    bias = frozen([0, _BIAS, 0], np.int32)
    if kind == "conv":
        most = fields.LAVA_CONV_LIMIT
        geometry = ConvGeometry((min(height, most), min(width, most)))
        rows, columns = geometry.output_size((height, width), (1, 1))
        weight = np.zeros((3, channels, 1, 1), np.int32)
        shape = (3, rows, columns)
    else:
        geometry, shape = ConvGeometry(), (3, 1, 1)
        weight = np.zeros((3, channels * height * width), np.int32)
    first = weight.reshape(3, -1)
    first[_FIRES, 0], first[_SILENT, 0] = fields.WEIGHT.high, -2
    layer = ChipLayer("probe", kind, input_shape, shape, frozen(weight, np.int32), bias, threshold,
                      geometry)  # fmt: skip
    return ChipGraph("probe", input_shape, (layer,), STEPS, Encoding())


def probe_drive(input_shape: Shape) -> Drive:
    """One spike, in the first channel's corner."""
    spikes = np.zeros((STEPS, 1, *input_shape), np.uint8)
    spikes[SPIKE_AT, 0, 0, 0, 0] = 1
    return Drive(STEPS, spikes)


def read_probe(run: LavaRun) -> Calibration:
    """Latencies from a run of the probe; EnvironmentProblem if it did not fire as it must."""
    last = run.trace.layers[-1].spikes_tnchw[:, 0, :, 0, 0]
    fired, counted, silent = (_rows(last, neuron) for neuron in (_FIRES, _COUNTS, _SILENT))
    if len(fired) != 1 or silent or not _regular(counted):
        found = f"spikes at rows {fired}, {counted} and {silent}"
        raise one_problem(
            EnvironmentProblem, "the one-spike probe did not fire as it must", "probe", found,
            f"one spike, one every {PERIOD} steps, and none",
            "check the backend with a single layer by hand; without the probe nothing can be read",
        )  # fmt: skip
    out = counted[0] - (PERIOD - 1)
    voltages = run.trace.voltage_nk[0].reshape(3, -1)[:, 0]
    read = int(voltages[_COUNTS]) // (_MANTISSA * _BIAS)
    return Calibration(
        Latency(fired[0] - SPIKE_AT - out, out, _nearest(read - (STEPS - EARLY))),
        tuple(fired),
        tuple(counted),
        int(voltages[_COUNTS]),
    )


def _rows(spikes_tc: Array, neuron: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(spikes_tc[:, neuron])]


def _regular(counted: list[int]) -> bool:
    """Whether the counting neuron fired at the first time or after, and then every PERIOD steps."""
    first = PERIOD - 1
    if not counted or not first <= counted[0] < first + PERIOD:
        return False
    return counted == list(range(counted[0], STEPS, PERIOD))


def _nearest(difference: int) -> int:
    """The smallest number of steps that is the difference modulo PERIOD."""
    return (difference + PERIOD // 2) % PERIOD - PERIOD // 2
