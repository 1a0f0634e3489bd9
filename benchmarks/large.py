"""`python -m benchmarks.large [NETWORK] --out DIR`: time and memory of a large network's compile.

The network has random weights (He) and CIFAR-10's shape: what a stage takes does not depend on
what the weights know. Fewer images and epochs than a real compile has, since their number costs
time, not memory; the seconds of an image or a step are what to reckon with. Also written: what
the network would take of both chips, layer by layer (DIR/resources.json).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.compiles import run
from compiler.export import STAGES

SHAPE, CLASSES = (3, 32, 32), 10


class Architecture(click.ParamType):  # type: ignore[misc]
    """A named architecture of the compile."""

    name = "network"

    def convert(self, value: str, *_: Any) -> str:
        """The name, if there is such an architecture."""
        from compiler.frontend import ARCHITECTURES

        if value not in ARCHITECTURES:
            self.fail(f"{value!r} is none of {', '.join(ARCHITECTURES)}")
        return value


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("network", type=Architecture(), default="vgg16")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option("--timesteps", type=int, default=64, show_default=True)
@click.option("--images", type=click.IntRange(64), default=512, show_default=True,
              help="Images besides those held out; 512 fill the largest batches.")  # fmt: skip
@click.option("--held-out", type=click.IntRange(16), default=64, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=2, show_default=True,
              help="Steps that make an image, 40 in a real compile.")  # fmt: skip
@click.option("--to", "last", type=click.Choice(STAGES), help="Stop after this stage.")
@click.option("--lava-samples", type=click.IntRange(0), default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too.")
def large(network: str, out: Path, json_file: Path | None, **options: Any) -> None:
    """Compile NETWORK, one stage a process, and print what each took."""
    from compiler.commandline import make_console, plain_table, write_json

    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{network}.safetensors"
    if not weights.is_file():
        write_random_weights(network, weights)
    flags = _flags(network, weights, out, options)
    rows = []
    for stage in STAGES[: STAGES.index(options["last"] or STAGES[-1]) + 1]:
        started = time.perf_counter()
        run("compiler.export", str(weights), *flags, "--to", stage)
        seconds = time.perf_counter() - started
        manifest = json.loads((out / "manifest.json").read_text())["stages"][stage]
        rows.append({"stage": stage, "seconds": manifest["seconds"], "command_seconds": seconds,
                     "peak_memory_bytes": _peak(manifest)})  # fmt: skip
        click.echo(f"{stage}: {rows[-1]}", err=True)
    table = [
        [row["stage"], f"{row['seconds']:.0f}", f"{row['peak_memory_bytes'] / 1e9:.2f}"]
        for row in rows
    ]
    make_console().print(plain_table(["stage", "seconds", "largest memory, GB"], table))
    if json_file is not None:
        write_json(json_file, {"network": network, **options, "rows": rows})


def _flags(network: str, weights: Path, out: Path, options: dict[str, Any]) -> list[str]:
    settings = {
        "synthesize.count": options["images"] + options["held_out"],
        "synthesize.held_out": options["held_out"],
        "synthesize.steps": options["steps"],
        "encrypt.epochs": 1,
    }
    return [
        "--arch", network, "--out", str(out), "--quiet", "--eval", "none",
        "--timesteps", str(options["timesteps"]), "--lava-samples", str(options["lava_samples"]),
        *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
    ]  # fmt: skip


def _peak(manifest: dict[str, Any]) -> int:
    """Largest resident memory of the process that ran the stage."""
    return int(manifest["results"]["peak_memory_bytes"])


def write_random_weights(network: str, path: Path) -> None:
    """Weights by He et al. (2015), biases 0, as the architecture's .safetensors."""
    import torch
    from safetensors.torch import save
    from torch import nn

    from compiler.frontend import ARCHITECTURES
    from compiler.store import write_bytes

    torch.manual_seed(0)
    module = ARCHITECTURES[network](SHAPE, CLASSES)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    write_bytes(path, save(module.state_dict()))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(large, "benchmarks.large", arguments)


if __name__ == "__main__":
    sys.exit(main())
