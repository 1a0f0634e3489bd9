"""What the engine is given, and what it fills."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np

from compiler.chip.engine.plan import LayerPlan
from compiler.ir.geometry import Array

_BLOCK = 8
"""Samples that share one pass over a dense layer's weights."""

_BLOCK_BYTES = 64_000_000
"""Memory for the spikes of the samples that a thread takes at a time."""


@dataclass(frozen=True)
class Trains:
    """Spike trains by code: neuron (n, H, W, C) spikes at the steps of train `codes_nhwc`.

    codes_nhwc: uint16; train k is times[first[k] : first[k + 1]]; first: int64; times: int32.
    """

    codes_nhwc: Array
    first: Array
    times: Array


@dataclass(frozen=True)
class LayerOutput:
    """Arrays that the engine fills for the input or for one layer.

    neurons: int64 (H * W * C,), to which a run's spikes are added; steps_nt: int32 (n, T);
    clips_n: int64 (n,), clips of v. Only where asked for: voltage_nm: int32 or float32
    (n, H * W * C) after the last step; counts_nm: int32 (n, H * W * C); spikes_tnm: uint8
    (T, n, H * W * C), of the last layer alone; events_fnt: int64 (tables, n, T), the sums over
    the spikes of `fans`, int64 (tables, bits of a plane).
    """

    neurons: Array
    steps_nt: Array
    clips_n: Array
    voltage_nm: Array | None = None
    counts_nm: Array | None = None
    spikes_tnm: Array | None = None
    fans: Array | None = None
    events_fnt: Array | None = None


@dataclass(frozen=True)
class Job:
    """A chain of layers and what enters it: spike trains by code, or uint8 (T, N, H, W, C)."""

    plans: tuple[LayerPlan, ...]
    samples: int
    steps: int
    outputs: tuple[LayerOutput, ...]
    trains: Trains | None = None
    spikes_tnhwc: Array = field(default_factory=lambda: np.zeros((0,) * 5, np.uint8))
    threads: int = 1

    @property
    def block(self) -> int:
        """Samples that a thread takes at a time."""
        planes = sum(plan.planes[1].size for plan in self.plans) + self.plans[0].planes[0].size
        fitting = _BLOCK_BYTES // (planes * self.steps)
        return max(1, min(_BLOCK, self.samples // self.threads, fitting))


def thread_count() -> int:
    """Cores that this process may use, or what OMP_NUM_THREADS says if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores or 1, int(wished) if wished.isdigit() else 1 << 10))
