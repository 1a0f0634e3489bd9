"""`python -m benchmarks.paper NAME --out DIR`: a network of the paper from training to model.net.

NAME is DATASET-ARCHITECTURE: cifar10, cifar100 or tinyimagenet, and any architecture of the
compile, such as cifar10-vgg16 or cifar100-vgg16-bn. Trains the ANN without biases by the recipe
of the PrivateSNN code, one with batch-norm by a recipe of ours, then compiles it for every T,
on the same synthetic images. It can be stopped at any time; the same command goes on, on another
machine too where DIR is there. Writes DIR/NAME.json and a table; DIR/NAME.toml then stands for
the network in the other studies:

    python -m benchmarks.rows DIR/NAME.toml --out DIR/rows
    python -m benchmarks.ablations DIR/NAME.toml --out DIR/ablations
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.compiles import (
    ENERGY_MODEL,
    ROOT,
    accuracies,
    chip_joules,
    compile_like,
    report_of,
    request_of,
    run_python,
    synops,
    whole_numbers,
)

DATASETS = {"cifar10": "cifar10", "cifar100": None, "tinyimagenet": None}
"""Data set -> specification of its images where one can be known beforehand."""

TRAINING = ("recipe", "epochs", "samples", "precision")
"""Options that decide what the ANN becomes."""

PIXELS = 0.5
"""Mean and standard deviation by which the PrivateSNN code normalises pixels."""


DEEP = {
    "convert": {"pools": "neurons"},
    "encrypt": {"learning_rate": 2e-3, "learning_rate_unit": "weights"},
}
"""Settings of a VGG's compile beside those of the preset cifar10, which are for photographs: folded
pools would multiply its convolutions' cost, and its layers' weights differ tenfold in size."""


@dataclass(frozen=True)
class Network:
    """What NAME says."""

    name: str
    architecture: str
    data: str

    @property
    def usual_recipe(self) -> str:
        """Of examples/train_ann.py, unless another is asked for."""
        return "batch-norm" if self.batch_norm else "privatesnn"

    @property
    def deep(self) -> bool:
        """Whether it is one of the VGGs."""
        return self.architecture.startswith("vgg")

    @property
    def batch_norm(self) -> bool:
        """Whether it is trained with batch-norm, and hence may have biases."""
        return self.architecture.endswith("-bn")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("name")
@click.option("--data", help="Images, as for sim.run: cifar100:PATH, tinyimagenet:PATH, ... "
              "[cifar10 for CIFAR-10].")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--timesteps",
    default="64,32,16",
    show_default=True,
    help="Comma-separated; a compile for each.",
)
@click.option("--recipe", help="Of the ANN's training, one of examples/train_ann.py [privatesnn; "
              "batch-norm for an architecture that has it].")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Of the ANN's training [the recipe's].")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="float32",
              show_default=True, help="Of the products in the ANN's training.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), help="Train and measure on so many images, "
              "for a trial [all].")  # fmt: skip
@click.option("--eval-samples", type=click.IntRange(1), help="Measure the compile on so many "
              "images [--samples].")  # fmt: skip
@click.option("--lava-samples", type=click.IntRange(0), default=1, show_default=True,
              help="Compared spike for spike in Lava, which takes minutes for each.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="TABLE.NAME=VALUE",
              help="A setting of the compile; may be repeated.")  # fmt: skip
def paper(name: str, out: Path, **options: Any) -> None:
    """Train and compile the network called NAME, DATASET-ARCHITECTURE."""
    from compiler.commandline import make_console, plain_table, write_json
    from compiler.store import write_bytes

    network = named(name, options["data"])
    steps = whole_numbers(options["timesteps"])
    settings = [part for setting in options["settings"] for part in ("--set", setting)]
    for timesteps in steps:  # refused now rather than after the training
        request_of("--preset", "digits", *settings, "--timesteps", str(timesteps))
    out.mkdir(parents=True, exist_ok=True)
    weights, subject = (out / f"{network.name}.{kind}" for kind in ("safetensors", "toml"))
    samples = _samples(options["samples"])
    begun = weights.is_file() or weights.with_suffix(".checkpoint").is_file()
    _same_training(out / f"{network.name}.training.json", network, options, begun)
    if not weights.is_file():
        epochs = ["--epochs", str(options["epochs"])] if options["epochs"] else []
        precision = ["--precision", options["precision"]]
        _train(network, weights, options["recipe"], [*epochs, *precision, *samples])
    write_bytes(subject, as_toml(network, weights).encode())
    measured = _samples(options["eval_samples"] or options["samples"])
    flags = ("--config", str(subject), *measured, *settings)
    flags += ("--lava-samples", str(options["lava_samples"]))
    images = out / "images"
    compile_like(images, images, *flags, "--to", "synthesize", quiet=False)
    found: list[dict[str, Any]] = []
    for timesteps in steps:
        folder = out / f"T{timesteps}"
        compile_like(folder, images, *flags, "--timesteps", str(timesteps), quiet=False)
        found.append({"timesteps": timesteps, **figures(report_of(folder))})
        write_json(out / f"{network.name}.json", {"network": network.name, "rows": found})
    heads = [network.name, *(f"T = {timesteps}" for timesteps in steps)]
    make_console().print(plain_table(heads, as_table(found)))


def _samples(count: int | None) -> tuple[str, ...]:
    return ("--samples", str(count)) if count else ()


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """What a compile's row says of it."""
    proof = [row for row in report["agreement"].values() if row]  # none of Lava if not asked
    return {
        "accuracy": accuracies(report),
        "samples": report["evaluation"]["samples"],
        "spikes_compared": sum(row["spikes"] for row in proof),
        "spikes_different": sum(row["mismatches"] for row in proof),
        "synops": synops(report),
        "joules": chip_joules(report),
        "cores": {row["title"]: row["cores"] for row in report["resources"]},
        "seconds": sum(report["timing"].values()),
        "peak_memory_bytes": report["peak_memory_bytes"],
    }


