"""Time and memory of a simulation and of a training step against everything that they grow with.

    python benchmarks/scale.py [--json FILE] [--markdown FILE] [--only simulate|train] [--quick]

Every point runs in a process of its own, so that its largest memory is its own. Networks have
random weights, thresholds balanced on random images; images are random.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from compiler.ir.snn import SnnGraph

SHAPES = {"digits-cnn": (1, 8, 8), "fashion-cnn": (1, 28, 28)}
VGG_SHAPE = (3, 32, 32)
CLASSES = 10
REPEATS = 3


@dataclass(frozen=True)
class Point:
    """What to run: `simulate` samples, or a training step (`train`) on a batch of them."""

    task: str
    network: str
    timesteps: int
    samples: int
    threads: int
    axis: str = ""


SIMULATE = Point("simulate", "fashion-cnn", 32, 512, 2)
TRAIN = Point("train", "fashion-cnn", 16, 50, 2)
VGG = ("vgg5", "vgg9", "vgg11", "vgg13", "vgg16")


def points(quick: bool) -> list[Point]:
    """Every point, by the axis that it lies on."""
    if quick:
        small = {"network": "digits-cnn", "timesteps": 4, "samples": 4, "axis": "T"}
        return [replace(one, **small) for one in (SIMULATE, TRAIN)]  # type: ignore[arg-type]
    found = [
        replace(one, timesteps=steps, axis="T")
        for one, choices in ((SIMULATE, (8, 16, 32, 64, 128)), (TRAIN, (4, 8, 16, 32, 64)))
        for steps in choices
    ]
    found += [replace(SIMULATE, samples=count, axis="samples") for count in (128, 512, 2048, 8192)]
    found += [replace(TRAIN, samples=count, axis="batch") for count in (10, 50, 100, 200)]
    found += [
        replace(one, network=name, samples=count, axis="network")
        for one, counts in ((SIMULATE, (512, 512, 32, 16, 16, 16, 16)), (TRAIN, (50, 50, *[8] * 5)))
        for name, count in zip((*SHAPES, *VGG), counts, strict=True)
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = [count for count in (1, 2, 4, 8, 16, 32) if count <= (cores or 1)]
    found += [
        replace(one, threads=count, axis="threads")
        for one in (SIMULATE, TRAIN)
        for count in threads
    ]
    return found


def random_network(name: str, timesteps: int) -> SnnGraph:
    """A spiking network of a named architecture, every pool folded into the layer behind it."""
    import numpy as np
    import torch

    from compiler.config import ConversionConfig
    from compiler.conversion import convert
    from compiler.frontend import ARCHITECTURES
    from compiler.frontend.torch_fx import read_module
    from compiler.ir.run_ann import run_ann
    from compiler.ir.snn import Encoding
    from compiler.ir.synthetic import SyntheticSet
    from compiler.passes import lower

    torch.manual_seed(0)
    shape = SHAPES.get(name, VGG_SHAPE)
    graph = lower(read_module(ARCHITECTURES[name](shape, CLASSES).eval(), shape, name)).graph
    images = np.random.default_rng(0).integers(0, 256, (18, *shape), dtype=np.uint8)
    logits = run_ann(graph, images.astype(np.float32) / np.float32(255))
    made = SyntheticSet(images, np.full_like(logits, 1 / CLASSES), logits, 2)
    settings = ConversionConfig(
        timesteps=timesteps, percentiles=(99.0,), threshold_scales=(1.0,), bias_passes=0, images=16
    )
    return convert(graph, made, settings, Encoding()).graph


def run_point(point: Point) -> dict[str, Any]:
    """Median seconds of a run, and its largest memory: what a child does.

    core_seconds: work of all threads, which other programs on the machine disturb least.
    """
    import numpy as np
    import torch

    torch.set_num_threads(point.threads)
    graph = random_network(point.network, point.timesteps)
    images = np.random.default_rng(1).random((point.samples, *graph.input_shape))
    call = {"simulate": _simulation, "train": _training}[point.task](
        graph, images.astype(np.float32)
    )
    call()
    before = _clear_peak()
    seconds, work = [], []
    for _ in range(REPEATS):
        started, worked = time.perf_counter(), time.process_time()
        call()
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - worked)
    return {
        **asdict(point),
        "seconds": statistics.median(seconds),
        "core_seconds": statistics.median(work),
        "samples_per_second": point.samples / statistics.median(seconds),
        "macs_a_sample": point.timesteps * _macs(graph),
        "memory_bytes": _memory("VmHWM"),
        "memory_between_runs_bytes": before,
    }


def _simulation(graph: SnnGraph, images: Any) -> Any:
    from compiler.quantization import quantize
    from sim.reference import simulate

    chip = quantize(graph)
    return lambda: simulate(chip, images)


def _training(graph: SnnGraph, images: Any) -> Any:
    import torch

    from compiler.chip.execute_float import encode_nhwc
    from compiler.encryption.network import SlayerNetwork, Surrogate

    network = SlayerNetwork(graph, Surrogate(1.0, 2 / graph.timesteps))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)

    def step() -> None:
        spikes = torch.from_numpy(encode_nhwc(images, graph))
        optimizer.zero_grad(set_to_none=True)
        network(spikes)[0].square().mean().backward()
        optimizer.step()

    return step


def _macs(graph: SnnGraph) -> int:
    """Multiply-accumulates of one time-step."""
    from compiler.ir.geometry import products

    return sum(products(layer.weight, layer.shape) for layer in graph.layers)


def _memory(field: str) -> int:
    """Bytes of resident memory (VmRSS), or the most of it so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return 0


