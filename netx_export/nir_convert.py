"""`python -m netx_export.nir_convert SOURCE TARGET`: NetX to NIR, or NIR to NetX."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from compiler.commandline import check_writable, run_command
from compiler.errors import Problem, UsageError, one_problem

if TYPE_CHECKING:
    from compiler.ir.chip import ChipGraph
    from netx_export.deployment import Deployment
    from netx_export.reader import NetxFile

NIR, NETX = ".nir", ".net"
OF_NIR, OF_NETX = ("integrator",), ("dt", "timesteps", "encoding")
"""Options that say how a NIR file is written, and how a NetX file is made of one."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="TARGET", type=click.Path(path_type=Path))
@click.option("--integrator", type=click.Choice(["IF", "LIF"]), default="IF", show_default=True,
              help="NIR node of a neuron without decays; LIF for snnTorch.")  # fmt: skip
@click.option("--dt", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Length of a time-step, for leaky neurons in a file without it.")  # fmt: skip
@click.option(
    "--timesteps",
    type=int,
    help="Time-steps a sample, for a file that does not say, or other ones.",
)
@click.option("--encoding", type=click.Choice(["rate", "poisson", "latency"]),
              help="Input code, for a file that does not say, or another one.")  # fmt: skip
def convert(
    source: Path,
    target: Path,
    integrator: str,
    dt: float | None,
    timesteps: int | None,
    encoding: str | None,
) -> None:
    """Write the network of SOURCE to TARGET in the other format.

    One of the two ends in .net (NetX, for lava-dl and Loihi), the other in .nir. Nothing is
    rounded: a network whose numbers are not the chip's is refused with everything that is
    not. A file of this project becomes the same again on the way back.
    """
    _check_no_folders(source, target)
    kinds = (source.suffix, target.suffix)
    if kinds not in ((NETX, NIR), (NIR, NETX)):
        raise one_problem(
            UsageError, "nothing to convert", " ".join((source.name, target.name)),
            f"endings {kinds[0] or 'none'} and {kinds[1] or 'none'}", "one .net and one .nir",
            "name the files so",
        )  # fmt: skip
    _check_options(target.suffix, dt)
    check_writable(target)
    if target.suffix == NIR:
        _to_nir(source, target, integrator)
    else:
        _to_netx(source, target, dt, timesteps, encoding)


def _check_options(ending: str, dt: float | None) -> None:
    """UsageError with every option that does nothing for such a target, and a dt without end."""
    context = click.get_current_context()
    allowed, refused = (OF_NIR, OF_NETX) if ending == NIR else (OF_NETX, OF_NIR)
    may = ", ".join(f"--{name}" for name in allowed)
    problems = [
        Problem(f"--{name}", f"a target ending in {ending}", may, "leave it out")
        for name in refused
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if dt is not None and not math.isfinite(dt):
        problems.append(Problem("--dt", str(dt), "a number above 0", "give seconds, as 1e-4"))
    if problems:
        raise UsageError("the options do not fit", problems)


def _check_no_folders(source: Path, target: Path) -> None:
    from netx_export.checks import no_file

    inside = "model.nir" if target.suffix == NETX else "model.net"
    remedies = {target: "name a file in it"} if target.is_dir() else {}
    if source.is_dir():
        remedies[source] = no_file(source, inside)[1]
    problems = [
        Problem(str(path), "a folder", "a file that ends in .net or .nir", remedy)
        for path, remedy in remedies.items()
    ]
    if problems:
        raise UsageError("nothing to convert", problems)


def _to_nir(source: Path, target: Path, integrator: str) -> None:
    from netx_export.nir_writer import write_nir
    from netx_export.reader import read_netx

    file = read_netx(source, lenient=True)
    if file.deployment is not None:
        file = read_netx(source)
    _warn(file)
    write_nir(file.graph, target, file.deployment, integrator=integrator)  # type: ignore[arg-type]


def _to_netx(
    source: Path, target: Path, dt: float | None, timesteps: int | None, encoding: str | None
) -> None:
    from netx_export.nir_reader import read_nir
    from netx_export.writer import write_netx

    file = read_nir(source, dt=dt)
    _check_complete(file.graph, source, timesteps, encoding)
    graph = _as_said(file.graph, source, timesteps, encoding)
    write_netx(graph, target, _deployment(graph, file.deployment))


def _deployment(graph: ChipGraph, said: Deployment | None) -> Deployment:
    """What the file says, with the graph's time-steps and input code."""
    from netx_export.deployment import deployment_of

    own = deployment_of(graph)
    return own if said is None else replace(said, timesteps=own.timesteps, encoding=own.encoding)


def _check_complete(
    graph: ChipGraph, source: Path, timesteps: int | None, encoding: str | None
) -> None:
    """UsageError with every one of time-steps and input code that nobody says."""
    problems = []
    if graph.timesteps is None and timesteps is None:
        found = "no number of time-steps"
        problems.append(Problem(source.name, found, "a power of two", "give --timesteps"))
    if graph.encoding is None and encoding is None:
        found = "no input code"
        problems.append(Problem(source.name, found, "rate, poisson, latency", "give --encoding"))
    if problems:
        raise UsageError("the file does not say how to run it", problems)


def _as_said(
    graph: ChipGraph, source: Path, timesteps: int | None, encoding: str | None
) -> ChipGraph:
    """The graph with the time-steps and the input code asked for; a note where it had others."""
    from compiler.ir.snn import Encoding

    before = graph.encoding
    if timesteps is not None:
        _note_override("timesteps", timesteps, graph.timesteps, source)
        graph = replace(graph, timesteps=timesteps)
    if encoding is not None:
        _note_override("encoding", encoding, before and before.code, source)
        graph = replace(graph, encoding=replace(before or Encoding(), code=encoding))  # type: ignore[arg-type]
    return graph


def _note_override(option: str, asked: object, said: object, source: Path) -> None:
    if said not in (None, asked):
        click.echo(f"note: --{option} {asked} replaces {said}, which {source.name} says", err=True)


def _warn(file: NetxFile) -> None:
    for problem in file.violations:
        click.echo(f"note: {problem}", err=True)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    return run_command(convert, "netx_export.nir_convert", arguments)


if __name__ == "__main__":
    sys.exit(run())
