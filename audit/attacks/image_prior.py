"""Inversion of the re-converted network under an image prior.

The strongest attack that takes the file's weights for those of an ordinary network: of all
readings of the integers, plain and clipped, rescaled and fine-tuned (audit.reconversion), the
one whose images the spiking network itself takes most for what they were made to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audit.attacks.common import (
    Attack,
    AttackImages,
    Budget,
    Meter,
    Progress,
    Scored,
    centred,
    labels_for,
)
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.subjects import Subject
from compiler.ir.run_ann import to_module

if TYPE_CHECKING:
    from audit.reconversion import Reconversion

_TRIAL_SHARE = 4
"""A trial of a reading takes this part of an inversion's steps."""

_TRIAL_IMAGES = 4
"""Of each class, at most, in a trial."""


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by inversion of the best reading; the ANN is inverted as it is."""
    from audit import reconversion

    readings = reconversion.reconversions(subject, seed)
    trials = len(readings) * _trial_steps(budget) if subject.spiking else 0
    meter = Meter(progress, trials + budget.gradient_steps, reconversion.spent_on(readings))
    generator = torch.Generator().manual_seed(seed)
    best = 0
    if subject.spiking:
        best = int(persuasions(subject, readings, budget, generator, meter).argmax())
    reading = readings[best]
    images, labels = inverted(reading, subject, budget, generator, meter)
    return meter.images(ATTACK.name, images, labels, view=reading.name)


def persuasions(
    subject: Subject,
    readings: Sequence[Reconversion],
    budget: Budget,
    generator: torch.Generator,
    meter: Meter,
) -> Tensor:
    """How far each reading's images persuade the subject of their classes, (readings,).

    The mean log of the share that the subject's standardised answers give the class. Each is
    inverted for some steps from the same start under the same noise. Agreement on images from
    random numbers tells less: networks that agree there may be wrong along an ascent.
    """
    labels = torch.arange(subject.classes).repeat(min(budget.images_per_class, _TRIAL_IMAGES))
    start = dark_start(len(labels), subject.input_shape, generator)
    state = generator.get_state()
    made: list[Tensor] = []
    steps = _trial_steps(budget)
    for reading in readings:
        generator.set_state(state)
        model = Scored(to_module(reading.graph), subject.input_shape)
        made.append(invert([model], start, labels, steps, DEFAULT_PRIOR, generator, meter))
    answers = centred(meter.ask(subject, torch.cat(made)))
    shares = torch.log_softmax(answers / answers.std().clamp_min(1e-12), 1)
    told = shares.gather(1, labels.repeat(len(readings))[:, None])
    return told.view(len(readings), -1).mean(1)


def inverted(
    reading: Reconversion,
    subject: Subject,
    budget: Budget,
    generator: torch.Generator,
    meter: Meter,
) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) by inversion of a reading, and the classes that they were made for."""
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    model = Scored(to_module(reading.graph), subject.input_shape)
    steps = budget.gradient_steps
    return invert([model], start, labels, steps, DEFAULT_PRIOR, generator, meter), labels


def _trial_steps(budget: Budget) -> int:
    return max(1, budget.gradient_steps // _TRIAL_SHARE)


ATTACK = Attack(
    name="image_prior",
    family="image_prior",
    title="Inversion of the re-converted network under an image prior",
    access="weights",
    extras="a general prior of images (smooth, dark where nothing is, robust to noise)",
    run=run,
)
