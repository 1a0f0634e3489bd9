"""The engine without a compiler: the same sums in numba, event by event, and the same results.

Weight rows are added in the order in which kernel.cpp adds them, so that float sums, too, agree
to the last bit.
"""

from __future__ import annotations

import numba
import numpy as np

from compiler.chip.engine.job import Job, LayerOutput
from compiler.chip.engine.plan import LayerPlan, Plane
from compiler.chip.fields import DECAY_BITS, STATE_SHIFT
from compiler.chip.neuron import NeuronRun, integrate_and_fire_float, run_neurons
from compiler.ir.chip import CubaFields
from compiler.ir.geometry import Array

_BATCH_BYTES = 200_000_000


def run(job: Job) -> None:
    """Run a job, filling its outputs, a few samples at a time."""
    bits = max(plan.planes[side].size * 8 for plan in job.plans for side in (0, 1))
    size = max(1, _BATCH_BYTES // (job.steps * bits * 8))
    for start in range(0, job.samples, size):
        part = slice(start, min(start + size, job.samples))
        spikes = _input(job, part)
        _record(job.outputs[0], job.plans[0].planes[0], spikes, part)
        for plan, output in zip(job.plans, job.outputs[1:], strict=True):
            spikes = _run_layer(plan, output, spikes, part)


def _input(job: Job, part: slice) -> Array:
    """Spikes that enter the first layer, uint8 (T, n, H, W, C)."""
    trains = job.trains
    if trains is None:
        return job.spikes_tnhwc[:, part]
    table = np.zeros((len(trains.first) - 1, job.steps), np.uint8)
    code = np.repeat(np.arange(len(table)), np.diff(trains.first))
    table[code, trains.times] = 1
    return np.moveaxis(table[trains.codes_nhwc[part]], -1, 0)


def _run_layer(plan: LayerPlan, output: LayerOutput, spikes_tnhwc: Array, part: slice) -> Array:
    """Run a layer, fill its output and return its spikes."""
    steps, samples = spikes_tnhwc.shape[:2]
    channels, height, width = plan.shape
    current: Array = np.zeros((steps, samples, height * width * channels), _sum_type(plan))
    _sum_rows(
        _bits(plan.planes[0], spikes_tnhwc),
        plan.runs,
        plan.weight,
        plan.outputs,
        width,
        np.array(plan.step, np.int64),
        current,
    )
    run = _fire(plan, current)
    spikes = run.spikes_tnm.reshape(steps, samples, height, width, channels)
    _record(output, plan.planes[1], spikes, part)
    output.clips_n[part] = run.saturations
    if output.voltage_nm is not None:
        output.voltage_nm[part] = run.voltage_nm
    return spikes


def _sum_type(plan: LayerPlan) -> type:
    return np.float32 if plan.weight.dtype.kind == "f" else np.int32


def _bits(plane: Plane, spikes_tnhwc: Array) -> Array:
    """The bits of the planes, a byte each: uint8 (T, n, rows, bits of a row)."""
    steps, samples, height, width, channels = spikes_tnhwc.shape
    (top, bottom), (left, _) = plane.padding
    bits = np.zeros((steps, samples, top + height + bottom, plane.row), np.uint8)
    inside = bits[:, :, top : top + height, left * channels : (left + width) * channels]
    inside[...] = spikes_tnhwc.reshape(steps, samples, height, -1)
    return bits.reshape(steps, samples, -1)


@numba.njit(parallel=True, cache=True)
def _sum_rows(bits, runs, weight, outputs, width, step, current):  # type: ignore[no-untyped-def]
    steps, samples, neurons = current.shape
    channels = weight.shape[0] * outputs
    for n in numba.prange(samples):
        where = np.empty((steps, bits.shape[2]), np.int32)
        before = np.empty((steps, bits.shape[2] + 1), np.int32)
        for t in range(steps):
            _list_spikes(bits[t, n], where[t], before[t])
        for place in range(neurons // channels):
            origin = place // width * step[0] + place % width * step[1]
            for t in range(steps):
                out = current[t, n, place * channels : (place + 1) * channels]
                row = 0
                for r in range(len(runs)):
                    lag = runs[r, 2]
                    if lag <= t:
                        begin, end = origin + runs[r, 0], origin + runs[r, 0] + runs[r, 1]
                        _add_run(
                            where[t - lag], before[t - lag], begin, end, step[2], weight, row,
                            outputs, out,
                        )  # fmt: skip
                    row += runs[r, 1]


@numba.njit(cache=True)
def _list_spikes(bits, where, before):  # type: ignore[no-untyped-def]
    """Positions of the bits that are set, in order, and how many there are before each bit."""
    count = 0
    for bit in range(len(bits)):
        before[bit] = count
        where[count] = bit
        count += bits[bit]
    before[len(bits)] = count


@numba.njit(cache=True)
def _add_run(where, before, begin, end, step, weight, row, outputs, out):  # type: ignore[no-untyped-def]
    """Add the weight rows of the bits from `begin` to `end`, in every group and tile."""
    groups, tiles, _, lanes = weight.shape
    for group in range(groups):
        shift = group * step
        for event in range(before[begin + shift], before[end + shift]):
            at = row + where[event] - begin - shift
            for tile in range(tiles):
                first = group * outputs + tile * lanes
                used = min(lanes, outputs - tile * lanes)
                _add(out[first : first + used], weight[group, tile, at, :used])


@numba.njit(cache=True)
def _add(total, row):  # type: ignore[no-untyped-def]
    """total += row; a loop of its own, which the compiler turns into vector instructions."""
    for lane in range(len(total)):
        total[lane] += row[lane]


def _fire(plan: LayerPlan, current_tnm: Array) -> NeuronRun:
    """The neurons of a layer; a float one has no clips."""
    places, groups = plan.bias.shape[:2]
    bias = plan.bias.reshape(places, groups, -1)[:, :, : plan.outputs].reshape(places, -1)
    flat = np.ascontiguousarray(
        np.broadcast_to(bias, (plan.shape[1] * plan.shape[2], bias.shape[1]))
    )
    flat = flat.reshape(-1)
    if plan.weight.dtype.kind == "f":
        keeps = (np.float32(plan.keep_u), np.float32(plan.keep_v))
        spikes, voltage = integrate_and_fire_float(
            current_tnm, flat, *keeps, np.float32(plan.threshold), plan.subtract
        )
        return NeuronRun(spikes, voltage, np.zeros(len(voltage), np.int64))
    unity = 1 << DECAY_BITS
    fields = CubaFields(
        int(plan.threshold) >> STATE_SHIFT, unity - int(plan.keep_u), unity - int(plan.keep_v)
    )
    return run_neurons(current_tnm, flat >> STATE_SHIFT, fields)


def _record(output: LayerOutput, plane: Plane, spikes_tnhwc: Array, part: slice) -> None:
    """Count the spikes of some samples."""
    steps, samples = spikes_tnhwc.shape[:2]
    flat = spikes_tnhwc.reshape(steps, samples, -1)
    counts = flat.sum(0, dtype=np.int32)
    output.neurons[...] += counts.sum(0, dtype=np.int64)
    output.steps_nt[part] = flat.sum(2, dtype=np.int32).T
    if output.counts_nm is not None:
        output.counts_nm[part] = counts
    if output.spikes_tnm is not None:
        output.spikes_tnm[:, part] = flat
    if output.fans is not None and output.events_fnt is not None:
        bits = _bits(plane, spikes_tnhwc)
        for fan, events in zip(output.fans, output.events_fnt, strict=True):
            events[part] = (bits @ fan[: bits.shape[2]]).T
