"""Inversion of the re-converted network under an image prior.

The strongest attack that takes the file's weights for those of an ordinary network: of all
readings of the integers, plain and clipped, rescaled and fine-tuned (audit.reconversion), the
one that answers most like the spiking network on images made from random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from audit.attacks.common import Attack, AttackImages, Budget, Meter, Progress, Scored, labels_for
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.subjects import Subject
from compiler.ir.run_ann import to_module
from compiler.synthesis.start import start_images

if TYPE_CHECKING:
    from audit.reconversion import Reconversion

_PROBES = 256


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by inversion of the best reading."""
    from audit import reconversion

    readings = reconversion.reconversions(subject, seed)
    meter = Meter(progress, budget.gradient_steps, reconversion.spent_on(readings))
    generator = torch.Generator().manual_seed(seed)
    reading = best_reading(subject, readings, meter, generator)
    model = Scored(to_module(reading.graph), subject.input_shape)
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    images = invert([model], start, labels, budget.gradient_steps, DEFAULT_PRIOR, generator, meter)
    return meter.images(ATTACK.name, images, labels, view=reading.name)


def best_reading(
    subject: Subject, readings: Sequence[Reconversion], meter: Meter, generator: torch.Generator
) -> Reconversion:
    """The reading that agrees most often with the subject's own answers; the first of equals."""
    probes = start_images(_PROBES, subject.input_shape, generator)
    expected = meter.ask(subject, probes).argmax(1)

    def agreement(reading: Reconversion) -> int:
        with torch.no_grad():
            return int((to_module(reading.graph)(probes).argmax(1) == expected).sum())

    return max(readings, key=agreement)


ATTACK = Attack(
    name="image_prior",
    family="image_prior",
    title="Inversion of the re-converted network under an image prior",
    access="weights",
    extras="a general prior of images (smooth, dark where nothing is, robust to noise)",
    run=run,
)
