"""`python -m benchmarks.crossover`: from which activity on a table of sums beats adding rows.

The engine adds a row of weights for every spike, or looks up the sum of every eight inputs.
Both are timed on single layers and random spikes, on one thread; what is printed is the time of
the table over the time of the rows, and the activity where it falls below 1. The constants
compiler.chip.engine.tables.CROSSOVERS are read off its output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ACTIVITIES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
LAYERS = (
    (1, 16, 28, 1), (16, 16, 16, 1), (16, 32, 28, 2), (32, 64, 14, 2), (64, 64, 16, 1),
    (64, 128, 16, 1), (128, 128, 16, 1),
)  # fmt: skip
"""Channels in and out, height and width of the input, stride; kernels are 3 x 3."""

TIMESTEPS, SAMPLES, ROUNDS = 32, 4, 5


def ratios(channels: int, outputs: int, size: int, stride: int) -> tuple[int, list[float]]:
    """Bytes of a tile's weights; time of the table over that of the rows at each activity."""
    import numpy as np

    from benchmarks.common import alternate
    from compiler.chip.engine.plan import plan_layers
    from compiler.chip.engine.tables import Table, pattern_sums

    generator = np.random.default_rng(0)
    plan = plan_layers(
        [_layer(channels, outputs, size, stride, generator)], (channels, size, size)
    )[0]
    rows, looked_up = replace(plan), replace(plan)
    rows.__dict__["table"] = None
    looked_up.__dict__["table"] = Table(pattern_sums(plan.weight, plan.runs), 0.0)
    found = []
    for activity in ACTIVITIES:
        shape = (TIMESTEPS, SAMPLES, size, size, channels)
        spikes = (generator.random(shape) < activity).astype(np.uint8)
        seconds = alternate(
            {"rows": lambda s=spikes: _run(rows, s), "table": lambda s=spikes: _run(looked_up, s)},
            ROUNDS,
        )
        found.append(min(seconds["table"]) / min(seconds["rows"]))
    return int(plan.weight[0, 0].nbytes), found


def _layer(channels: int, outputs: int, size: int, stride: int, generator: Any) -> Any:
    import numpy as np

    from compiler.ir.chip import ChipLayer, CubaFields
    from compiler.ir.geometry import ConvGeometry, frozen

    geometry = ConvGeometry((stride, stride), ((1, 1), (1, 1)))
    weight = frozen(2 * generator.integers(-10, 10, (outputs, channels, 3, 3)), np.int32)
    shape = (outputs, *geometry.output_size((size, size), (3, 3)))
    before = (channels, size, size)
    return ChipLayer("layer", "conv", before, shape, weight, None, CubaFields(200), geometry)


def _run(plan: Any, spikes_tnhwc: Any) -> None:
    from compiler.chip.engine.run import run_spikes

    run_spikes((plan,), spikes_tnhwc)


def lines() -> Iterator[str]:
    """The table as text."""
    yield "tile, bytes" + "".join(f"{activity:8.2f}" for activity in ACTIVITIES) + "   quicker from"
    for layer in LAYERS:
        size, found = ratios(*layer)
        better = [a for a, ratio in zip(ACTIVITIES, found, strict=True) if ratio < 1]
        ends = f"{min(better):.2f}" if better else "never"
        yield f"{size:11d}" + "".join(f"{ratio:8.2f}" for ratio in found) + f"   {ends}"


if __name__ == "__main__":
    import os

    os.environ["OMP_NUM_THREADS"] = "1"  # the engine takes no more threads than this
    sys.path.insert(0, str(ROOT))
    for line in lines():
        print(line, flush=True)
