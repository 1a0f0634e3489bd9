"""Gradient ascent on images under a prior of what images are like.

The prior is what anybody knows who has never seen the data: neighbouring pixels are alike (total
variation and a blurred gradient), images are no noise and survive it (random noise and shifts
at every step), what is not needed is dark (an L2 penalty), and images of one class resemble
each other (a pull to the mean of the class, as in gradient inversion: Yin et al., CVPR 2021).
Total variation and L2 are DeepInversion's (Yin et al., CVPR 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audit.attacks.common import MOST_AT_ONCE, Meter, Scored, target_gradient
from compiler.ir.geometry import Shape

_REFERENCE_SIDE = 28
"""Pixels a side for which lengths in the prior are given."""


@dataclass(frozen=True)
class Prior:
    """Weights of the prior; lengths in pixels of a 28-pixel image.

    rate: Adam's, falling by a cosine; noise: standard deviation at the first and at the last
    step; shift: largest shift; blur: of the gradient; variation, energy, likeness: weights of
    total variation, of squared pixels, of squared distance to the class mean.
    """

    rate: float = 0.1
    noise: tuple[float, float] = (0.6, 0.2)
    shift: float = 2.0
    blur: float = 1.0
    variation: float = 2.0
    energy: float = 5.0
    likeness: float = 10.0


DEFAULT_PRIOR = Prior()


def dark_start(count: int, shape: Shape, generator: torch.Generator) -> Tensor:
    """Nearly black images with a little noise."""
    return 0.1 + 0.05 * torch.rand(count, *shape, generator=generator)


def invert(
    models: Sequence[Scored],
    images: Tensor,
    labels: Tensor,
    steps: int,
    prior: Prior,
    generator: torch.Generator,
    meter: Meter,
    course: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Move `images` so that all models see their labels in them; returns new images in [0, 1].

    models: networks with standardised answers; every step counts once, whatever the number
    of images. Images of one class that are moved together pull at each other. course: the part
    of the whole schedule of rate and noise that these steps are.
    """
    batches = range(0, len(images), MOST_AT_ONCE)
    parts = [slice(begin, begin + MOST_AT_ONCE) for begin in batches]
    movers = [_Mover(images[part], labels[part], prior) for part in parts]
    for step in range(steps):
        done = course[0] + (course[1] - course[0]) * step / steps
        for mover in movers:
            mover.step(models, done, generator)
        meter.step()
    return torch.cat([mover.images.detach() for mover in movers])


class _Mover:
    """Adam on one batch of images."""

    def __init__(self, images: Tensor, labels: Tensor, prior: Prior) -> None:
        self.images = images.clone().requires_grad_()
        self.labels, self.prior = labels, prior
        self.unit = images.shape[2] / _REFERENCE_SIDE
        self.optimizer = torch.optim.Adam([self.images], prior.rate)

    def step(self, models: Sequence[Scored], done: float, generator: torch.Generator) -> None:
        """One step; `done` is the share of the steps before it."""
        prior = self.prior
        for group in self.optimizer.param_groups:
            group["lr"] = prior.rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
        noise = prior.noise[0] + (prior.noise[1] - prior.noise[0]) * done
        seen = shifted(self.images, round(prior.shift * self.unit), generator)
        seen = seen + noise * torch.randn(seen.shape, generator=generator)
        loss = (seen * target_gradient(models, seen, self.labels)).sum() + self._penalty().sum()
        (gradient,) = torch.autograd.grad(loss, self.images)
        self.images.grad = blurred(gradient, prior.blur * self.unit)
        self.optimizer.step()
        with torch.no_grad():
            self.images.clamp_(0, 1)

    def _penalty(self) -> Tensor:
        prior, axes = self.prior, (1, 2, 3)
        mean = class_means(self.images.detach(), self.labels)
        likeness = (self.images - mean).square().mean(axes)
        energy = self.images.square().mean(axes)
        variation = total_variation(self.images)
        return prior.variation * variation + prior.energy * energy + prior.likeness * likeness


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of vertical and of horizontal neighbours, added; (N,)."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean((1, 2, 3))
    across = (images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))
    return down + across


def class_means(images: Tensor, labels: Tensor) -> Tensor:
    """For every image the mean of the images with its label."""
    classes = int(labels.max()) + 1
    sums = torch.zeros(classes, *images.shape[1:]).index_add_(0, labels, images)
    counts = torch.bincount(labels, minlength=classes).clamp_min(1)
    return (sums / counts[:, None, None, None])[labels]


def shifted(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """All images rolled by the same random number of pixels, at most `reach` each way."""
    if not reach:
        return images
    rows, columns = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    return torch.roll(images, (rows, columns), (2, 3))


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, channel by channel, with the border repeated; none below 0.3 pixels."""
    if sigma < 0.3:
        return images
    reach = max(1, int(3 * sigma + 0.5))
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    channels = images.shape[1]
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    rows = kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1)
    columns = kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1)
    once = functional.conv2d(padded, rows, groups=channels)
    return functional.conv2d(once, columns, groups=channels)
