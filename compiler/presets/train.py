"""Train the networks kept with this package: python -m compiler.presets.train NAME.

Writes NAME.safetensors and its model card NAME.md into this folder. With --checkpoint FILE
the state is kept after epochs and every five minutes, and the same command goes on from
there. A developer's tool: the compile never runs it, and it alone in this package reads images
of the world.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from compiler.errors import CompilerError
from compiler.frontend.architectures import ARCHITECTURES
from compiler.presets import FOLDER, PRESETS, Preset
from compiler.presets.files import model_card, save_network
from compiler.presets.settings import ONE_CYCLE_SGD, TrainingSettings
from compiler.presets.training import Epoch, accuracy, train

SETTINGS = {
    "digits": TrainingSettings(
        epochs=60,
        batch=64,
        learning_rate=3e-3,
        weight_decay=2e-2,
        label_smoothing=0.05,
        dropout=0.2,
        shift=1,
        average=0.99,
    ),
    "fashion-mnist": TrainingSettings(
        epochs=20,
        batch=128,
        learning_rate=3e-3,
        weight_decay=2e-2,
        label_smoothing=0.05,
        dropout=0.25,
        flip=True,
        average=0.999,
    ),
    "cifar10": replace(ONE_CYCLE_SGD, epochs=25, shift=3, norm="batch"),
}
TITLES = {
    "digits": "Handwritten digits, 8x8",
    "fashion-mnist": "Fashion-MNIST, 28x28",
    "cifar10": "CIFAR-10, 32x32",
}


def main(arguments: list[str]) -> int:
    """Train one preset's network and write it."""
    parser = argparse.ArgumentParser(prog="python -m compiler.presets.train", description=__doc__)
    parser.add_argument("name", choices=sorted(PRESETS))
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--checkpoint", type=Path, help="file with the state, to go on from")
    options = parser.parse_args(arguments)
    try:
        train_preset(PRESETS[options.name], options.out, options.checkpoint)
    except CompilerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    return 0


def train_preset(preset: Preset, folder: Path, checkpoint: Path | None = None) -> float:
    """Train a preset's network on its training part; return the accuracy on its test part.

    Raises DataError where most test images are training images.
    """
    import torch

    from sim.datasets import load_dataset
    from sim.overlap import unseen

    settings = SETTINGS[preset.name]
    training = load_dataset(preset.data, preset.input_shape, part="train")
    test = load_dataset(preset.data, preset.input_shape)
    unseen(test, training)  # refuses parts that are not apart
    torch.manual_seed(settings.seed)
    module = ARCHITECTURES[preset.architecture](preset.input_shape, len(preset.class_names))
    log: list[str] = []

    def report(epoch: Epoch) -> None:
        log.append(str(epoch))
        sys.stderr.write(f"{epoch}\n")

    trained = train(module, training.images_nchw, training.labels, settings, report, checkpoint)
    reached = accuracy(trained, test.images_nchw, test.labels)
    log.append(f"accuracy on the {len(test)} test images: {reached:.2%}")
    sys.stdout.write(f"{log[-1]}\n")
    facts = {
        "Architecture": preset.architecture,
        "Trained on": f"the {len(training)} training images of `{preset.data}`, pixels in [0, 1]",
        "Test accuracy": f"{reached:.2%} of {len(test)} images, measured after the last epoch; "
        "no epoch was chosen by it",
        "Made by": f"`python -m compiler.presets.train {preset.name}`, torch {torch.__version__}",
    }
    card = model_card(TITLES[preset.name], facts, settings, log)
    save_network(
        trained, folder / preset.weights.name, preset.architecture, preset.input_shape, card
    )
    return reached


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
