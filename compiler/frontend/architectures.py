"""The named architectures: torch modules whose state dict a .safetensors file can fill.

Each factory takes the input shape (C, H, W) and the number of classes and returns a
plain `torch.nn.Sequential`, so that a state dict has the keys `0.weight`, `0.bias`, ...
(`features.0.weight`, `classifier.0.weight` for the VGG networks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from compiler.frontend.vgg import LAYERS, vgg

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
    """Three convs of 16, 32, 64 (the last two stride 2), dense 128, dense (`fashion-mnist`)."""
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


def cifar_cnn(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """Six convs, 32 to 256 channels, three of stride 2, average pool, dense.

    A network of VGG5's class (conv, pooling, dense; biases) for 32 x 32 pixels, 34 million
    products an image. Strides stand in place of most pools: an average pool between two
    convolutions would become a layer of the chip, or a 5 x 5 kernel.
    """
    from torch import nn

    channels, height, width = input_shape
    flat = 256 * ((height + 7) // 8 // 2) * ((width + 7) // 8 // 2)
    sizes = ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2))
    layers: list[nn.Module] = []
    for size, stride in sizes:
        layers += [nn.Conv2d(channels, size, 3, stride=stride, padding=1), nn.ReLU()]
        channels = size
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(flat, classes))


def _vgg_factory(name: str, batch_norm: bool) -> Factory:
    def build(input_shape: tuple[int, int, int], classes: int) -> nn.Sequential:
        return vgg(name, input_shape, classes, batch_norm, dropout=0.0)

    build.__doc__ = f"{name} of the PrivateSNN code{', with batch-norm' if batch_norm else ''}."
    return build


ARCHITECTURES: dict[str, Factory] = {
    "digits-cnn": digits_cnn,
    "fashion-cnn": fashion_cnn,
    "cifar-cnn": cifar_cnn,
    **{name: _vgg_factory(name, batch_norm=False) for name in LAYERS},
    **{f"{name}-bn": _vgg_factory(name, batch_norm=True) for name in LAYERS},
}
# Where neither the user nor the file tells the size of the image, these are tried in turn.
IMAGE_SIZES = (32, 28, 8, 64, 16, 48, 96, 128, 224)