def _clear_peak() -> int:
    """Forget the largest memory so far; returns what is taken now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def measure_in_child(point: Point) -> dict[str, Any]:
    """`run_point` in a process of its own; raises CalledProcessError with what it said."""
    threads = str(point.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "NUMBA_NUM_THREADS": threads}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), "--point", json.dumps(asdict(point))],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A table for every task and axis."""
    parts = []
    for task, axis in dict.fromkeys((row["task"], row["axis"]) for row in rows):
        chosen = [row for row in rows if (row["task"], row["axis"]) == (task, axis)]
        parts += [f"### {TITLES[task]} against {axis}", "", *_table(chosen), ""]
    return "\n".join(parts)


TITLES = {"simulate": "Simulation", "train": "Training step"}


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = ["network", "T", "samples", "threads", "million MAC a sample", "seconds",
            "core-ms a sample", "memory, MB"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row["network"], row["timesteps"], row["samples"], row["threads"],
            f"{row['macs_a_sample'] / 1e6:,.0f}", f"{row['seconds']:.3g}",
            f"{1e3 * row['core_seconds'] / row['samples']:.3g}",
            f"{row['memory_bytes'] / 1e6:,.0f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the tables.")
@click.option("--only", type=click.Choice(["simulate", "train"]), help="One of the two tasks.")
@click.option("--quick", is_flag=True, help="Two small points: shows that it runs.")
@click.option("--point", hidden=True, help="Run one point, given as JSON, in this process.")
def scale(
    json_file: Path | None, markdown: Path | None, only: str | None, quick: bool, point: str | None
) -> None:
    """Measure how time and memory grow with T, samples, batch, network and threads.

    An existing JSON file is continued: points that it has are not run again.
    """
    from benchmarks.common import machine
    from compiler.commandline import write_json

    if point is not None:
        click.echo(json.dumps(run_point(Point(**json.loads(point)))))
        return
    rows = json.loads(json_file.read_text())["points"] if json_file and json_file.exists() else []
    for one in points(quick):
        known = any(asdict(one).items() <= row.items() for row in rows)
        if known or only not in (None, one.task):
            continue
        rows.append(measure_in_child(one))
        click.echo(f"{one}: {rows[-1]['seconds']:.3g} s, {rows[-1]['memory_bytes'] / 1e6:,.0f} MB")
        if json_file:
            write_json(json_file, {"machine": machine(), "points": rows})
    if markdown:
        markdown.write_text(as_markdown(rows))


if __name__ == "__main__":
    scale()
