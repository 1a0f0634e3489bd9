"""`python -m netx_export.nir_convert SOURCE TARGET`: NetX to NIR, or NIR to NetX."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compiler.commandline import run_command
from compiler.errors import Problem, UsageError, one_problem

if TYPE_CHECKING:
    from compiler.ir.chip import ChipGraph
    from netx_export.reader import NetxFile

NIR, NETX = ".nir", ".net"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@click.argument("target", metavar="TARGET", type=click.Path(path_type=Path))
@click.option("--integrator", type=click.Choice(["IF", "LIF"]), default="IF", show_default=True,
              help="NIR node of a neuron without decays; LIF for snnTorch.")  # fmt: skip
@click.option("--dt", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Length of a time-step, for leaky neurons in a file without it.")  # fmt: skip
@click.option("--timesteps", type=int, help="Time-steps a sample, for a file that does not say.")
@click.option("--encoding", type=click.Choice(["rate", "poisson", "latency"]),
              help="Input code, for a file that does not say.")  # fmt: skip
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
    if kinds == (NETX, NIR):
        _to_nir(source, target, integrator)
    elif kinds == (NIR, NETX):
        _to_netx(source, target, dt, timesteps, encoding)
    else:
        raise one_problem(
            UsageError, "nothing to convert", " ".join((source.name, target.name)),
            f"endings {kinds[0] or 'none'} and {kinds[1] or 'none'}", "one .net and one .nir",
            "name the files so",
        )  # fmt: skip


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
    from netx_export.deployment import deployment_of
    from netx_export.nir_reader import read_nir
    from netx_export.writer import write_netx

    file = read_nir(source, dt=dt)
    graph = _complete(file.graph, source, timesteps, encoding)
    deployment = file.deployment if graph is file.graph else None
    write_netx(graph, target, deployment or deployment_of(graph))


def _complete(
    graph: ChipGraph, source: Path, timesteps: int | None, encoding: str | None
) -> ChipGraph:
    """The graph with time-steps and input code; every one that nobody says in one error."""
    from compiler.ir.snn import Encoding

    problems = []
    if graph.timesteps is None and timesteps is None:
        found = "no number of time-steps"
        problems.append(Problem(source.name, found, "a power of two", "give --timesteps"))
    if graph.encoding is None and encoding is None:
        found = "no input code"
        problems.append(Problem(source.name, found, "rate, poisson, latency", "give --encoding"))
    if problems:
        raise UsageError("the file does not say how to run it", problems)
    if timesteps is not None:
        graph = replace(graph, timesteps=timesteps)
    if encoding is not None:
        graph = replace(graph, encoding=Encoding(encoding))  # type: ignore[arg-type]
    return graph


def _warn(file: NetxFile) -> None:
    for problem in file.violations:
        click.echo(f"note: {problem}", err=True)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    return run_command(convert, "netx_export.nir_convert", arguments)


if __name__ == "__main__":
    sys.exit(run())
