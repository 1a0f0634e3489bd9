"""Class-representative ascent on the re-converted network, as published.

The paper's first attack (its algorithm 1) with the settings of the public code that its
authors name as their source (utkuozbulak/pytorch-cnn-visualizations): 150 steps of plain
gradient ascent on the class score at rate 6 from uniform noise, weight decay 1e-4, gradients
bounded to 0.1, a Gaussian blur of radius 1 before every fourth step. That code bounds the
gradients of the network's weights, which moves no image; here the bound holds for the image,
which keeps one rate fit for every network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.attacks.common import (
    MOST_AT_ONCE,
    Attack,
    AttackImages,
    Budget,
    Meter,
    Progress,
    Scored,
    labels_for,
)
from audit.attacks.inversion import blurred
from audit.subjects import Subject

_STEPS, _RATE, _DECAY, _BOUND = 150, 6.0, 1e-4, 0.1
_BLUR_EVERY, _BLUR_RADIUS = 4, 1.0


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by the published ascent; of the budget only the number of images is used."""
    meter = Meter(progress, _STEPS)
    labels = labels_for(subject, budget)
    model = Scored(subject.module("relu"), subject.input_shape)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(len(labels), *subject.input_shape, generator=generator)
    for step in range(1, _STEPS + 1):
        if step % _BLUR_EVERY == 0:
            images = blurred(images, _BLUR_RADIUS)
        batches = zip(*(torch.split(both, MOST_AT_ONCE) for both in (images, labels)), strict=True)
        descent = torch.cat([_descent(model, some, wanted) for some, wanted in batches])
        images = (images - _RATE * descent).clamp(0, 1)
        meter.step()
    return meter.images(ATTACK.name, images, labels)


def _descent(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Bounded gradient of minus the class score, with weight decay."""
    images = images.detach().requires_grad_()
    score = model(images).gather(1, labels[:, None]).sum()
    (gradient,) = torch.autograd.grad(-score, images)
    length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    bounded: Tensor = gradient * (_BOUND / length.clamp_min(_BOUND))
    return bounded + _DECAY * images.detach()


ATTACK = Attack(
    name="representative",
    family="representative",
    title="Class representatives from the re-converted network, as published",
    access="weights",
    extras="nothing",
    run=run,
)
