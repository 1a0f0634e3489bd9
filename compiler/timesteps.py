"""What every number of time-steps gives and costs: before training, and of the finished file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from compiler.chip.fields import TIMESTEP_CHOICES
from compiler.conversion import TimestepChoice
from compiler.ir.chip import ChipGraph
from compiler.ir.geometry import Array
from compiler.judge import Judge
from compiler.parts import parts
from compiler.quantization import quantize
from sim.costs import cost_rows
from sim.reference import simulate
from sim.results import SimulationResult

MOST_CHOICE_SAMPLES = 128
"""Images for the energy at every number of time-steps that a choice is made from."""


def choice_row(choice: TimestepChoice, images_nchw: Array, margin: float) -> dict[str, Any]:
    """The report's `conversion.timestep_choice`.

    images_nchw: the held-out synthetic images; the energy is that of the converted network's
    integers over the first MOST_CHOICE_SAMPLES of them.
    """
    images = images_nchw[:MOST_CHOICE_SAMPLES]
    tried = []
    for one in choice.tried:
        chip = quantize(one.conversion.graph)
        row = {
            "timesteps": one.timesteps,
            "weighted_agreement": one.weighted_agreement,
            **asdict(one.conversion.chosen),
        }
        tried.append(row | cost_at(chip, simulate(chip, images)))
    return {
        "timesteps": choice.timesteps,
        "margin": margin,
        "best": choice.best,
        "wanted": choice.wanted,
        "samples": len(images_nchw),
        "energy_samples": len(images),
        "tried": tried,
    }


def choice_in_words(choice: TimestepChoice) -> str:
    """What was chosen, and what the best that was tried reaches."""
    shares = {one.timesteps: one.weighted_agreement for one in choice.tried}
    best = max(shares, key=lambda steps: shares[steps])
    return (
        f"T = {choice.timesteps}: agrees with the ANN by {shares[choice.timesteps]:.1%} on "
        f"held-out synthetic images, weighted by how sure it is of them; the best of "
        f"{len(shares)}, T = {best}, by {choice.best:.1%}"
    )


def accuracy_by_timestep(
    chip: ChipGraph,
    judge: Judge,
    result: SimulationResult,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """The same integers run for fewer time-steps, and for all; nothing is balanced again.

    result: the run of all time-steps. Every run is over all images; accuracy is None without
    labels. progress: in shares of all runs together.
    """
    images = judge.images_nchw
    fewer = [steps for steps in TIMESTEP_CHOICES if steps < result.timesteps]
    shares = parts(progress, fewer)
    runs = [
        *(
            simulate(chip, images, timesteps=t, progress=p)
            for t, p in zip(fewer, shares, strict=True)
        ),
        result,
    ]
    rows = []
    for run in runs:
        answers_n = run.predictions_n
        row = {
            "timesteps": run.timesteps,
            "accuracy": judge.accuracy(answers_n),
            "ann_agreement": judge.ann_agreement(answers_n),
            "samples": len(images),
        }
        rows.append(row | cost_at(chip, run))
    return rows


def cost_at(chip: ChipGraph, result: SimulationResult) -> dict[str, Any]:
    """What a run costs in brief, to be set against other numbers of time-steps.

    synops_per_sample: zero weights included; snn_joules: dynamic energy of the whole network by
    "model, convention", without models that have no values here.
    """
    costs = cost_rows(chip, result, ())
    return {
        "synops_per_sample": sum(row["synops_per_sample"] for row in costs["layers"]),
        "snn_joules": {
            f"{row['model']}, {row['convention']}": row["snn_joules"]
            for row in costs["energy"]
            if row["includes_input_layer"] and row["snn_joules"] is not None
        },
    }
