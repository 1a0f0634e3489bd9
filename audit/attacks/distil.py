"""Copying a network from its answers: students, their training, and images to ask about.

Distillation without data. The first questions are images made from random numbers, the next
are images on which the copy so far is sure: they lead it to where the classes lie (zero-shot
knowledge transfer: Micaelli and Storkey, NeurIPS 2019; model extraction: Truong et al., CVPR
2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.attacks.common import MOST_AT_ONCE, Meter, centred
from compiler.ir.geometry import Shape
from compiler.synthesis.start import start_images

_BATCH = 128
_RATE = 3e-3
_DECAY = 1e-2
_NOISE = 0.2
_DREAM_RATE = 0.03
_LARGE_SIDE = 16
"""Images of this side or more are halved once more."""


def student(shape: Shape, classes: int, width: int, smooth: bool, seed: int) -> nn.Module:
    """A small convolutional network of the attacker's own choice, whatever the subject is.

    width: channels of the first layer; smooth: GELU instead of ReLU.
    """
    channels, height, _ = shape
    activation = nn.GELU if smooth else nn.ReLU
    kernel, stride = (5, 2) if height >= _LARGE_SIDE else (3, 1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        features = nn.Sequential(
            nn.Conv2d(channels, width, kernel, stride, kernel // 2),
            activation(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            activation(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = features(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(*features, nn.Linear(size, 128), activation(), nn.Linear(128, classes))


def train(
    copy: nn.Module,
    parameters: Sequence[Tensor],
    images: Tensor,
    answers: Tensor,
    steps: int,
    generator: torch.Generator,
    meter: Meter,
    rate: float = _RATE,
    noise: float = _NOISE,
) -> None:
    """Train `copy` to give the standardised answers.

    parameters: the tensors that are trained; they stop needing gradients afterwards. rate:
    Adam's at first; noise: standard deviation of what is added to the images.
    """
    goal = centred(answers)
    goal = goal / goal.std().clamp_min(1e-12)
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        chosen = torch.randint(len(images), (_BATCH,), generator=generator)
        seen = images[chosen]
        seen = seen + noise * torch.randn(seen.shape, generator=generator)
        loss = functional.mse_loss(centred(copy(seen)), goal[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        meter.step()
    for parameter in parameters:
        parameter.requires_grad_(False)


def dreams(
    models: Sequence[nn.Module],
    shape: Shape,
    classes: int,
    count: int,
    steps: int,
    generator: torch.Generator,
    meter: Meter,
) -> Tensor:
    """Images on which the models see a mixture of two classes, (count, C, H, W) in [0, 1].

    models: with standardised answers. A mixture, since the boundaries between classes teach
    more than their middles.
    """
    images = start_images(count, shape, generator).requires_grad_()
    share = 0.5 + 0.5 * torch.rand(count, generator=generator)
    first, second = torch.randint(classes, (2, count), generator=generator)
    target = functional.one_hot(first, classes) * share[:, None]
    target = target + functional.one_hot(second, classes) * (1 - share[:, None])
    optimizer = torch.optim.Adam([images], _DREAM_RATE)
    for _ in range(steps):
        seen = images.detach() + _NOISE * torch.randn(images.shape, generator=generator)
        pairs = zip(torch.split(seen, MOST_AT_ONCE), torch.split(target, MOST_AT_ONCE), strict=True)
        images.grad = torch.cat([_mixture_gradient(models, *pair) for pair in pairs])
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
        meter.step()
    return images.detach()


def _mixture_gradient(models: Sequence[nn.Module], images: Tensor, target: Tensor) -> Tensor:
    """Gradient of the models' summed cross-entropies to `target` by the images."""
    images.requires_grad_()
    losses = [-(target * torch.log_softmax(model(images), 1)).sum() for model in models]
    (found,) = torch.autograd.grad(torch.stack(losses).sum(), images)
    return found
