"""The C++ kernel behind ctypes. The structures are those of kernel.cpp, field by field."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from compiler.chip.engine.build import load_kernel
from compiler.chip.engine.job import Job, LayerOutput
from compiler.chip.engine.plan import LayerPlan
from compiler.ir.geometry import Array

_KINDS = {"int16": 0, "int32": 1, "float32": 2}


def _structure(name: str, **fields: type) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _integers(names: str) -> dict[str, type]:
    return dict.fromkeys(names.split(), ctypes.c_int64)


def _pointers(names: str) -> dict[str, type]:
    return dict.fromkeys(names.split(), ctypes.c_void_p)


_Layer = _structure(
    "Layer",
    **_integers("kind height width row_step column_step groups group_step outputs tiles lanes"),
    **_integers("runs"),
    **_pointers("run"),
    **_integers("fan_in entries"),
    **_pointers("weight table bias"),
    **_integers("bias_step"),
    **dict.fromkeys(("keep_u", "keep_v", "threshold", "crossover"), ctypes.c_double),
    **_integers("clips subtract out_first out_row out_column out_bytes"),
)
_Counts = _structure(
    "Counts",
    **_pointers("neurons steps clips voltage samples spikes"),
    **_integers("fans"),
    **_pointers("fan events"),
)
_Job = _structure(
    "Job",
    **_integers("samples steps layers threads block height width channels first row bytes"),
    **_pointers("codes train times spikes"),
    **_pointers("layer counts"),
)


def run(job: Job) -> None:
    """Run a job, filling its outputs. Raises NoKernel, and MemoryError."""
    library = load_kernel()
    layers = (_Layer * len(job.plans))(*(_layer(plan, job.steps) for plan in job.plans))
    counts = (_Counts * len(job.outputs))(*(_counts(output) for output in job.outputs))
    plane = job.plans[0].planes[0]
    channels, height, width = plane.shape
    given = _Job(
        samples=job.samples,
        steps=job.steps,
        layers=len(job.plans),
        threads=job.threads,
        block=job.block,
        height=height,
        width=width,
        channels=channels,
        first=plane.first,
        row=plane.row,
        bytes=plane.size,
        layer=ctypes.cast(layers, ctypes.c_void_p),
        counts=ctypes.cast(counts, ctypes.c_void_p),
        **_input(job),
    )
    if library.run_network(ctypes.byref(given)):
        raise MemoryError("the simulator's threads found no memory")


def _input(job: Job) -> dict[str, Any]:
    if job.trains is not None:
        trains = job.trains
        return {
            "codes": _at(trains.codes_nhwc),
            "train": _at(trains.first),
            "times": _at(trains.times),
        }
    return {"spikes": _at(job.spikes_tnhwc)}


def _layer(plan: LayerPlan, timesteps: int) -> ctypes.Structure:
    channels, height, width = plan.shape
    groups, tiles, fan_in, lanes = plan.weight.shape
    out, table = plan.planes[1], plan.table
    return _Layer(
        kind=_KINDS[plan.weight.dtype.name],
        height=height,
        width=width,
        row_step=plan.step[0],
        column_step=plan.step[1],
        groups=groups,
        group_step=plan.step[2],
        outputs=plan.outputs,
        tiles=tiles,
        lanes=lanes,
        runs=len(plan.runs),
        run=_at(plan.runs),
        fan_in=fan_in,
        entries=0 if table is None else table.sums.shape[2],
        weight=_at(plan.weight),
        table=None if table is None else _at(table.sums),
        bias=_at(plan.bias),
        bias_step=0 if len(plan.bias) == 1 else plan.bias[0].size,
        keep_u=plan.keep_u,
        keep_v=plan.keep_v,
        threshold=plan.threshold,
        crossover=0 if table is None else table.crossover,
        clips=plan.may_clip(timesteps),
        subtract=plan.subtract,
        out_first=out.first,
        out_row=out.row,
        out_column=channels,
        out_bytes=out.size,
    )


def _counts(output: LayerOutput) -> ctypes.Structure:
    return _Counts(
        neurons=_at(output.neurons),
        steps=_at(output.steps_nt),
        clips=_at(output.clips_n),
        voltage=_at(output.voltage_nm),
        samples=_at(output.counts_nm),
        spikes=_at(output.spikes_tnm),
        fans=0 if output.fans is None else len(output.fans),
        fan=_at(output.fans),
        events=_at(output.events_fnt),
    )


def _at(array: Array | None) -> int | None:
    """Address of an array's first element; the caller keeps the array alive."""
    if array is None:
        return None
    if not array.flags.c_contiguous:
        raise ValueError("the kernel reads arrays without gaps")
    return int(np.asarray(array).ctypes.data)
