"""Spike-based training: one step of ours, of stock lava-dl, of snnTorch and of SpikingJelly.

The step: conv 1-16, conv 16-32 stride 2, conv 32-64 stride 2 (all 3 x 3), dense 3136-128-10,
batch 50, T = 16, 30 % input rate, hidden layers near 10 %; forward, backward, Adam.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import (
    NOT_INSTALLED,
    alternate,
    limits_as_data,
    measure_limits,
    median_ratio,
    package_version,
)
from benchmarks.training_load import Workload, make_workload
from benchmarks.training_peers import CANDIDATES, Candidate

ROOT = Path(__file__).resolve().parents[1]
UNIT = "training steps per second"
PACKAGES = {"slayer": "lava-dl", "snntorch": "snntorch", "spikingjelly": "spikingjelly"}
MEMORY_STEPS = 3


def measure(rounds: int, quick: bool) -> dict[str, Any]:
    """Steps per second of ours and the peers; `details` has seconds, memory and agreement."""
    missing = [p for p, package in PACKAGES.items() if package_version(package) == NOT_INSTALLED]
    workload = make_workload(quick)
    candidates = {name: make(workload) for name, make in CANDIDATES.items() if name not in missing}
    agreement = compare(candidates["ours"], candidates["slayer"])
    seconds = alternate({name: one.step for name, one in candidates.items()}, rounds)
    rates = {name: 1 / statistics.median(times) for name, times in seconds.items()}
    limits = measure_limits(quick=quick)
    reached = workload.macs * rates["ours"] / 1e9
    return {
        "ours": rates["ours"],
        "peers": {name: rates.get(name) for name in PACKAGES},
        "unit": UNIT,
        "roofline_fraction": reached / limits.convolution_float32,
        "roofline": "of a float32 convolution that skips nothing",
        "notes": [f"{name}: not installed" for name in missing],
        "details": {
            "workload": _describe(workload),
            "seconds": seconds,
            "parts_seconds": {name: candidates[name].parts() for name in candidates},
            "times_slower_same_round": {
                name: median_ratio(times, seconds["ours"])
                for name, times in seconds.items()
                if name != "ours"
            },
            "dense_equivalent_gmacs": reached,
            "limits": limits_as_data(limits),
            "agreement_with_slayer": agreement,
            "peak_memory_bytes": {name: _memory_in_child(name) for name in candidates if not quick},
        },
    }


def _describe(workload: Workload) -> dict[str, Any]:
    steps, samples = workload.spikes_tnhwc.shape[:2]
    return {
        "batch": samples,
        "timesteps": steps,
        "input_rate": float(workload.spikes_tnhwc.mean()),
        "hidden_rates": list(workload.rates),
        "macs_of_a_step": workload.macs,
    }


def compare(ours: Candidate, stock: Candidate) -> dict[str, Any]:
    """Whether the logits are equal, and the largest difference of a gradient, relative to the
    largest gradient of the same parameter."""
    found = [one.loss_with_logits() for one in (ours, stock)]
    gradients = [one.weight_gradients() for one in (ours, stock)]
    return {
        "equal_logits": bool((found[0][1] == found[1][1]).all()),
        "largest_gradient_difference": max(
            float((a - b).abs().max() / b.abs().max()) for a, b in zip(*gradients, strict=True)
        ),
    }


def _memory_in_child(name: str) -> dict[str, int]:
    """Largest resident memory of a process of its own, before the first step and in all."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", name],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def report_memory(name: str) -> None:
    """Run a few steps and print the memory as JSON: what a child process does."""
    from compiler.steps import peak_memory_bytes

    candidate = CANDIDATES[name](make_workload())
    before = peak_memory_bytes()
    for _ in range(MEMORY_STEPS):
        candidate.step()
    print(json.dumps({"before_the_first_step": before, "peak": peak_memory_bytes()}))


if __name__ == "__main__":
    report_memory(sys.argv[1])
