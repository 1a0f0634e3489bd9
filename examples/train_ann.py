r"""Train a named architecture on labelled images and write it as .safetensors with a model card.

    python examples/train_ann.py --arch fashion-cnn --data fashion-mnist --out net.safetensors
    python examples/train_ann.py --arch vgg16 --data cifar10 --recipe privatesnn \
        --out vgg.safetensors

Then compile it, without any image:

    python -m compiler.export vgg.safetensors --arch vgg16 --mean 0.5 --std 0.5

With --no-bias the biases stay at zero and are written as zeros, so that the file still fits
the architecture. PrivateSNN asks for such networks (docs/privatesnn.md).

Six recipes: `privatesnn` is that of the PrivateSNN code (SGD, learning rate 0.01 falling
to a tenth at 40, 60 and 80 % of 90 epochs, batches of 256, weight decay 5e-4, random crop
and mirror, pixels normalised by mean and std 0.5); `modern` is AdamW with one cycle of the
learning rate, label smoothing and a running average of the weights; `batch-norm` is SGD with
Nesterov's momentum and one cycle up to 0.1, for architectures ending in -bn, 60 epochs of them,
and `batch-norm-short` the same in 12 epochs, up to 0.2 and in batches of 256, for a machine without
a GPU; `batch-norm-medium` takes 24, with a square of every image erased; `bias-free-short` is the
like for the architectures without batch-norm, up to 0.15: the channels' scales are normalised in
training and folded into the weights, which leaves no bias.

Uses all processor cores, and the GPU where torch finds one. --precision bfloat16 rounds the factors
of the products in training, and takes about half the time where the processor has instructions
for it (`lscpu | grep avx512_bf16` or amx_bf16, many GPUs); where it has none they take many times
as long, which is measured and said before the training. With --checkpoint FILE the state is kept
after epochs, half a minute apart at least, and every five minutes within one, and the same command
goes on from there.

The accuracy is measured on the test images. Where the data has no test part, as one folder a class
or an archive of images and labels, it is measured on the training images, and the model card says
so.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.allocator import keep_freed_memory
from compiler.errors import (
    EXIT_INTERRUPTED,
    CompilerError,
    DataError,
    EnvironmentProblem,
    Problem,
    UsageError,
    machine_problem,
    one_problem,
)
from compiler.frontend import ARCHITECTURES
from compiler.frontend.normalisation import normalisation
from compiler.ir.geometry import Array, Shape
from compiler.presets.files import model_card, save_network
from compiler.presets.precision import bfloat16_seconds
from compiler.presets.settings import ONE_CYCLE_SGD, TrainingSettings
from compiler.presets.training import Epoch, accuracy, train
from sim.datasets import Dataset, load_dataset
from sim.overlap import apart

if TYPE_CHECKING:
    from torch import nn

TWENTY_FOUR_EPOCHS = replace(ONE_CYCLE_SGD, epochs=24, batch=256, shift=3, erase=8, average=0.99)
RECIPES = {
    "privatesnn": TrainingSettings(
        epochs=90,
        batch=256,
        optimizer="sgd",
        learning_rate=1e-2,
        weight_decay=5e-4,
        milestones=(0.4, 0.6, 0.8),
        flip=True,
        shift=4,
    ),
    "batch-norm": replace(ONE_CYCLE_SGD, epochs=60, shift=4),
    "batch-norm-short": replace(
        ONE_CYCLE_SGD, epochs=12, batch=256, learning_rate=0.2, shift=3, average=0.99
    ),
    "batch-norm-medium": replace(TWENTY_FOUR_EPOCHS, learning_rate=0.2),
    "bias-free-short": replace(TWENTY_FOUR_EPOCHS, learning_rate=0.15, norm="scale"),
    "modern": TrainingSettings(
        epochs=20,
        batch=128,
        learning_rate=3e-3,
        weight_decay=2e-2,
        label_smoothing=0.05,
        flip=True,
        average=0.999,
    ),
}
NORMALISATION = {
    "privatesnn": ([0.5], [0.5]),
    "batch-norm": ([0.5], [0.5]),
    "batch-norm-short": ([0.5], [0.5]),
    "batch-norm-medium": ([0.5], [0.5]),
    "bias-free-short": ([0.5], [0.5]),
    "modern": ([0.0], [1.0]),
}
NUMBERS = {
    "epochs": int,
    "batch": int,
    "learning_rate": float,
    "weight_decay": float,
    "dropout": float,
    "shift": int,
    "erase": int,
    "seed": int,
}
"""Settings that an option of the same name changes -> their type."""

SLOWER = 1.5
"""Times the seconds of float32 above which bfloat16 is called slow: less may be other work."""

MAX_NAMED = 5
"""Classes that a message names."""


def main(arguments: Sequence[str]) -> int:
    """Parse, train, write; return the exit status."""
    options = parse(arguments)
    keep_freed_memory()
    try:
        return run(options)
    except CompilerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    except (MemoryError, OSError, RuntimeError) as error:
        problem = machine_problem(error)
        if problem is None:
            raise
        sys.stderr.write(f"{problem}\n")
        return problem.exit_status
    except KeyboardInterrupt:
        kept = options.checkpoint if options.checkpoint and options.checkpoint.exists() else None
        sys.stderr.write(
            "interrupted; no network was written"
            + (f"; the same command goes on from {kept}\n" if kept else "\n")
        )
        return EXIT_INTERRUPTED


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        prog="train_ann.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(ARCHITECTURES)
    data = "a data set's name, imagefolder:PATH, npz:FILE, ... (docs/how-to/own-data.md)"
    parser.add_argument("--arch", required=True, choices=ARCHITECTURES, metavar="NAME", help=names)
    parser.add_argument("--data", required=True, help=data)
    parser.add_argument("--out", required=True, type=Path, help="FILE.safetensors to write")
    parser.add_argument("--recipe", choices=RECIPES, default="modern")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="state to go on from")
    parser.add_argument("--samples", type=int, help="train on that many images, for a trial")
    for name, kind in NUMBERS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's"
        )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of the products in training"
    )
    parser.add_argument("--no-flip", action="store_true", help="never mirror, as for digits")
    parser.add_argument("--no-bias", action="store_true", help="keep all biases at zero")
    parser.add_argument("--mean", type=numbers, help="a,b,c: one number a channel, or one")
    parser.add_argument("--std", type=numbers, help="a,b,c: one number a channel, or one")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[float]:
    """Return a,b,c as numbers."""
    return [float(part) for part in text.split(",")]


def run(options: argparse.Namespace) -> int:
    """Train and write the network."""
    import torch

    settings = chosen_settings(options)
    check_files(options.out, options.checkpoint)
    tell_of_slow_products(settings)
    training = load_dataset(options.data, samples=options.samples, part="train")
    channels, height, width = (int(size) for size in training.images_nchw.shape[1:])
    shape = (channels, height, width)
    test = load_dataset(options.data, shape)
    check_classes(test, training)
    measured, called = measured_on(test, training)
    mean = options.mean or NORMALISATION[options.recipe][0]
    std = options.std or NORMALISATION[options.recipe][1]
    normalise = scale_and_shift(mean, std, channels)
    torch.manual_seed(settings.seed)
    module = built(options.arch, shape, len(training.class_names))
    if options.no_bias:
        hold_biases_at_zero(module)
    log: list[str] = []

    def report(epoch: Epoch) -> None:
        log.append(str(epoch))
        sys.stderr.write(f"{epoch}\n")

    images = scaled(training, normalise)
    kept = train(module, images, training.labels, settings, report, options.checkpoint)
    reached = accuracy(kept, scaled(measured, normalise), measured.labels)
    log.append(f"accuracy on the {called}: {reached:.2%}")
    facts = {
        "Architecture": options.arch,
        "Input": f"{shape} (C, H, W); (pixel in [0, 1] - mean) / std with mean {mean}, std {std}",
        "Classes": ", ".join(training.class_names),
        "Biases": "none: held at zero" if options.no_bias else "those of the architecture",
        "Trained on": f"{len(training)} images of `{options.data}`, recipe `{options.recipe}`",
        "Result": log[-1],
        "torch": torch.__version__,
    }
    card = model_card(options.out.stem, facts, settings, log)
    save_network(kept, options.out, options.arch, shape, card)
    sys.stdout.write(f"{log[-1]}\n{options.out} and {options.out.with_suffix('.md')} written\n")
    return 0


def check_classes(test: Dataset, training: Dataset) -> None:
    """Raise DataError where test images are of a class that no training image is of.

    Classes are the same where both their numbers and their names are.
    """
    untaught = sorted(classes_of(test) - classes_of(training))
    if not untaught:
        return
    named = ", ".join(f"{name} (number {label})" for label, name in untaught[:MAX_NAMED])
    more = f" and {len(untaught) - MAX_NAMED} more" if len(untaught) > MAX_NAMED else ""
    raise one_problem(
        DataError,
        "the two parts of the data have other classes",
        test.name,
        f"{named}{more} in the test part alone",
        "test images of classes that have training images, under the same number and name",
        "add training images of these classes (a larger --samples takes more), or take their "
        "test images out",
    )


def classes_of(data: Dataset) -> set[tuple[int, str]]:
    """Number and name of every class that has an image."""
    return {(label, data.class_names[label]) for label in set(data.labels.tolist())}


def measured_on(test: Dataset, training: Dataset) -> tuple[Dataset, str]:
    """The images that the accuracy is measured on, and what they are called.

    The training images where more than MOST_SEEN of the test images are among them. Test images
    that are training images are told on the standard error.
    """
    kept, found = apart(test, training)
    if kept is None:
        sys.stderr.write(f"{found}: the accuracy will be that on the training images\n")
        return training, f"{len(training)} training images (the data has no test part)"
    if found is not None:
        sys.stderr.write(f"{found}\n")
        return test, f"{len(test)} test images ({found})"
    return test, f"{len(test)} test images"


def check_files(out: Path, checkpoint: Path | None) -> None:
    """Raise EnvironmentProblem now rather than after hours of training."""
    may = "in a folder that exists and can be written"
    remedy = "make the folder, or name another file"
    problems = []
    if out.suffix != ".safetensors" or not writable(out):
        problems.append(Problem("--out", seen(out), f"FILE.safetensors {may}", remedy))
    if checkpoint is not None and not writable(checkpoint):
        problems.append(Problem("--checkpoint", seen(checkpoint), f"a file {may}", remedy))
    if problems:
        raise EnvironmentProblem("the network could not be written", problems)


def writable(file: Path) -> bool:
    """Whether a file of that name can be written."""
    return not file.is_dir() and os.access(file.parent, os.W_OK)


def seen(file: Path) -> str:
    """The name, and whether it is a folder's."""
    return f"{file}, a folder" if file.is_dir() else str(file)


