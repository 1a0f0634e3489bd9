"""Small trained networks kept with the package, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from compiler.errors import UsageError, one_problem
from compiler.ir.geometry import Shape

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph

FOLDER = Path(__file__).parent
DEFAULT_PRESET = "digits"
_DIGITS = tuple(str(digit) for digit in range(10))
_GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
             "Bag", "Ankle boot")  # fmt: skip

_PHOTOGRAPHS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                "truck")  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A trained network with everything needed to compile and to evaluate it.

    weights: a .safetensors file for `architecture`; input_shape: (C, H, W); data: the
    specification of the evaluation images; mean, std: normalisation per channel, None for
    pixels in [0, 1] as they are; compile: settings of the stages that differ from the
    defaults, by stage.
    """

    name: str
    architecture: str
    weights: Path
    input_shape: Shape
    class_names: tuple[str, ...]
    data: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    compile: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "digits": Preset(
            name="digits",
            architecture="digits-cnn",
            weights=FOLDER / "digits.safetensors",
            input_shape=(1, 8, 8),
            class_names=_DIGITS,
            data="digits",
        ),
        "fashion-mnist": Preset(
            name="fashion-mnist",
            architecture="fashion-cnn",
            weights=FOLDER / "fashion_mnist.safetensors",
            input_shape=(1, 28, 28),
            class_names=_GARMENTS,
            data="fashion-mnist",
        ),
        "cifar10": Preset(
            name="cifar10",
            architecture="cifar-cnn",
            weights=FOLDER / "cifar10.safetensors",
            input_shape=(3, 32, 32),
            class_names=_PHOTOGRAPHS,
            data="cifar10",
            compile=MappingProxyType(
                {
                    "synthesize": {"smoothness": 1.0, "learning_rate": 0.04},
                    "encrypt": {"lowest_contrast": 0.3},
                }
            ),
        ),
    }
)


def find_preset(name: str) -> Preset:
    """Return the preset called `name`; raises UsageError with all the names."""
    if name in PRESETS:
        return PRESETS[name]
    raise one_problem(
        UsageError, "no such preset", "--preset", repr(name), ", ".join(PRESETS), "name one of them"
    )


def load_preset(name: str) -> AnnGraph:
    """Read the trained network of a preset; takes pixels in [0, 1], returns logits."""
    from compiler.frontend import load_model

    preset = find_preset(name)
    return load_model(
        preset.weights,
        arch=preset.architecture,
        mean=preset.mean,
        std=preset.std,
        input_shape=preset.input_shape,
        class_names=preset.class_names,
        name=preset.name,
    )
