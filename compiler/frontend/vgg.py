"""The VGG networks of the PrivateSNN code, without biases and with average pooling.

Layer sizes and the names of the parameters (features.N.weight, classifier.N.weight) are
those of self_models/vgg.py in Intelligent-Computing-Lab-Yale/PrivateSNN at 074f7ad. That
code defines the dense layers of VGG5 and VGG16 alone; the others take VGG16's. The
variants ending in `-bn` put a batch-norm behind every convolution. Without it weights begin as
in that code, normal with variance 2 / fan-in: torch's own, a sixth of that, leave the answers of
VGG16 the same for all images, and its gradients at zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

POOL = "A"
_PAIRS = (64, 64, POOL, 128, 128, POOL)  # how all but VGG5 and VGG11 begin
_THREE = (512, 512, 512, POOL)
_FOUR = (512, 512, 512, 512, POOL)
LAYERS: dict[str, tuple[int | str, ...]] = {
    "vgg5": (64, POOL, 128, 128, POOL),
    "vgg9": (*_PAIRS, 256, 256, 256, POOL),
    "vgg11": (64, POOL, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512),
    "vgg13": (*_PAIRS, 256, 256, POOL, *_THREE, 512),
    "vgg16": (*_PAIRS, 256, 256, 256, POOL, *_THREE, *_THREE),
    "vgg19": (*_PAIRS, 256, 256, 256, 256, POOL, *_FOUR, *_FOUR),
}
HIDDEN = 4096


def vgg(
    name: str, input_shape: tuple[int, int, int], classes: int, batch_norm: bool, dropout: float
) -> nn.Sequential:
    """Return the network called `name` in LAYERS; dropout acts behind the convolutions.

    Raises ValueError where the pooling leaves nothing of the image.
    """
    from collections import OrderedDict

    from torch import nn

    pools = LAYERS[name].count(POOL)
    channels = next(size for size in reversed(LAYERS[name]) if isinstance(size, int))
    height, width = input_shape[1] >> pools, input_shape[2] >> pools
    if height < 1 or width < 1:
        raise ValueError(f"{name} halves the image {pools} times; {input_shape} is too small")
    parts = {
        "features": _features(LAYERS[name], input_shape[0], batch_norm, dropout),
        "flatten": nn.Flatten(),
        "classifier": _classifier(channels * height * width, classes, 2 if name == "vgg5" else 1),
    }
    network = nn.Sequential(OrderedDict(parts))
    if not batch_norm:
        for part in network.modules():
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(part.weight)
    return network


def _features(
    sizes: tuple[int | str, ...], channels: int, batch_norm: bool, dropout: float
) -> nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = []
    for size in sizes:
        if isinstance(size, str):
            layers[-1] = nn.AvgPool2d(2)  # in place of the dropout, as in the original
            continue
        layers.append(nn.Conv2d(channels, size, 3, padding=1, bias=False))
        if batch_norm:
            layers.append(nn.BatchNorm2d(size))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        channels = size
    return nn.Sequential(*layers)


def _classifier(features: int, classes: int, hidden: int) -> nn.Sequential:
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(hidden):
        layers += [nn.Linear(features, HIDDEN, bias=False), nn.ReLU(), nn.Dropout(0.5)]
        features = HIDDEN
    return nn.Sequential(*layers, nn.Linear(features, classes, bias=False))
