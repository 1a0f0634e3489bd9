"""`python -m compiler.export`: a trained network in, model.net and a report out."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compiler.commandline import (
    check_writable,
    json_option,
    run_command,
    to_stdout,
    write_json,
)
from compiler.distributed import open_world

if TYPE_CHECKING:
    from compiler.request import CompileRequest

STAGES = (
    "load",
    "lower",
    "synthesize",
    "convert",
    "encrypt",
    "quantize",
    "export",
    "verify",
    "evaluate",
    "report",
)


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated numbers."""

    name = "a,b,c"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 0.5,0.5,0.5", param, ctx)


class _Shape(click.ParamType):  # type: ignore[type-arg]
    """Channels, height, width."""

    name = "C,H,W"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        parts = str(value).split(",")
        if len(parts) != 3 or not all(re.fullmatch(r"[1-9]\d*", part, re.ASCII) for part in parts):
            self.fail(f"{value!r} is no image size such as 3,32,32", param, ctx)
        return tuple(int(part) for part in parts)


class _Timesteps(click.ParamType):  # type: ignore[type-arg]
    """A number, or the word that has it chosen."""

    name = "T|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        text = str(value)
        if text != "auto" and not re.fullmatch(r"-?\d+", text, re.ASCII):
            self.fail(f"{value!r} is neither a number of time-steps nor `auto`", param, ctx)
        return text if text == "auto" else int(text)


class _Path(click.Path):
    """A path that is not empty, which would stand for the folder at hand."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value == "":
            self.fail("an empty text; name a path, or leave the option out", param, ctx)
        return super().convert(value, param, ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("model", required=False)
@click.option(
    "--preset", help="Compile a network kept with the package: digits, fashion-mnist, cifar10."
)
@click.option("--out", type=_Path(path_type=Path), help="Folder to write to [runs/NAME].")
@click.option("--arch", help="Architecture whose weights a .safetensors file holds.")
@click.option("--mean", type=_Numbers(), help="Normalisation: subtracted from pixels in [0, 1].")
@click.option("--std", type=_Numbers(), help="Normalisation: pixels are divided by it.")
@click.option("--layout", type=click.Choice(["nchw", "nhwc"]), help="Axis order of an ONNX input.")
@click.option("--input-shape", type=_Shape(),
              help="Size of the images, where the model does not tell.")  # fmt: skip
@click.option("--timesteps", type=_Timesteps(),
              help="Time-steps a sample, a power of two [32]; auto: as few as agree.")  # fmt: skip
@click.option("--encoding", type=click.Choice(["rate", "poisson", "latency"]), help="Input code.")
@click.option("--recipe", help="Recipe of the spike-based training [distill].")
@click.option("--target", help="Refuse what this chip cannot hold: loihi1 or loihi2.")
@click.option("--seed", type=int, help="Seed of everything random [0].")
@click.option("--from", "first", type=click.Choice(STAGES), help="Run again from this stage on.")
@click.option("--to", "last", type=click.Choice(STAGES), help="Stop after this stage.")
@click.option("--eval", "evaluation", help="Labelled images to measure on, or `none`.")
@click.option("--samples", type=click.IntRange(1), help="Measure on so many images, evenly drawn.")
@click.option("--lava-samples", type=click.IntRange(0),
              help="Samples compared spike by spike in Lava [8].")  # fmt: skip
@click.option("--pictures", is_flag=True, default=None,
              help="Show synthetic images and the input's spikes in report.html.")  # fmt: skip
@click.option("--config", type=_Path(path_type=Path), metavar="FILE.toml",
              help="Flags and settings as a TOML file; flags given here win.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="TABLE.NAME=VALUE",
              help="One setting, as a line of that file; may be repeated.")  # fmt: skip
@json_option("what report.json holds")
@click.option("--quiet", is_flag=True, help="Print errors alone.")
@click.option("--doctor", is_flag=True, help="Check this machine, say what to fix, and end.")
def export(**options: Any) -> None:
    """Compile a trained network, without its data, into a private spiking network for Loihi.

    MODEL is a .onnx file, a .safetensors file with --arch, or pkg.module:factory; it is fed
    pixels in [0, 1], minus --mean, over --std. Without MODEL and --preset the embedded
    default is compiled: preset digits. Only DIR/model.net, and the same network as
    DIR/model.nir, are made to leave the house.
    Under torchrun the processes share the training's batches.
    """
    first, last, quiet = options.pop("first"), options.pop("last"), options.pop("quiet")
    json_file = options.pop("json_file")
    if json_file is not None:
        check_writable(json_file)
    if options.pop("doctor"):
        from compiler.doctor import diagnose

        click.get_current_context().exit(diagnose(options["out"], quiet, json_file))
    _check_order(first, last)
    _check_json(json_file, last)
    request = _request(options)
    with open_world() as world:
        if world.main:
            _compile(replace(request, world=world), quiet, first, last, json_file)
        else:
            from compiler.helpers import help_along

            help_along(world)


def _compile(
    request: CompileRequest,
    quiet: bool,
    first: str | None,
    last: str | None,
    json_file: Path | None,
) -> None:
    """The compile of the main process; JSON on the standard output has it for itself."""
    from compiler.pipeline import compile_network

    screen = _screen(quiet, stderr=to_stdout(json_file))
    try:
        folder = compile_network(request, screen, first, last)
    finally:
        screen.close()
        request.world.tell(None)
    if json_file is not None:
        write_json(json_file, json.loads((folder.path / "report.json").read_text()))
    if not to_stdout(json_file):
        screen.finish(folder.path, complete=last in (None, "report"))


def _check_order(first: str | None, last: str | None) -> None:
    if first and last and STAGES.index(first) > STAGES.index(last):
        raise click.UsageError(f"--from {first} comes after --to {last}")


def _check_json(json_file: Path | None, last: str | None) -> None:
    if json_file is not None and last not in (None, "report"):
        raise click.UsageError(f"--json needs the stage `report`, and --to {last} stops before it")


def _request(options: dict[str, Any]) -> CompileRequest:
    """The command line as a request."""
    from compiler.options import make_request

    if options["model"] and options["preset"]:
        raise click.UsageError("give a MODEL or --preset, not both")
    return make_request(options, shlex.join(["python", "-m", "compiler.export", *sys.argv[1:]]))


def _screen(quiet: bool, stderr: bool) -> Any:
    from compiler.screen import QuietScreen, Screen

    return QuietScreen() if quiet else Screen(STAGES, stderr)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    goes_on = "interrupted; the same command goes on from the last finished stage"
    return run_command(export, "compiler.export", arguments, goes_on)


if __name__ == "__main__":
    sys.exit(run())
