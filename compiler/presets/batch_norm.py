"""Batch-norm for the training alone: put behind every convolution, folded into it at the end."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def with_batch_norm(module: nn.Module) -> nn.Sequential:
    """Return the layers of a plain Sequential with a batch-norm behind every convolution.

    The convolutions lose their biases, which the batch-norm would take away again. The
    parameters are shared with `module`. Raises TypeError for anything but a Sequential that has
    convolutions among its own layers.
    """
    from torch import nn

    layers: list[nn.Module] = []
    for layer in _layers(module):
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layer.register_parameter("bias", None)
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(*layers)


def fold_batch_norm(module: nn.Module) -> nn.Sequential:
    """Return a copy with every batch-norm folded into the convolution before it.

    Uses the running statistics; the copy is in evaluation mode and has the parameters' names
    that the layers had before `with_batch_norm`.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    layers: list[nn.Module] = []
    for layer in _layers(copy.deepcopy(module).eval()):
        before = layers[-1] if layers else None
        if isinstance(layer, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(before, layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers).eval()


def _layers(module: nn.Module) -> list[nn.Module]:
    from torch import nn

    if not isinstance(module, nn.Sequential):
        raise TypeError(f"batch-norm is put into a Sequential alone, not {type(module).__name__}")
    if not any(isinstance(layer, nn.Conv2d) for layer in module):
        raise TypeError("batch-norm is put behind a Sequential's own convolutions, and it has none")
    return list(module)
