"""Run a chain of layers with the compiled kernel, or in numba where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.chip.encoding import encode, train_codes
from compiler.chip.engine.build import NoKernel, load_kernel
from compiler.chip.engine.job import Job, LayerOutput, Trains, thread_count
from compiler.chip.engine.plan import LayerPlan, Plane
from compiler.ir.geometry import Array
from compiler.ir.snn import Encoding

BATCH_BYTES = 64_000_000
"""Memory that the inputs and the counts of one batch may take."""

BATCH_UPDATES = 300_000_000
"""Steps of single neurons in a batch: a fraction of a second until the next word of progress."""


@dataclass(frozen=True)
class Engine:
    """Which engine runs: `c++`, or `numba` with the reason why not the other."""

    name: str
    reason: str = ""


def engine() -> Engine:
    """The engine of this machine; the first call may compile, which takes some seconds."""
    try:
        load_kernel()
    except NoKernel as missing:
        return Engine("numba", str(missing))
    return Engine("c++")


@dataclass(frozen=True)
class Wanted:
    """What to keep beside the counts.

    answers: voltage and spike counts of the last layer's neurons, a sample each; spikes: those
    of the last layer; fans: for every layer, tables (C, H, W) of int64 over its input:
    the operations that one spike of an input neuron causes.
    """

    answers: bool = True
    spikes: bool = False
    fans: Sequence[Sequence[Array]] = ()


def batch_size(plans: tuple[LayerPlan, ...], timesteps: int, tables: int = 0) -> int:
    """Samples whose inputs and counts stay below BATCH_BYTES and whose work below BATCH_UPDATES.

    tables: how many of Wanted.fans there are in all. At least one.
    """
    inputs, *layers = (int(np.prod(plane.shape)) for plane in _planes(plans))
    # spikes, or codes and what makes them; counts a step and sums of fan-outs; answers
    each = inputs * (timesteps + 16) + 16 * layers[-1]
    each += timesteps * (4 * len(layers) + 8 * tables)
    return max(1, min(BATCH_UPDATES // (sum(layers) * timesteps), BATCH_BYTES // each))


def run_images(
    plans: tuple[LayerPlan, ...],
    images_nchw: Array,
    timesteps: int,
    encoding: Encoding,
    first_index: int = 0,
    wanted: Wanted | None = None,
) -> tuple[LayerOutput, ...]:
    """Encode images, float in [0, 1], and run them; outputs of the input and of every layer."""
    if encoding.code == "poisson":
        spikes = encode(images_nchw, timesteps, encoding, first_index)
        return run_spikes(plans, np.moveaxis(spikes, 2, -1), wanted)
    codes, table = train_codes(images_nchw, timesteps, encoding)
    ends = np.cumsum(table.sum(1, dtype=np.int64))
    trains = Trains(
        np.ascontiguousarray(np.moveaxis(codes, 1, -1)),
        np.concatenate([np.zeros(1, np.int64), ends]),
        np.nonzero(table)[1].astype(np.int32),
    )
    outputs = _outputs(plans, len(codes), timesteps, wanted or Wanted())
    _run(Job(plans, len(codes), timesteps, outputs, trains, threads=thread_count()))
    return outputs


def run_spikes(
    plans: tuple[LayerPlan, ...], spikes_tnhwc: Array, wanted: Wanted | None = None
) -> tuple[LayerOutput, ...]:
    """Run spikes, uint8 (T, N, H, W, C) of 0 and 1; outputs of the input and of every layer."""
    spikes_tnhwc = np.ascontiguousarray(spikes_tnhwc, np.uint8)
    steps, samples = spikes_tnhwc.shape[:2]
    outputs = _outputs(plans, samples, steps, wanted or Wanted())
    _run(Job(plans, samples, steps, outputs, None, spikes_tnhwc, thread_count()))
    return outputs


def spikes_of(output: LayerOutput, plan: LayerPlan) -> Array:
    """The last layer's spikes, uint8 (T, N, H, W, C), where they were wanted."""
    if output.spikes_tnm is None:
        raise ValueError("the spikes were not wanted")
    channels, height, width = plan.shape
    return output.spikes_tnm.reshape(*output.spikes_tnm.shape[:2], height, width, channels)


def _run(job: Job) -> None:
    if engine().name == "numba":
        from compiler.chip.engine import loops

        loops.run(job)
    else:
        from compiler.chip.engine import native

        native.run(job)


def _planes(plans: tuple[LayerPlan, ...]) -> list[Plane]:
    """Planes of the input and of every layer's output."""
    return [plans[0].planes[0], *(plan.planes[1] for plan in plans)]


def _outputs(
    plans: tuple[LayerPlan, ...], samples: int, steps: int, wanted: Wanted
) -> tuple[LayerOutput, ...]:
    """Empty outputs: of the input, then of every layer."""
    planes = _planes(plans)
    tables = [*wanted.fans, *([()] * (len(planes) - len(wanted.fans)))]
    outputs = []
    for plane, fans in zip(planes, tables, strict=True):
        output = LayerOutput(
            np.zeros(int(np.prod(plane.shape)), np.int64),
            np.zeros((samples, steps), np.int32),
            np.zeros(samples, np.int64),
        )
        if fans:
            events = np.zeros((len(fans), samples, steps), np.int64)
            spread = np.stack([plane.spread(fan) for fan in fans])
            output = replace(output, fans=spread, events_fnt=events)
        outputs.append(output)
    outputs[-1] = _with_answers(outputs[-1], plans[-1], wanted)
    return tuple(outputs)


def _with_answers(output: LayerOutput, plan: LayerPlan, wanted: Wanted) -> LayerOutput:
    """The last layer's output with room for its neurons' answers, sample by sample."""
    samples, steps = output.steps_nt.shape
    shape = (samples, len(output.neurons))
    if wanted.answers:
        kind = np.float32 if plan.weight.dtype.kind == "f" else np.int32
        voltage, counts = np.zeros(shape, kind), np.zeros(shape, np.int32)
        output = replace(output, voltage_nm=voltage, counts_nm=counts)
    if wanted.spikes:
        output = replace(output, spikes_tnm=np.empty((steps, *shape), np.uint8))
    return output
