"""`python -m benchmarks.published`: what the published conversion is worth, by the images it sees.

PrivateSNN's own conversion in float (largest current as threshold, signed Poisson code, soft
reset) of an ANN without biases, its thresholds balanced on four sets of images: real training
images, which the method never has; those of the published recipe, 2,499 steps an image; those of
its loss in few large steps, which `audit.privatesnn` takes; and the defaults of the compile. A
fifth row sees none: every threshold is 1, as the published code leaves them where it is given no
more images than one batch. No training follows. Accuracies and rates are over real test images,
which only this script reads.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from audit.privatesnn.network import PrivateSnn
    from compiler.ir.ann import AnnGraph
    from compiler.ir.geometry import Array
    from sim.datasets import Dataset

WAYS = ("real", "published recipe", "published loss", "defaults", "none")
REAL, RECIPE, LOSS, DEFAULTS, NONE = WAYS
_RATED = 64
"""Test images that spikes are counted on."""


@dataclass(frozen=True)
class Subject:
    """An ANN without biases, the set its images come from, and the test images."""

    ann: AnnGraph
    spec: str
    test: Dataset


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("preset")
@click.option("--ann", type=click.Path(path_type=Path), metavar="FILE",
              help="ANN of examples/train_ann.py --no-bias [the one kept].")  # fmt: skip
@click.option("--timesteps", default="16,32,64,100,128", show_default=True)
@click.option("--images", type=click.IntRange(16), default=512, show_default=True,
              help="Images that balance thresholds.")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), default=1000, show_default=True,
              help="Test images.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=2499, show_default=True,
              help="Steps of the published recipe.")  # fmt: skip
@click.option("--only", multiple=True, type=click.Choice(WAYS), metavar="IMAGES",
              help="Images that balance thresholds, or `none` [all]; may be repeated.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write a JSON file too; "
              "an interrupted run goes on from it.")  # fmt: skip
def published(preset: str, json_file: Path | None, **options: Any) -> None:
    """Convert PRESET's network without biases as PrivateSNN does, from four sets of images."""
    from benchmarks.compiles import rows_kept, whole_numbers
    from compiler.commandline import check_writable, make_console, plain_table, write_json

    file = options["ann"]
    asked = {
        "preset": preset,
        **options,
        "ann": file and str(file),
        "only": list(options["only"]),
    }
    rows: list[dict[str, Any]] = []
    if json_file is not None:
        check_writable(json_file)
        rows = rows_kept(json_file, asked)
    subject = _subject(preset, options)
    made = cache(lambda way: _images(subject, way, options))
    known = {(row["images"], row["timesteps"]) for row in rows}
    for way in options["only"] or WAYS:
        for timesteps in whole_numbers(options["timesteps"]):
            if (way, timesteps) in known:
                continue
            rows.append(_measure(subject, way, made(way), timesteps, options["seed"]))
            click.echo(f"{way}, T = {timesteps}: {_told(rows[-1])}", err=True)
            if json_file is not None:
                write_json(json_file, {"asked": asked, "ann": _ann(subject), "rows": rows})
    columns = ["images", "T", *_COLUMNS]
    table = [[row["images"], str(row["timesteps"]), *_figures(row)] for row in rows]
    make_console().print(plain_table(columns, table))
    click.echo(f"ANN on the same {len(subject.test.labels)} images: {_ann(subject):.2%}")


def _subject(preset: str, options: dict[str, Any]) -> Subject:
    from audit.privatesnn.build import load_ann
    from compiler.presets import find_preset
    from sim.datasets import load_dataset

    found = find_preset(preset)
    ann = load_ann(found, options["ann"], None)
    test = load_dataset(found.data, ann.input_shape, options["samples"], options["seed"])
    return Subject(ann, found.data, test)


def _ann(subject: Subject) -> float:
    from compiler.ir.run_ann import run_ann

    answers = run_ann(subject.ann, subject.test.images_nchw).argmax(1)
    return float((answers == subject.test.labels).mean())


def _images(subject: Subject, way: str, options: dict[str, Any]) -> Array | None:
    """Float32 (N, C, H, W) in [0, 1]; None where no image is looked at."""
    if way == NONE:
        return None
    import torch

    from benchmarks.synthesis import equal_loss, official_images
    from compiler.config import SynthesisConfig
    from compiler.ir.run_ann import to_module
    from compiler.synthesis import synthesize
    from sim.datasets import load_dataset

    count, seed, shape = options["images"], options["seed"], subject.ann.input_shape
    if way == REAL:
        return load_dataset(subject.spec, shape, count, seed, part="train").images_nchw
    config = SynthesisConfig(count=count + 1, held_out=1) if way == DEFAULTS else equal_loss(count)
    made = synthesize(subject.ann, config, seed)
    if way != RECIPE:
        return made.pixels(slice(0, count))
    module = to_module(subject.ann).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.from_numpy(made.soft_targets_nk.copy())
    parts = [
        official_images(module, shape, part, generator, options["steps"])
        for part in targets.split(128)
    ]
    return torch.cat(parts).numpy()


def _measure(
    subject: Subject, way: str, images_nchw: Array | None, timesteps: int, seed: int
) -> dict[str, Any]:
    """One conversion: accuracy and agreement with the ANN, thresholds, spikes a neuron."""
    import numpy as np
    import torch

    from audit.privatesnn.network import answers
    from compiler.errors import ModelError
    from compiler.ir.run_ann import run_ann

    row: dict[str, Any] = {"images": way, "timesteps": timesteps}
    if images_nchw is not None:
        row["detail"] = float(np.abs(np.diff(images_nchw, axis=3)).mean())
        row["logit_std"] = float(run_ann(subject.ann, images_nchw).std())
    try:
        network = _converted(subject.ann, images_nchw, timesteps, seed)
    except ModelError as error:
        return row | {"silent": error.problems[0].layer}
    test = subject.test.images_nchw
    own = answers(network, test, seed).argmax(1)
    rates = network.events.observed(torch.from_numpy(test[:_RATED].copy()), seed)[:-1]
    return row | {
        "accuracy": float((own == subject.test.labels).mean()),
        "agreement": float((own == run_ann(subject.ann, test).argmax(1)).mean()),
        "thresholds": list(network.thresholds),
        "spikes_per_neuron": [timesteps * float(layer.mean()) for layer in rates],
    }


def _converted(ann: AnnGraph, images_nchw: Array | None, timesteps: int, seed: int) -> PrivateSnn:
    from audit.privatesnn.balance import balanced, unbalanced

    if images_nchw is None:
        return unbalanced(ann, timesteps)
    return balanced(ann, images_nchw, timesteps, seed)


_COLUMNS = ("accuracy", "as the ANN", "spikes a neuron, layer by layer", "detail", "logits")


def _figures(row: dict[str, Any]) -> list[str]:
    made = [
        f"{row[key]:{form}}" if key in row else "-"
        for key, form in (("detail", ".3f"), ("logit_std", ".1f"))
    ]
    if "silent" in row:
        return ["-", "-", f"no current above 0 at {row['silent']}", *made]
    spikes = " ".join(f"{number:.2g}" for number in row["spikes_per_neuron"])
    return [f"{row['accuracy']:.1%}", f"{row['agreement']:.1%}", spikes, *made]


def _told(row: dict[str, Any]) -> str:
    return ", ".join(_figures(row)[:2])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    from compiler.commandline import run_command

    return run_command(published, "benchmarks.published", arguments)


if __name__ == "__main__":
    sys.exit(main())
