"""`python -m benchmarks.chip_size [NETWORK ...]`: what a network would take of each chip.

For every architecture named (CIFAR-10's shape, random weights, which cores do not see), pools
folded into the next layer or with neurons of their own: cores, chips, the layer with most cores
and the rules that it breaks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from benchmarks.large import CLASSES, SHAPE

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("networks", nargs=-1)
@click.option("--timesteps", type=int, default=64, show_default=True)
@click.option("--layers", is_flag=True, help="A line for every layer.")
def chip_size(networks: tuple[str, ...], timesteps: int, layers: bool) -> None:
    """Cores and chips that each of NETWORKS (vgg16 alone for none) would take."""
    from compiler.commandline import make_console, plain_table
    from compiler.resources import CHIPS, estimate

    rows, details, broken = [], [], []
    for name in networks or ("vgg16",):
        for pools, graph in _forms(name):
            for chip in CHIPS:
                report = estimate(graph, chip, timesteps)
                rows.append([name, pools, chip, *_figures(report)])
                details += [[name, pools, chip, *_layer(layer)] for layer in report.layers]
                broken += [f"{name}, {pools}, {chip}: {_said(one)}" for one in report.violations]
    console = make_console()
    console.print(plain_table(_TITLES, rows))
    if layers:
        console.print(plain_table(_LAYER_TITLES, details))
    for line in broken:
        click.echo(line)


_TITLES = ["network", "pools", "chip", "neurons", "cores", "chips", "fits one", "most cores",
           "share of all"]  # fmt: skip
_LAYER_TITLES = ["network", "pools", "chip", "layer", "neurons", "cores", "fullest", "by"]


def _forms(name: str) -> Iterator[tuple[str, AnnGraph]]:
    """The lowered network with pools folded, and with pools of their own where there are some."""
    import torch

    from compiler.frontend import ARCHITECTURES
    from compiler.frontend.torch_fx import read_module
    from compiler.passes import lower, pools_as_neurons

    torch.manual_seed(0)
    graph = read_module(ARCHITECTURES[name](SHAPE, CLASSES).eval(), SHAPE, name)
    folded = lower(graph).graph
    yield "folded", folded
    pools = pools_as_neurons(graph, folded)
    if pools is not None:
        yield "neurons", pools.graph


def _figures(report: Any) -> list[str]:
    largest = max(report.layers, key=lambda layer: layer.cores)
    return [
        f"{report.neurons:,}",
        f"{report.cores:,}",
        str(report.chips),
        "yes" if report.fits else "no",
        f"{largest.name}: {largest.cores:,}",
        f"{largest.cores / report.cores:.0%}",
    ]


def _layer(layer: Any) -> list[str]:
    return [layer.name, f"{layer.neurons:,}", str(layer.cores), f"{layer.fullest_share:.0%}",
            layer.fullest]  # fmt: skip


def _said(violation: Any) -> str:
    problem = violation.problem
    kind = "cannot" if violation.hard else "should not"
    return f"{kind} be so: {problem.layer}: {problem.found}; allowed: {problem.allowed}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(chip_size, "benchmarks.chip_size", arguments)


if __name__ == "__main__":
    sys.exit(main())
