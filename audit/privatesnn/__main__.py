"""`python -m audit.privatesnn`: PrivateSNN as published, in float, before the audit's attacks."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audit.leakage import Names
from compiler.commandline import check_writable, run_command, write_json

if TYPE_CHECKING:
    from audit.privatesnn.settings import Settings

_NUMBERS = ("timesteps", "epochs", "images", "threshold_images")
_MOST_WITHOUT_ANSWER = 0.01


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--preset", default="digits", show_default=True, help="digits, fashion-mnist, ...: "
              "architecture and data.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder for networks, images and the result.")  # fmt: skip
@click.option("--ann", type=click.Path(path_type=Path), metavar="FILE",
              help="ANN of examples/train_ann.py --no-bias [the one kept].")  # fmt: skip
@click.option("--arch", help="Architecture of FILE [the preset's].")
@click.option("--data", help="Images, as for sim.run [the preset's].")
@click.option("--timesteps", type=click.IntRange(1), default=100, show_default=True,
              help="T of the spiking network.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True,
              help="Of the training in the spiking domain.")  # fmt: skip
@click.option("--images", type=click.IntRange(32), help="Synthetic images to train on "
              "[5000; 1000 with --quick].")  # fmt: skip
@click.option("--threshold-images", type=click.IntRange(0), default=2048, show_default=True,
              help="Of them that balance thresholds; 0 leaves every threshold at 1.")  # fmt: skip
@click.option("--attacks", type=Names(), default=(), help="Make these attacks alone.")
@click.option("--judges", type=click.Path(path_type=Path), metavar="DIR",
              help="Judges made by audit.judges.train [those kept for the data].")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Write the result here too, beside DIR/audit.json.")  # fmt: skip
@click.option("--quick", is_flag=True, help="The audit's small budgets, and fewer images.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of everything random but the ANN.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print errors alone.")
def privatesnn(json_file: Path | None, quiet: bool, **options: Any) -> None:
    """Convert and train an ANN without biases as PrivateSNN describes it, and audit the result.

    Writes DIR/audit.json, in the form of audit.leakage with the stages beside it, and contact
    sheets into DIR/private/audit. An interrupted run goes on where it stopped.
    """
    from audit.inputs import PRIVATE
    from audit.privatesnn.run import Request, run_baseline
    from audit.sheets import write_sheets
    from audit.show import QuietScreen, Screen, show
    from compiler.report import audit_file
    from compiler.run_folder import locked

    out = options["out"]
    _check_folder(out)
    (out / PRIVATE).mkdir(parents=True, exist_ok=True)
    for file in (out / audit_file(), json_file):
        if file is not None:
            check_writable(file)
    numbers = {name: options.pop(name) for name in _NUMBERS}
    settings = _settings(options["quick"], **numbers)
    command = shlex.join(["python", "-m", "audit.privatesnn", *sys.argv[1:]])
    screen = QuietScreen() if quiet else Screen()
    try:
        with locked(out):
            request = Request(settings=settings, command=command, **options)
            outcome = run_baseline(request, screen)
            outcome.fields["pictures"] = []
            write_sheets(out / PRIVATE, outcome.images, outcome.data)
            for file in (out / audit_file(), json_file):
                if file is not None:
                    write_json(file, outcome.fields)
    finally:
        screen.close()
    if not quiet:
        _show_stages(outcome.fields["privatesnn"])
        show(outcome.fields)


def _check_folder(out: Path) -> None:
    """UsageError for a file, or for the folder of a compile, whose audit this would replace."""
    found = next((out / name for name in ("manifest.json", "model.net")
                  if (out / name).exists()), None)  # fmt: skip
    if found is not None:
        raise click.UsageError(f"--out: {found} is a compile's: name a folder of its own")
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"--out: {out} is a file: name a folder")


def _settings(
    quick: bool, timesteps: int, epochs: int, images: int | None, threshold_images: int
) -> Settings:
    from audit.privatesnn.settings import Settings, fewer_images

    settings = Settings(timesteps=timesteps, threshold_images=threshold_images)
    settings = replace(settings, training=replace(settings.training, epochs=epochs))
    if images is None and quick:
        images = 1_000
    return settings if images is None else fewer_images(settings, images)


def _show_stages(found: dict[str, Any]) -> None:
    """A line a stage: accuracy, that of its weights in a network of ReLUs, how far they moved."""
    from compiler.commandline import make_console, plain_table

    def percent(value: float) -> str:
        return f"{value:.1%}"

    rows = [
        [
            name,
            percent(stage["accuracy"]),
            percent(stage["ann_agreement"]),
            percent(stage["reconverted"]["relu"]),
            percent(stage["reconverted"]["clipped_relu"]),
            ", ".join(percent(change) for change in stage.get("weight_change", {}).values()),
        ]
        for name, stage in found["stages"].items()
    ]
    columns = ("network", "accuracy", "as the ANN", "ReLU", "clipped ReLU", "weights moved")
    console = make_console()
    console.print(plain_table(columns, rows))
    for name, stage in found["stages"].items():
        if stage["without_answer"] > _MOST_WITHOUT_ANSWER:
            console.print(
                f"{name}: silent on {percent(stage['without_answer'])} of the test images: no "
                "spike reaches its last layer. Its figures tell of that and not of the method: "
                "give it more time-steps (--timesteps)."
            )


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    goes_on = "interrupted; the same command goes on with what is already there"
    return run_command(privatesnn, "audit.privatesnn", arguments, goes_on)


if __name__ == "__main__":
    sys.exit(run())
