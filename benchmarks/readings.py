"""`python -m benchmarks.readings RUN_DIR`: which reading of the integers an attacker best inverts.

Every reading (audit.reconversion) of the converted network and of model.net is inverted as the
attack `image_prior` does, and beside the share that the judges recognise stands what an attacker
can tell beforehand: how often the reading agrees with the spiking network on images from random
numbers, and how far its images persuade that network in a short trial, by which the attack
chooses. The judges, and they alone, know real images.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from audit.attacks.common import Budget
    from audit.judges.judge import Judge
    from audit.reconversion import Reconversion
    from audit.subjects import Subject

PROBES = 256
"""Images from random numbers that agreement is measured on."""

SUBJECTS = ("converted", "encrypted")
COLUMNS = ("network", "reading", "agreement", "persuasion", "recognised")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("run_dir", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--only", type=click.Choice(SUBJECTS), multiple=True, help="Of these networks [both]."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too.")
def readings(run_dir: Path, only: tuple[str, ...], seed: int, json_file: Path | None) -> None:
    """Invert every reading of a finished compile's networks, with the budget of --quick."""
    from audit.inputs import load_judges_for, load_parts
    from audit.subjects import load_subjects
    from compiler.commandline import check_writable, make_console, plain_table, write_json
    from compiler.finished_run import open_finished_run

    if json_file is not None:
        check_writable(json_file)
    run = open_finished_run(run_dir)
    subjects = {subject.name: subject for subject in load_subjects(run_dir, seed)}
    ann = subjects["ann"].reconverted()
    judges = load_judges_for(load_parts(run, ann, None), ann, None)
    rows: list[dict[str, Any]] = []
    for name in only or SUBJECTS:
        for row in measure(subjects[name], judges, seed):
            rows.append(row)
            click.echo("  ".join(_line(row)), err=True)
            if json_file is not None:
                write_json(json_file, {"run": run_dir.name, "seed": seed, "rows": rows})
    make_console().print(plain_table(list(COLUMNS), [_line(row) for row in rows]))


def measure(
    subject: Subject, judges: tuple[Judge, ...], seed: int, budget: Budget | None = None
) -> Iterator[dict[str, Any]]:
    """A row for each reading of a spiking network."""
    import torch

    from audit.attacks import image_prior
    from audit.attacks.common import QUICK, Meter
    from audit.metrics.recognition import recognise
    from audit.reconversion import reconversions

    budget = budget or QUICK
    found = reconversions(subject, seed)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    told = image_prior.persuasions(subject, found, budget, generator(), Meter(None, 0))
    for reading, persuasion in zip(found, told.tolist(), strict=True):
        images, labels = image_prior.inverted(reading, subject, budget, generator(), Meter(None, 0))
        judged = recognise(judges, images.numpy(), labels.numpy())
        yield {
            "network": subject.name,
            "reading": reading.name,
            "agreement": _agreement(subject, reading, seed),
            "persuasion": persuasion,
            "recognised": judged.rate(seed).as_dict(),
        }


def _agreement(subject: Subject, reading: Reconversion, seed: int) -> float:
    """Share of images from random numbers on which reading and network answer alike."""
    import torch

    from compiler.ir.run_ann import run_ann
    from compiler.synthesis.start import start_images

    generator = torch.Generator().manual_seed(seed)
    probes = start_images(PROBES, subject.input_shape, generator).numpy()
    alike = run_ann(reading.graph, probes).argmax(1) == subject.logits(probes).argmax(1)
    return float(alike.mean())


def _line(row: dict[str, Any]) -> list[str]:
    rate = row["recognised"]
    half = 50 * (rate["high"] - rate["low"])
    return [
        row["network"],
        row["reading"],
        f"{row['agreement']:.1%}",
        f"{row['persuasion']:.2f}",
        f"{100 * rate['value']:.1f} ± {half:.1f} %",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(readings, "benchmarks.readings", arguments)


if __name__ == "__main__":
    sys.exit(main())
