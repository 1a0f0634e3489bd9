"""`python -m audit.judges.train DATA`: train the judges of an audit on real images.

Writes NAME.safetensors (16-bit floats) and its card NAME.md for each judge. Judges are measured
as the file holds them: on the test part, and on uniform noise, where the share of each class is
what chance alone would give it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compiler.commandline import check_writable, run_command

if TYPE_CHECKING:
    from audit.judges.judge import Judge
    from compiler.ir.geometry import Shape
    from compiler.presets.settings import TrainingSettings
    from sim.datasets import Dataset

NAMES = ("conv-bn", "residual", "perceptron", "patches")
NOISE_IMAGES = 2000
SMALL_DATA = 5000
"""Training parts with fewer images are gone through ten times as often."""

EPOCHS = {"conv-bn": 7, "residual": 7, "perceptron": 30, "patches": 9}
SMALL_DATA_EPOCHS = {"conv-bn": 60, "residual": 60, "perceptron": 100, "patches": 150}
SMALLEST_SIDE = 4
SHOWN = 10
"""Epochs of a training that are shown; the card keeps the last ones."""

MIRRORED = ("fashion-mnist", "cifar10")
"""Data whose images may be mirrored without leaving their class."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to [the package's "
              "own, for the presets' data].")  # fmt: skip
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Train this judge alone.")
@click.option("--mirror/--no-mirror", default=None, help="Mirror half of the training images "
              "[for fashion-mnist and cifar10].")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Seed of everything random.")  # fmt: skip
def train_judges(
    data: str, out: Path | None, only: tuple[str, ...], mirror: bool | None, seed: int
) -> None:
    """Train judges on the training part of DATA and measure them on its test part.

    DATA: a data set's name, imagefolder:PATH, idx:DIR, npz:FILE, ..., as for sim.run.
    """
    from audit.judges.judge import KEPT

    folder = out or KEPT / data
    if out is None and not folder.is_dir():
        raise click.UsageError(f"the package keeps no judges for {data!r}: give --out DIR")
    if folder.exists() and not folder.is_dir():
        raise click.UsageError(f"--out: {folder} is a file: name a folder")
    parts = _load(data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"--out: {error}") from error
    check_writable(folder / f"{NAMES[0]}.md")
    mirrored = data in MIRRORED if mirror is None else mirror
    for name in only or NAMES:
        judge = train_judge(name, *parts, settings_for(name, parts[0], mirrored, seed), folder)
        click.echo(f"{name}: {judge.accuracy:.2%} of the test images")


def _load(data: str) -> tuple[Dataset, Dataset]:
    from audit.inputs import load_both
    from compiler.errors import DataError, one_problem
    from sim.overlap import unseen

    training, test = load_both(data)
    unseen(test, training)  # refuses parts that are not apart
    sides = image_shape(training)[1:]
    if min(sides) < SMALLEST_SIDE:
        raise one_problem(
            DataError,
            "no judges for images as small as these",
            data,
            f"{sides[0]} x {sides[1]} pixels",
            f"{SMALLEST_SIDE} pixels on a side or more, which the judges' pools and patches take",
            "enlarge the images, for the network and for the judges",
        )
    return training, test


def image_shape(data: Dataset) -> Shape:
    """(C, H, W) of the images."""
    _, channels, height, width = data.images_nchw.shape
    return channels, height, width


def settings_for(name: str, training: Dataset, mirrored: bool, seed: int) -> TrainingSettings:
    """How a judge is trained: a few epochs of a big data set, many of a small one."""
    from compiler.presets.settings import TrainingSettings

    small = len(training) < SMALL_DATA
    return TrainingSettings(
        epochs=(SMALL_DATA_EPOCHS if small else EPOCHS)[name],
        batch=64 if small else 128,
        learning_rate=3e-3,
        weight_decay=2e-2,
        label_smoothing=0.05,
        flip=mirrored,
        shift=1,
        average=0.99 if small else 0.999,
        seed=seed,
    )