def built(arch: str, shape: Shape, classes: int) -> nn.Module:
    """Return the untrained network; UsageError where the images are too small for it."""
    try:
        return ARCHITECTURES[arch](shape, classes)
    except ValueError as error:
        raise one_problem(
            UsageError, "wrong architecture", "--arch", str(error), "larger images", "take another"
        ) from error


def hold_biases_at_zero(module: nn.Module) -> None:
    """Set every bias to zero and keep the optimizer from it.

    Raises UsageError where a batch-norm would add a bias all the same.
    """
    import torch

    if any(isinstance(part, torch.nn.BatchNorm2d) for part in module.modules()):
        raise one_problem(
            UsageError,
            "wrong architecture",
            "--no-bias",
            "an architecture with batch-norm, which adds a bias to every channel",
            "an architecture without batch-norm",
            "take another --arch",
        )
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
            parameter.requires_grad_(False)


def chosen_settings(options: argparse.Namespace) -> TrainingSettings:
    """Return the recipe's settings with the changes asked for."""
    given = {name: getattr(options, name) for name in (*NUMBERS, "precision")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.no_flip:
        changes["flip"] = False
    return replace(RECIPES[options.recipe], **changes)


def tell_of_slow_products(settings: TrainingSettings) -> None:
    """Say on the standard error where bfloat16 would take longer here than float32."""
    if settings.precision != "bfloat16":
        return
    times = bfloat16_seconds()
    if times > SLOWER:
        sys.stderr.write(
            f"this machine takes {times:.0f} times as long for products in bfloat16 as in float32: "
            "leave --precision out unless the rounding is wanted\n"
        )


def scale_and_shift(
    mean: Sequence[float], std: Sequence[float], channels: int
) -> tuple[Array, Array]:
    """Return (pixel - mean) / std as a factor and a shift per channel."""
    found = normalisation(mean, std, channels)
    if found is None:
        raise ValueError("no mean and no std")
    return found


def scaled(data: Dataset, normalise: tuple[Array, Array]) -> Array:
    """Return the images as the network is fed them."""
    scale, shift = (part.astype("float32")[:, None, None] for part in normalise)
    images: Array = data.images_nchw * scale
    images += shift
    return images


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
