"""Clone, then invert: the network is copied from its answers, and the copy is inverted.

No weight is read. What this attack finds lies in the network's function, and no change of
weights that keeps the function can hide it; attacks on the weights are judged by what they
find beyond it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.attacks.common import Attack, AttackImages, Budget, Meter, Progress, Scored, labels_for
from audit.attacks.distil import dreams, student, train
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.subjects import Subject
from compiler.synthesis.start import start_images

_ROUNDS = 2
"""Times that the copy itself makes the next images to ask about."""

_DREAM_STEPS = 20
_WIDTHS = (24, 32)


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by inversion of two copies of the subject together."""
    total = 2 * budget.training_steps + _ROUNDS * _DREAM_STEPS + budget.gradient_steps
    meter = Meter(progress, total)
    generator = torch.Generator().manual_seed(seed)
    copies, agreement = clones(subject, budget, seed, generator, meter)
    models = [Scored(copy, subject.input_shape) for copy in copies]
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    images = invert(models, start, labels, budget.gradient_steps, DEFAULT_PRIOR, generator, meter)
    return meter.images(ATTACK.name, images, labels, agreement=agreement)


def clones(
    subject: Subject, budget: Budget, seed: int, generator: torch.Generator, meter: Meter
) -> tuple[tuple[nn.Module, nn.Module], float]:
    """Two copies of different build, and their agreement with the last, unseen answers.

    The first learns while it asks: half of the queries on images from random numbers, the rest
    on images that it makes. The second learns from all of the answers.
    """
    shape, classes = subject.input_shape, subject.classes
    first = student(shape, classes, _WIDTHS[0], False, seed)
    learning = budget.training_steps // (2 * _ROUNDS)
    images = start_images(budget.queries // 2, shape, generator)
    answers = meter.ask(subject, images)
    agreement = 0.0
    for _ in range(_ROUNDS):
        train(first, list(first.parameters()), images, answers, learning, generator, meter)
        count = budget.queries // (2 * _ROUNDS)
        model = Scored(first, shape)
        asked = dreams([model], shape, classes, count, _DREAM_STEPS, generator, meter)
        found = meter.ask(subject, asked)
        images, answers = torch.cat([images, asked]), torch.cat([answers, found])
        agreement = _agreement(first, asked, found)
    rest = budget.training_steps - _ROUNDS * learning
    train(first, list(first.parameters()), images, answers, rest, generator, meter)
    second = student(shape, classes, _WIDTHS[1], True, seed + 1)
    steps = budget.training_steps
    train(second, list(second.parameters()), images, answers, steps, generator, meter)
    return (first, second), agreement


def _agreement(copy: nn.Module, images: Tensor, answers: Tensor) -> float:
    with torch.no_grad():
        return float((copy(images).argmax(1) == answers.argmax(1)).float().mean())


ATTACK = Attack(
    name="clone",
    family="clone",
    title="Copy from answers alone, then inversion of the copy",
    access="queries",
    extras="answers with their scores, and a general prior of images",
    run=run,
)