def train_judge(
    name: str, training: Dataset, test: Dataset, settings: TrainingSettings, folder: Path
) -> Judge:
    """Train one judge, write NAME.safetensors and NAME.md into `folder`, return it as written.

    The file names the test part by its SHA-256, so that an audit can tell whether judge and
    data belong together.
    """
    import torch

    from audit.judges.judge import load_judges
    from audit.judges.networks import ARCHITECTURES
    from compiler.presets.files import model_card
    from compiler.presets.training import train

    log: list[str] = []
    classes = len(training.class_names)
    torch.manual_seed(settings.seed)
    network = ARCHITECTURES[name](image_shape(training), classes)
    trained = train(network, training.images_nchw, training.labels, settings, _logger(log)).half()
    measured = _measure(trained, test)
    about = {
        "judge": name,
        "input_shape": ",".join(str(size) for size in image_shape(training)),
        "classes": str(classes),
        "data": training.name,
        "fingerprint": test.fingerprint_of_set,
        "accuracy": repr(measured["accuracy"]),
    }
    file = folder / f"{name}.safetensors"
    _write(trained, about, file)
    facts = _facts(name, training, test, measured, network)
    file.with_suffix(".md").write_text(model_card(f"Judge {name}", facts, settings, log))
    return next(judge for judge in load_judges(folder) if judge.name == name)


def _logger(log: list[str]) -> Callable[[Any], None]:
    def report(epoch: Any) -> None:
        log.append(str(epoch))
        if epoch.number % max(1, epoch.epochs // SHOWN) == 0:
            click.echo(epoch, err=True)

    return report


def _measure(network: Any, test: Dataset) -> dict[str, Any]:
    """Accuracy on the test part and shares of the classes on noise, of the rounded weights."""
    import copy

    import numpy as np
    import torch

    from compiler.presets.training import accuracy

    rounded = copy.deepcopy(network).float().eval()
    noise = np.random.default_rng(0).random((NOISE_IMAGES, *test.images_nchw.shape[1:]), np.float32)
    with torch.inference_mode():
        answers = rounded(torch.from_numpy(noise)).argmax(1).numpy()
    shares = np.bincount(answers, minlength=len(test.class_names)) / NOISE_IMAGES
    return {
        "accuracy": accuracy(rounded, test.images_nchw, test.labels),
        "noise": shares.tolist(),
    }


def _write(network: Any, about: dict[str, str], file: Path) -> None:
    from safetensors.torch import save

    from audit.judges.judge import ABOUT
    from compiler.store import write_bytes

    tensors = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    # one key only: safetensors does not keep several in order
    write_bytes(file, save(tensors, metadata={ABOUT: json.dumps(about, sort_keys=True)}))
    file.chmod(0o644)


def _facts(
    name: str, training: Dataset, test: Dataset, measured: dict[str, Any], network: Any
) -> dict[str, str]:
    import torch

    shares = zip(test.class_names, measured["noise"], strict=True)
    noise = ", ".join(f"{title} {share:.1%}" for title, share in shares)
    parameters = sum(value.numel() for value in network.parameters())
    return {
        "Architecture": f"{name} of `audit.judges.networks.ARCHITECTURES`; {parameters:,} "
        "parameters, stored as 16-bit floats",
        "Trained on": f"the {len(training)} training images of `{training.name}`, pixels in [0, 1]",
        "Test accuracy": f"{measured['accuracy']:.2%} of {len(test)} images, with the weights as "
        "stored, after the last epoch; no epoch was chosen by it",
        "Answers on uniform noise": f"{noise} (of {NOISE_IMAGES} images)",
        "Made by": f"`python -m audit.judges.train {training.name}`, torch {torch.__version__}",
    }


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1, 2 or 130."""
    return run_command(train_judges, "audit.judges.train", arguments)


if __name__ == "__main__":
    sys.exit(run())
