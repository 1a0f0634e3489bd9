"""Start images: smooth random noise of many grains, contrasts and brightnesses."""

from __future__ import annotations

import torch
from torch.nn import functional

from compiler.ir.geometry import Shape

_COARSEST_GRAIN = 8
_CONTRAST = (0.1, 0.6)
_BRIGHTNESS = (-0.1, 0.8)
_FINE_NOISE = 0.05


def start_images(count: int, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Float32 (count, C, H, W) in [0, 1].

    An image is bilinear noise whose grain is 1 to 8 pixels, normalised, times a contrast
    in 0.1..0.6, plus a brightness in -0.1..0.8 and fine noise, clipped. Natural images
    vary in all three; uniform noise, the usual start, varies in none.
    """
    channels, height, width = shape
    images = torch.empty(count, channels, height, width)
    for index in range(count):
        grain = 1 + int(torch.randint(_COARSEST_GRAIN, (1,), generator=generator))
        coarse = (max(2, -(-height // grain)), max(2, -(-width // grain)))
        noise = torch.rand(1, channels, *coarse, generator=generator)
        smooth = functional.interpolate(noise, (height, width), mode="bilinear")[0]
        smooth = (smooth - smooth.mean()) / (smooth.std() + 1e-6)
        fine = _FINE_NOISE * torch.randn(channels, height, width, generator=generator)
        contrast, brightness = (_between(*bounds, generator) for bounds in (_CONTRAST, _BRIGHTNESS))
        images[index] = (brightness + contrast * smooth + fine).clamp(0, 1)
    return images


def _between(low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return low + (high - low) * torch.rand(1, generator=generator)
