"""Normalisation for the training alone that leaves no bias: a channel's scale, not its mean.

Batch-norm subtracts each channel's mean, which stays behind as a bias. Here a channel is divided by
its root mean square over batch and places (Zhang and Sennrich 2019, over batch and places instead
of channels), and every filter is centred, so that means stay small without being subtracted (after
the weight standardization of Qiao et al. 2019). Both are folded into the weights at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = 1e-5
MOMENTUM = 0.1
"""Both as in torch's batch-norm."""

_ROWS = 1 << 14
"""Places summed at once: their float32 copies stay in the processor's cache."""


class ScaledConv2d(nn.Conv2d):
    """y = gain * z / sqrt(mean(z^2) + EPSILON) + bias; z is the convolution without its bias.

    The mean is each channel's over batch and places; in evaluation mode the running mean. Filters
    are centred, weight - mean(weight), but for those of the first layer: the mean of the network's
    input is information. Input (N, C, H, W).
    """

    def __init__(self, layer: nn.Conv2d, centred: bool) -> None:
        """Take over sizes and parameters of `layer`."""
        super().__init__(**_sizes(layer))
        self.weight, self.bias = layer.weight, layer.bias
        self.centred = centred
        self.gain = nn.Parameter(torch.ones(layer.out_channels))
        self.mean_square: Tensor
        self.register_buffer("mean_square", torch.ones(layer.out_channels))

    def forward(self, images: Tensor) -> Tensor:
        """Return y and, in training mode, move the running mean square."""
        z: Tensor = self._conv_forward(images, self._filters(), None)
        y: Tensor
        if self.training:
            y, mean_square = scaled(z, self.gain)
            self.mean_square.lerp_(mean_square, MOMENTUM)
        else:
            y = z * _per_channel(self._factor(), z)
        return y if self.bias is None else y + _per_channel(self.bias, y)

    def folded(self) -> nn.Conv2d:
        """Return the plain convolution that gives the same in evaluation mode."""
        made = nn.Conv2d(**_sizes(self))
        with torch.no_grad():
            made.weight.copy_(self._filters() * self._factor()[:, None, None, None])
        made.bias = self.bias
        return made

    def _filters(self) -> Tensor:
        if not self.centred:
            return self.weight
        return self.weight - self.weight.mean((1, 2, 3), keepdim=True)

    def _factor(self) -> Tensor:
        return self.gain * torch.rsqrt(self.mean_square + EPSILON)


def _sizes(layer: nn.Conv2d) -> dict[str, Any]:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
             "groups", "padding_mode")  # fmt: skip
    return {"bias": layer.bias is not None} | {name: getattr(layer, name) for name in names}


class _Scale(torch.autograd.Function):
    """(z, gain) -> gain * z * r and m = mean(z^2), with r = 1 / sqrt(m + EPSILON).

    The gradient of z is gain * r * (dy - z * r^2 * mean(dy * z)), that of gain r * sum(dy * z).
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        mean_square = _sums(z, z) / (z.numel() // z.shape[1])
        reciprocal = torch.rsqrt(mean_square + EPSILON)
        ctx.save_for_backward(z, gain, reciprocal)
        ctx.mark_non_differentiable(mean_square)
        return z * _per_channel(gain * reciprocal, z), mean_square

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        z, gain, reciprocal = ctx.saved_tensors
        sums = _sums(gradients[0], z)
        shared = gain * reciprocal**3 * sums / (z.numel() // z.shape[1])
        by_z = gradients[0] * _per_channel(gain * reciprocal, z)
        by_z -= z * _per_channel(shared, z)
        return by_z, reciprocal * sums


def scaled(z: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Return gain * z / sqrt(m + EPSILON) and m = mean(z^2) of each channel.

    z: (N, C, H, W); gain: (C,). No gradient flows through m as it is returned.
    """
    result: tuple[Tensor, Tensor] = _Scale.apply(z, gain)  # type: ignore[no-untyped-call]
    return result


def _sums(left: Tensor, right: Tensor) -> Tensor:
    """Return the sum of left * right over batch and places, (C,) in float32."""
    pairs = [one.permute(0, 2, 3, 1).reshape(-1, one.shape[1]) for one in (left, right)]
    total = torch.zeros(left.shape[1], device=left.device)
    for start in range(0, len(pairs[0]), _ROWS):
        first, second = (pair[start : start + _ROWS] for pair in pairs)
        total += (first.float() * second.float()).sum(0)
    return total


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None, None]


def with_scale_norm(module: nn.Module) -> nn.Module:
    """Return `module` with every convolution's channels scaled; the parameters are shared.

    Raises TypeError where `module` itself is a convolution.
    """
    first = True

    def made(layer: nn.Conv2d) -> nn.Module:
        nonlocal first
        result = ScaledConv2d(layer, centred=not first)
        first = False
        return result

    return _replaced(module, nn.Conv2d, made)


def fold_scale_norm(module: nn.Module) -> nn.Module:
    """Return a copy, in evaluation mode, with the scales folded into plain convolutions."""
    return _replaced(copy.deepcopy(module), ScaledConv2d, ScaledConv2d.folded).eval()


def _replaced(
    module: nn.Module, kind: type[nn.Module], by: Callable[[Any], nn.Module]
) -> nn.Module:
    if isinstance(module, kind):
        raise TypeError(f"scales are put into a network, not into a bare {kind.__name__}")
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, by(child))
    return module
