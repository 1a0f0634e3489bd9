"""`python -m audit.leakage`: what an attacker still reads out of a compiled network."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compiler.commandline import check_writable, json_option, run_command, to_stdout, write_json

if TYPE_CHECKING:
    from audit.measure import Outcome


class Names(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated names."""

    name = "a,b,c"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """The names without blanks around them."""
        if isinstance(value, tuple):
            return value
        return tuple(name for name in (part.strip() for part in str(value).split(",")) if name)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option("--data", help="Images the network was trained for, as for sim.run [those the "
              "compile was evaluated on].")  # fmt: skip
@json_option("what RUN_DIR/audit.json holds")
@click.option("--quick", is_flag=True,
              help="Small budgets: a small network takes minutes instead of an hour.")  # fmt: skip
@click.option("--attacks", type=Names(), default=(), help="Make these attacks alone.")
@click.option("--withheld", type=click.IntRange(0), default=0, metavar="N",
              help="The first N layers stay on the host (compiler.split): the attacker has "
              "the others alone.")  # fmt: skip
@click.option("--judges", type=click.Path(path_type=Path), metavar="DIR",
              help="Judges made by audit.judges.train [those kept for the data].")  # fmt: skip
@click.option("--inception", type=click.Path(path_type=Path), metavar="FILE",
              help="Inception weights (.safetensors) for FID and KID as published.")  # fmt: skip
@click.option("--pictures", is_flag=True, help="Put the contact sheets into report.html too; "
              "their first rows are real test images.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of everything random.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print errors alone.")
def leakage(json_file: Path | None, pictures: bool, quiet: bool, **options: Any) -> None:
    """Measure what an attacker who holds RUN_DIR/model.net can read out of it.

    Attacks make images of every class from the trained network, from the converted one, from
    model.net and from random weights; judges that never saw these networks say what they
    recognise. Writes RUN_DIR/audit.json (audit-withheld-N.json with --withheld N), contact sheets
    into RUN_DIR/private/audit, and a section of RUN_DIR/report.html. An interrupted audit goes on
    where it stopped.
    """
    from audit.measure import run_audit
    from audit.plan import Request
    from audit.show import QuietScreen, Screen, show
    from compiler.finished_run import open_finished_run
    from compiler.run_folder import locked

    if json_file is not None:
        check_writable(json_file)
    command = shlex.join(["python", "-m", "audit.leakage", *sys.argv[1:]])
    screen = QuietScreen() if quiet else Screen(stderr=to_stdout(json_file))
    try:
        with locked(open_finished_run(options["run_dir"]).path):
            outcome = run_audit(Request(command=command, **options), screen)
            written = _write(options["run_dir"], outcome, pictures)
    finally:
        screen.close()
    if json_file is not None:
        write_json(json_file, outcome.fields)
    if not quiet and not to_stdout(json_file):
        show(outcome.fields)
        click.echo("\n" + "\n".join(written))


def _write(run_dir: Path, outcome: Outcome, pictures: bool) -> list[str]:
    """The result, the contact sheets and the page; returns what to say of them."""
    from audit.inputs import PRIVATE
    from audit.sheets import write_sheets
    from compiler.report import add_leakage, audit_file, read_audit

    withheld = outcome.fields["withheld_layers"]
    folder = PRIVATE / f"withheld-{withheld}" if withheld else PRIVATE
    result = run_dir / audit_file(withheld)
    lost = _lost(read_audit(result), outcome.fields)
    (run_dir / folder).mkdir(exist_ok=True)
    names = write_sheets(run_dir / folder, outcome.images, outcome.data)
    outcome.fields["pictures"] = [str(folder / name) for name in names] if pictures else []
    write_json(result, outcome.fields)
    add_leakage(run_dir)
    return [*lost, f"written: {result}, report.html; contact sheets in {run_dir / folder}"]


def _lost(before: dict[str, Any] | None, fields: dict[str, Any]) -> list[str]:
    """What the result that is replaced had and the new one has not."""
    lost = [name for name in (before or {}).get("attacks", ()) if name not in fields["attacks"]]
    if not lost:
        return []
    return [f"no longer in it: {', '.join(lost)}; without --attacks the audit takes them up again"]


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    goes_on = "interrupted; the same command goes on with what is already there"
    return run_command(leakage, "audit.leakage", arguments, goes_on)


if __name__ == "__main__":
    sys.exit(run())
