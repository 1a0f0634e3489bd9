"""The named architectures: torch modules whose state dict a .safetensors file can fill.

Each factory takes the input shape (C, H, W) and the number of classes and returns a
plain `torch.nn.Sequential`, so that a state dict has the keys `0.weight`, `0.bias`, ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Factory = Callable[[tuple[int, int, int], int], "nn.Sequential"]


def digits_cnn(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """conv 16 - conv 32 stride 2 - dense 64 - dense, biases everywhere (preset `digits`)."""
    from torch import nn

    channels, height, width = input_shape
    flat = 32 * ((height + 1) // 2) * ((width + 1) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def fashion_cnn(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """conv 16 - conv 32 stride 2 - conv 64 stride 2 - dense 128 - dense (preset `fashion-mnist`)."""
    from torch import nn

    channels, height, width = input_shape
    flat = 64 * ((height + 3) // 4) * ((width + 3) // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


ARCHITECTURES: dict[str, Factory] = {
    "digits-cnn": digits_cnn,
    "fashion-cnn": fashion_cnn,
}
