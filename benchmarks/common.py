"""What the measurements share: alternating rounds, the machine, its limits, other work on it."""

from __future__ import annotations

import importlib
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "numba", "torch", "lava-nc", "lava-dl", "snntorch", "spikingjelly")
_BUSY_SHARE = 0.15
"""Of the machine's cores, taken by other programs: above it the figures are doubtful."""

NOT_INSTALLED = "not installed"
SCHEMA_VERSION = 1


def measure_subject(subject: str, rounds: int, quick: bool) -> dict[str, Any]:
    """Measure one subject and return everything that `--json` writes.

    subject: a module of this package with `measure(rounds, quick) -> dict`, which returns
    `ours`, `peers` (None for a peer that is not there), `unit`, `roofline_fraction`, `roofline`
    (of which limit), `notes` and `details`.
    """
    import torch  # loaded before the watch starts: importing is no part of the measurement

    before = os.getloadavg()
    watch = OtherWork()
    measured = importlib.import_module(f"benchmarks.{subject}").measure(rounds, quick)
    load = {"before": before, "after": os.getloadavg(), "other_work": watch.share()}
    busy = load["other_work"] is not None and load["other_work"] > _BUSY_SHARE
    notes = list(measured.get("notes", ()))
    if busy:
        notes.append(
            f"other programs took {load['other_work']:.0%} of the machine meanwhile: trust the "
            "ratios of this run more than its figures, and repeat it on an idle machine"
        )
    if quick:
        notes.append("--quick: small sizes, no measurement")
    return {
        "schema_version": SCHEMA_VERSION,
        "benchmark": subject,
        "quick": quick,
        "rounds": rounds,
        "ours": measured["ours"],
        "peers": measured["peers"],
        "unit": measured["unit"],
        "speedup": speedups(measured["ours"], measured["peers"]),
        "roofline_fraction": measured["roofline_fraction"],
        "roofline": measured["roofline"],
        "machine": {**machine(), "torch_threads": torch.get_num_threads()},
        "load": {**load, "busy": busy},
        "notes": notes,
        "details": measured.get("details", {}),
    }


def speedups(ours: float, peers: Mapping[str, float | None]) -> dict[str, float | None]:
    """How many times ours each peer's rate goes into; None where there is no figure."""
    return {name: ours / value if value else None for name, value in peers.items()}


def alternate(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every call: each round runs every candidate once, in turn."""
    for _ in range(warm_up):
        for call in candidates.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(slow: list[float], quick: list[float]) -> dict[str, float]:
    """Median, smallest and largest ratio of two candidates within the same round."""
    ratios = [one / other for one, other in zip(slow, quick, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


@dataclass(frozen=True)
class Limits:
    """What this machine reaches at best, in 1e9 multiply-accumulates a second.

    gemm_float32: product of two matrices of 1536 x 1536; convolution_float32: channels-last
    convolution, 64 to 64 channels, 3 x 3, 14 x 14 places, 200 images; gemm_int8: as
    gemm_float32 by torch._int_mm, None where torch cannot.
    """

    gemm_float32: float
    convolution_float32: float
    gemm_int8: float | None


def measure_limits(rounds: int = 5, quick: bool = False) -> Limits:
    """Best of `rounds` for each limit, with the threads that torch is set to."""
    import torch
    from torch.nn import functional

    size, images = (256, 8) if quick else (1536, 200)
    a, b = torch.randn(size, size), torch.randn(size, size)
    stack = torch.randn(images, 64, 14, 14).to(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).to(memory_format=torch.channels_last)
    i, j = torch.ones(size, size, dtype=torch.int8), torch.ones(size, size, dtype=torch.int8)
    product, convolution = size**3, images * 14 * 14 * 64 * 64 * 9
    with torch.inference_mode():
        calls: dict[str, Callable[[], object]] = {
            "gemm": lambda: a @ b,
            "conv": lambda: functional.conv2d(stack, weight, padding=1),
        }
        if _can_multiply_int8():
            calls["int8"] = lambda: torch._int_mm(i, j)
        seconds = {name: min(times) for name, times in alternate(calls, rounds).items()}
    int8 = product / seconds["int8"] / 1e9 if "int8" in seconds else None
    return Limits(product / seconds["gemm"] / 1e9, convolution / seconds["conv"] / 1e9, int8)


def _can_multiply_int8() -> bool:
    import torch

    probe = torch.ones(32, 32, dtype=torch.int8)
    try:
        torch._int_mm(probe, probe)
    except (RuntimeError, AttributeError):
        return False
    return True


def limits_as_data(limits: Limits) -> dict[str, float | None]:
    """The limits by name, with their unit in the name."""
    return {f"{name}_gmacs": value for name, value in asdict(limits).items()}


def machine() -> dict[str, Any]:
    """Processor, cores, memory, threads and versions."""
    import torch

    return {
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory_bytes(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": "avx512_bf16" in _flags() or "amx_bf16" in _flags(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "numba_threads": _numba_threads(),
        "environment": {
            name: os.environ[name]
            for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "NUMBA_NUM_THREADS")
            if name in os.environ
        },
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _numba_threads() -> int:
    import numba

    return int(numba.get_num_threads())


def _versions() -> dict[str, str]:
    return {name: package_version(name) for name in _PACKAGES}


def package_version(name: str) -> str:
    """Version of an installed package, or `not installed`."""
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_INSTALLED


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    found = re.search(rf"^{field}\s*:\s*(.*)$", path.read_text(), re.M) if path.exists() else None
    return found.group(1) if found else ""


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class OtherWork:
    """Share of the cores that other programs take while this one measures (Linux alone)."""

    def __init__(self) -> None:
        self._busy, self._own, self._time = _busy_seconds(), _own_seconds(), time.monotonic()

    def share(self) -> float | None:
        """Since the start, 0 to 1; None where the system does not tell."""
        busy = _busy_seconds()
        elapsed = time.monotonic() - self._time
        if busy is None or self._busy is None or elapsed <= 0:
            return None
        others = busy - self._busy - (_own_seconds() - self._own)
        return min(1.0, max(0.0, others / (elapsed * (os.cpu_count() or 1))))


def _busy_seconds() -> float | None:
    """Seconds that all cores have worked since the machine started: all but idle and waiting."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    ticks = [int(part) for part in path.read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Seconds of work of this process and of its children that have ended."""
    return sum(os.times()[:4])
