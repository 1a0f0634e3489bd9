"""`python -m sim.run`: a NetX file and labelled images in, accuracy and operations out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from compiler.commandline import check_writable, json_option, run_command, to_stdout, write_json
from compiler.distributed import open_world


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("network", metavar="MODEL.net", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Labelled images: a data set's name, "
              "imagefolder:PATH, idx:DIR, npz:FILE, cifar10:PATH, cifar100:PATH, "
              "tinyimagenet:PATH.")  # fmt: skip
@click.option("--backend", type=click.Choice(["reference", "lava", "loihi2"]), default="reference",
              show_default=True, help="Where it runs.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1),
              help="Images, evenly over the classes [all; in Lava 8].")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Seed of the draw of samples.")  # fmt: skip
@click.option("--timesteps", type=int, help="Time-steps a sample, for a file that does not say.")
@click.option("--encoding", type=click.Choice(["rate", "poisson", "latency"]),
              help="Input code, for a file that does not say.")  # fmt: skip
@click.option("--host", type=click.Path(path_type=Path), metavar="FILE",
              help="First layers of a network that compiler.split divided.")  # fmt: skip
@click.option("--time-limit", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Stop Lava after this time [120, and 60 a sample].")  # fmt: skip
@json_option()
@click.option("--quiet", is_flag=True, help="Print errors alone.")
def simulate_file(json_file: Path | None, quiet: bool, **options: Any) -> None:
    """Run MODEL.net on labelled images and count what happens.

    Prints accuracy, spikes, synaptic operations and energy from the backend's own spikes.
    `reference` is the integer simulator of this project; `lava` runs Lava's fixed-point
    models on the CPU, with the same spikes, hundreds to thousands of times slower; `loihi2`
    needs Intel's extension of Lava. Under torchrun the processes share the samples.
    """
    from sim.measure import Request, measure
    from sim.show import progress_bar, show

    if json_file is not None:
        check_writable(json_file)
    with open_world() as world:
        with progress_bar(wanted=world.main and not quiet) as progress:
            figures = measure(Request(**options), progress, world)
        if not world.main:
            return
    if json_file is not None:
        write_json(json_file, figures)
    if not quiet and not to_stdout(json_file):
        show(figures)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    return run_command(simulate_file, "sim.run", arguments)


if __name__ == "__main__":
    sys.exit(run())
