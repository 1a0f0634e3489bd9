"""`python benchmarks/run.py`: ours and the peers, measured in turn on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SUBJECTS = ("simulator", "training", "synthesis")
ROUNDS = {"simulator": 5, "training": 7, "synthesis": 3}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("subject", type=click.Choice(SUBJECTS))
@click.option("--json", "json_file", type=click.Path(path_type=Path),
              help="Write a JSON file too; - for the standard output alone.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1),
              help="Rounds, ours and the peers in turn [5, 7 and 3].")  # fmt: skip
@click.option("--quick", is_flag=True, help="Small sizes: shows that it runs, measures nothing.")
def bench(subject: str, json_file: Path | None, rounds: int | None, quick: bool) -> None:
    """Measure SUBJECT, this project and its peers in turn, and print the medians.

    simulator: samples per second of the integer simulator against Lava; training: steps per
    second of spike-based training against stock lava-dl; synthesis: images per second against
    the published recipe. benchmarks/README.md says how to read the figures.
    """
    from benchmarks.common import measure_subject
    from compiler.commandline import check_writable, to_stdout, write_json

    if json_file is not None:
        check_writable(json_file)
    figures = measure_subject(subject, rounds or ROUNDS[subject], quick)
    if json_file is not None:
        write_json(json_file, figures)
    if not to_stdout(json_file):
        _show(figures)


def _show(figures: dict[str, Any]) -> None:
    from compiler.commandline import make_console, plain_table

    console = make_console()
    rows = [("ours", f"{figures['ours']:.3g}", "")]
    for name, value in figures["peers"].items():
        quicker = figures["speedup"][name]
        rows.append((name, _number(value), "" if quicker is None else f"{quicker:.1f} times"))
    console.print(plain_table(["", figures["unit"], "ours is quicker"], rows))
    if figures["roofline_fraction"] is not None:
        share = f"{figures['roofline_fraction']:.2f} of the measured limit"
        console.print(f"{share} ({figures['roofline']})")
    for note in figures["notes"]:
        console.print(f"note: {note}")


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(bench, "benchmarks.run", arguments)


if __name__ == "__main__":
    sys.exit(main())
