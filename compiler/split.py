"""`python -m compiler.split`: keep the first layers at home, give away the others.

A network whose first layers nobody else has is no network that can be read as an image
classifier. Whoever runs it needs the spikes that those layers make of an image, so that the
host beside the chip computes them; they are the secret. What an attacker finds without them is
measured by `python -m audit.leakage RUN_DIR --withheld N`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from compiler.commandline import run_command
from compiler.run_folder import RunFolder, locked

if TYPE_CHECKING:
    from compiler.ir.chip import ChipGraph

COMPARED = 64
"""Held-out synthetic images on which the two parts are compared with the whole."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("run_dir", metavar="RUN_DIR", type=click.Path(path_type=Path))
@click.option("--layers", type=click.IntRange(1), default=1, show_default=True,
              help="Layers that stay on the host.")  # fmt: skip
@click.option("--lava-samples", type=click.IntRange(0), default=2, show_default=True,
              help="Images on which the second part is run in Lava too.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print errors alone.")
def split_run(run_dir: Path, layers: int, lava_samples: int, quiet: bool) -> None:
    """Split the network of a finished compile.

    Writes RUN_DIR/device.net, which may leave the house instead of model.net, and
    RUN_DIR/private/host.net, the first layers, which turn images into its input spikes.
    Both are NetX files. The two together are proven to be the whole, spike for spike.
    """
    from compiler.finished_run import open_finished_run

    folder = RunFolder(open_finished_run(run_dir).path)
    with locked(folder.path):
        found = split_files(folder, layers, lava_samples)
    if quiet:
        return
    click.echo(f"{folder.device}: {found['device_layers']} layers, fed with binary spikes "
               f"{found['spikes_shape']} for {found['timesteps']} steps")  # fmt: skip
    click.echo(f"{folder.host}: {layers} of the first layers; keep it, "
               "model.net and model.nir at home")  # fmt: skip
    click.echo(f"compared with the whole on {found['samples']} synthetic images: "
               f"{found['spikes']:,} spikes, {found['mismatches']} different; in Lava on "
               f"{found['lava_samples']}: {found['lava_mismatches']} different")  # fmt: skip


def split_files(folder: RunFolder, layers: int, lava_samples: int) -> dict[str, Any]:
    """Write the two files of a finished compile; returns on what they were compared.

    They get their names when they are proven. Raises UsageError for a split that leaves no layer
    on a side, AgreementError if the parts are not the whole.
    """
    from compiler.ir.splitting import join, split
    from compiler.ir.synthetic import SyntheticSet
    from compiler.steps import SYNTHETIC
    from compiler.store import load
    from netx_export import read_netx
    from sim.compare import compare_states, require_agreement
    from sim.reference import trace

    whole = read_netx(folder.model)
    first, rest = split(whole.graph, layers)
    synthetic = load(SyntheticSet, folder.stage_file(SYNTHETIC))
    images = synthetic.pixels(synthetic.validation)[:COMPARED]
    with TemporaryDirectory(prefix=".split-", dir=folder.private) as unproven:
        paths = [Path(unproven) / path.name for path in (folder.host, folder.device)]
        for graph, path in zip((first, rest), paths, strict=True):
            _write(graph, path, whole.deployment)
        host, device = (read_netx(path).graph for path in paths)
        found = compare_states(trace(join(host, device), images), trace(whole.graph, images))
        require_agreement(found, "the two parts", "the whole network")
        lava = _in_lava(paths[1], host, device, images[:lava_samples]) if lava_samples else None
        for path, name in zip(paths, (folder.host, folder.device), strict=True):
            path.replace(name)
    return {
        "device_layers": len(device.layers),
        "spikes_shape": device.input_shape,
        "timesteps": device.timesteps,
        "samples": found.samples,
        "spikes": found.spikes,
        "mismatches": found.mismatches,
        "lava_samples": lava_samples,
        "lava_mismatches": lava.mismatches if lava else 0,
    }


def _write(graph: ChipGraph, path: Path, whole: Any) -> None:
    from netx_export import deployment_of, write_netx

    deployment = deployment_of(
        graph, seed=whole.seed, mean=whole.mean, std=whole.std, versions=dict(whole.versions)
    )
    write_netx(graph, path, deployment)


def _in_lava(path: Path, host: ChipGraph, device: ChipGraph, images: Any) -> Any:
    """The second part's file in Lava, fed with the first part's spikes, against the simulator."""
    from sim.compare import compare_states, require_agreement
    from sim.encoding import Drive
    from sim.lava import simulate_lava
    from sim.reference import trace

    spikes = trace(host, images).layers[-1].spikes_tnchw
    drive = Drive(int(device.timesteps or 0), spikes_tnchw=spikes)
    agreement = compare_states(trace(device, drive), simulate_lava(path, drive).trace)
    require_agreement(agreement, "the integer simulator", "Lava")
    return agreement


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    return run_command(split_run, "compiler.split", arguments)


if __name__ == "__main__":
    sys.exit(run())
