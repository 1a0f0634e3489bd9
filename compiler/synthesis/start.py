"""Start images: what the optimization of synthetic images sets out from.

Uniform noise, the usual start, has neither edges nor flat areas, and a network's inner
activations on it are unlike those on photographs. Images of overlapping shapes (the "dead
leaves" model: Lee, Mumford and Huang, IJCV 2001; used for data-free pre-training by
Baradad et al., NeurIPS 2021) and noise of many grains share both with natural images,
and are made from random numbers alone.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from compiler.ir.geometry import Shape

_SHAPE_SHARE = 0.75
_MOST_SHAPES = 10
_SHAPE_SIZE = (0.08, 1.0)
_DARK_GROUND_SHARE = 0.5
_COARSEST_GRAIN = 8
_TEXTURE = 0.3
_CONTRAST = (0.1, 0.6)
_BRIGHTNESS = (-0.1, 0.8)
_FINE_NOISE = 0.05


def start_images(count: int, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Float32 (count, C, H, W) in [0, 1]: three quarters shapes with texture, the rest noise."""
    draw = _Draw(generator, count)
    texture = _noise(count, shape, generator)
    shapes = _shapes(shape, draw) + _TEXTURE * draw(1, 1, 1).square() * texture
    fine = _FINE_NOISE * torch.randn(count, *shape, generator=generator)
    noise = draw(1, 1, 1, within=_BRIGHTNESS) + draw(1, 1, 1, within=_CONTRAST) * texture + fine
    return torch.where(draw(1, 1, 1) < _SHAPE_SHARE, shapes, noise).clamp(0, 1)


class _Draw:
    """Uniform numbers, independent for every image: (count, *sizes)."""

    def __init__(self, generator: torch.Generator, count: int) -> None:
        self.generator, self.count = generator, count

    def __call__(
        self, *sizes: int, within: tuple[float, float] = (0.0, 1.0), logarithmic: bool = False
    ) -> torch.Tensor:
        low, high = map(math.log, within) if logarithmic else within
        numbers = low + (high - low) * torch.rand(self.count, *sizes, generator=self.generator)
        return numbers.exp() if logarithmic else numbers


def _noise(count: int, shape: Shape, generator: torch.Generator) -> torch.Tensor:
    """Bilinear noise of a grain of 1 to 8 pixels, zero mean and unit spread in every image."""
    channels, height, width = shape
    images = torch.empty(count, channels, height, width)
    grains = torch.randint(1, _COARSEST_GRAIN + 1, (count,), generator=generator)
    for grain in range(1, _COARSEST_GRAIN + 1):
        chosen = (grains == grain).nonzero()[:, 0]
        if not len(chosen):
            continue
        coarse = (max(2, -(-height // grain)), max(2, -(-width // grain)))
        numbers = torch.rand(len(chosen), channels, *coarse, generator=generator)
        images[chosen] = functional.interpolate(numbers, (height, width), mode="bilinear")
    axes = (1, 2, 3)
    return (images - images.mean(axes, keepdim=True)) / (images.std(axes, keepdim=True) + 1e-6)


def _shapes(shape: Shape, draw: _Draw) -> torch.Tensor:
    """Up to ten shaded ellipses and boxes, each covering those before it, on a plain ground."""
    channels, height, width = shape
    dark = draw(1, 1, 1) < _DARK_GROUND_SHARE
    images = torch.where(dark, torch.zeros(()), draw(channels, 1, 1))
    images = images.expand(draw.count, channels, height, width)
    number = (1 + _MOST_SHAPES * draw(1, 1, 1)).floor()
    for index in range(_MOST_SHAPES):
        cover, across = _one_shape((height, width), draw)
        cover = cover * (index < number)
        colour = (draw(1, 1, 1) + 0.2 * (draw(channels, 1, 1) - 0.5)).clamp(0, 1)
        shade = draw(1, 1, 1, within=(-0.5, 0.5)) * across.clamp(-1, 1)
        images = images * (1 - cover) + (colour + shade) * cover
    return images


def _one_shape(size: tuple[int, int], draw: _Draw) -> tuple[torch.Tensor, torch.Tensor]:
    """Cover in [0, 1] and the coordinate along the shape, both (count, 1, H, W)."""
    y = torch.linspace(-1, 1, size[0])[None, :, None]
    x = torch.linspace(-1, 1, size[1])[None, None, :]
    y = y - draw(1, 1, within=(-0.8, 0.8))
    x = x - draw(1, 1, within=(-0.8, 0.8))
    radius = draw(1, 1, within=_SHAPE_SIZE, logarithmic=True)
    aspect = draw(1, 1, within=(1 / math.e, math.e), logarithmic=True)
    angle = draw(1, 1, within=(0.0, math.pi))
    along = (x * angle.cos() + y * angle.sin()) / (radius * aspect)
    across = (y * angle.cos() - x * angle.sin()) / radius * aspect
    corner = torch.where(draw(1, 1) < 0.5, 2.0, 8.0)
    distance = (along.abs() ** corner + across.abs() ** corner) ** (1 / corner)
    pixels = radius * torch.minimum(aspect, 1 / aspect) * size[0] / 2
    return ((1 - distance) * pixels + 0.5).clamp(0, 1)[:, None], along[:, None]