def as_table(found: list[dict[str, Any]]) -> list[list[str]]:
    """A line for every figure, a column for every T."""

    def line(title: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
        return [title, *(cell(row) for row in found)]

    return [
        *(
            line(f"{stage}, %", lambda row, stage=stage: f"{100 * row['accuracy'][stage]:.2f}")
            for stage in found[0]["accuracy"]
        ),
        line("spikes compared", lambda row: f"{row['spikes_compared']:,}"),
        line("of them different", lambda row: f"{row['spikes_different']:,}"),
        line("synaptic operations, millions", lambda row: f"{row['synops'] / 1e6:,.1f}"),
        line(f"dynamic energy, {ENERGY_MODEL}, µJ", lambda row: f"{row['joules'] * 1e6:,.0f}"),
        *(
            line(f"cores of {chip}", lambda row, chip=chip: f"{row['cores'][chip]:,}")
            for chip in found[0]["cores"]
        ),
        line(
            "minutes of compile, as each stage last ran", lambda row: f"{row['seconds'] / 60:,.0f}"
        ),
        line("largest memory, GB", lambda row: f"{row['peak_memory_bytes'] / 1e9:,.1f}"),
    ]


def _same_training(note: Path, network: Network, options: dict[str, Any], begun: bool) -> None:
    """Note what the ANN is trained with; UsageError where one `begun` has other settings.

    Where the images lie is none of them: DIR may go to another machine.
    """
    from compiler.commandline import write_json

    asked = {name: options[name] for name in TRAINING}
    asked["recipe"] = asked["recipe"] or network.usual_recipe
    known = asked
    if begun and note.is_file():
        known = {"precision": "float32", **json.loads(note.read_text())}
    if known != asked:
        raise click.UsageError(
            f"the network in {note.parent} was trained with {known}, asked for is {asked}: name "
            "another --out, or the same settings"
        )
    write_json(note, asked)


def named(name: str, data: str | None) -> Network:
    """The network called `name`, DATASET-ARCHITECTURE; UsageError says what is wrong."""
    from compiler.frontend import ARCHITECTURES

    dataset, _, architecture = name.partition("-")
    if dataset not in DATASETS or architecture not in ARCHITECTURES:
        raise click.UsageError(
            f"{name!r} is no network: name a data set ({', '.join(DATASETS)}) and an architecture "
            f"({', '.join(ARCHITECTURES)}), such as cifar10-vgg16"
        )
    images = data or DATASETS[dataset]
    if images is None:
        raise click.UsageError(f"name the images: --data {dataset}:PATH")
    return Network(name, architecture, images)


def _train(network: Network, weights: Path, recipe: str | None, flags: list[str]) -> None:
    biases = [] if network.batch_norm else ["--no-bias"]
    run_python(
        str(ROOT / "examples" / "train_ann.py"), "--arch", network.architecture,
        "--data", network.data, "--recipe", recipe or network.usual_recipe, *biases,
        "--mean", str(PIXELS), "--std", str(PIXELS),
        "--checkpoint", str(weights.with_suffix(".checkpoint")), "--out", str(weights), *flags,
    )  # fmt: skip


def as_toml(network: Network, weights: Path) -> str:
    """The network, its images and settings for such networks, as a configuration of the compile."""
    import tomli_w

    from compiler.presets import find_preset
    from compiler.settings import merged

    facts = {
        "model": str(weights),
        "arch": network.architecture,
        "mean": [PIXELS] * 3,
        "std": [PIXELS] * 3,
        "eval": network.data,
    }
    settings = merged(find_preset("cifar10").compile, DEEP if network.deep else {})
    return tomli_w.dumps({**facts, **settings})


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    goes_on = "interrupted; the same command goes on"
    return run_command(paper, "benchmarks.paper", arguments, goes_on)


if __name__ == "__main__":
    sys.exit(main())
