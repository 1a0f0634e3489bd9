"""What the studies of whole compiles share: running a module, stages made once, means."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.synthetic import SyntheticSet
    from compiler.request import CompileRequest

ROOT = Path(__file__).resolve().parents[1]


def run(module: str, *arguments: str) -> None:
    """`python -m module arguments`; ClickException with its status if it fails."""
    run_python("-m", module, *arguments)


def run_python(*arguments: str) -> None:
    """`python arguments`; ClickException with its status if it fails."""
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment)
    if done.returncode:
        raise click.ClickException(f"python {' '.join(arguments)} ended with {done.returncode}")


def subject_flags(subject: str) -> tuple[str, ...]:
    """Flags of the compile that name a preset, or a network by its configuration FILE.toml."""
    return ("--config" if subject.endswith(".toml") else "--preset", subject)


def subject_name(subject: str) -> str:
    """What a preset's or a configuration's folders begin with."""
    return Path(subject).stem


def compile_like(folder: Path, like: Path, *flags: str, quiet: bool = True) -> None:
    """Compile into `folder`, on the stages that the finished folder `like` has."""
    if not folder.exists() and like != folder and like.is_dir():
        beside = folder.with_name(f".{folder.name}.copy")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(like, beside, ignore=shutil.ignore_patterns("lock", "audit*.json"))
        beside.rename(folder)
    run("compiler.export", "--out", str(folder), *(["--quiet"] if quiet else []), *flags)


def report_of(folder: Path) -> dict[str, Any]:
    """report.json of a finished compile."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def request_of(*flags: str) -> CompileRequest:
    """What `compiler.export` would be asked by these flags; UsageError where it refuses them."""
    from compiler.export import export
    from compiler.options import make_request

    return make_request(export.make_context("export", list(flags)).params, "")


def accuracies(report: dict[str, Any]) -> dict[str, float]:
    """Accuracy of every stage of a compile that was measured on all its real images.

    Lava's is left out where it ran on fewer of them.
    """
    found = {
        stage["name"]: stage["accuracy"]
        for stage in report["stages"]
        if stage["samples"] == report["evaluation"]["samples"]
    }
    if None in found.values():
        raise click.ClickException("no labelled images: set PRIVATE_SNN_DATA to their folder")
    return found


ENERGY_MODEL = "loihi1-davies-2018"


def synops(report: dict[str, Any]) -> float:
    """Synaptic operations of a sample, all layers together."""
    return float(sum(layer["synops_per_sample"] for layer in report["layers"]))


def chip_joules(report: dict[str, Any]) -> float:
    """Energy of a sample by ENERGY_MODEL, the input layer included."""
    return next(
        float(row["snn_joules"])
        for row in report["energy"]
        if row["model"] == ENERGY_MODEL and row["includes_input_layer"]
    )


def training_images(data: str, graph: AnnGraph, count: int, seed: int) -> SyntheticSet:
    """`count` real training images in the form of synthetic ones, half of them held out.

    What the compile never has: studies show with it what synthetic images cost.
    """
    import numpy as np
    from scipy.special import softmax

    from compiler.ir.run_ann import run_ann
    from compiler.ir.synthetic import SyntheticSet
    from sim.datasets import load_dataset

    images = load_dataset(data, graph.input_shape, count, seed, part="train").images_nchw
    logits = run_ann(graph, images)
    pixels = np.round(images * 255).astype(np.uint8)
    return SyntheticSet(pixels, softmax(logits, 1).astype(np.float32), logits, len(pixels) // 2)


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and standard deviation."""
    found = list(values)
    deviation = statistics.stdev(found) if len(found) > 1 else 0.0
    return f"{statistics.mean(found):,.{digits}f} ± {deviation:,.{digits}f}"


def rows_kept(path: Path, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that an interrupted study wrote to `path`, if it was asked the same; else none."""
    if not path.is_file() or not path.stat().st_size:
        return []
    found = json.loads(path.read_text())
    rows: list[dict[str, Any]] = found["rows"] if found["asked"] == asked else []
    return rows


def whole_numbers(text: str) -> list[int]:
    """Comma-separated whole numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{text!r} is no list of whole numbers such as 0,1,2") from None
