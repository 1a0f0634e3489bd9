"""Inversion of the re-converted network under an image prior.

The strongest attack that takes the file's weights for those of an ordinary network: of the
two readings, plain and clipped ReLU, the one that answers more like the spiking network on
images made from random numbers.
"""

from __future__ import annotations

import torch

from audit.attacks.common import Attack, AttackImages, Budget, Meter, Progress, Scored, labels_for
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.subjects import Subject
from compiler.synthesis.start import start_images

_PROBES = 256


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by inversion of the better reading."""
    meter = Meter(progress, budget.gradient_steps)
    generator = torch.Generator().manual_seed(seed)
    view = better_view(subject, meter, generator)
    model = Scored(subject.module(view), subject.input_shape)
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    images = invert([model], start, labels, budget.gradient_steps, DEFAULT_PRIOR, generator, meter)
    return meter.images(ATTACK.name, images, labels, view=view)


def better_view(subject: Subject, meter: Meter, generator: torch.Generator) -> str:
    """`relu` or `clipped_relu`: which agrees more often with the subject's own answers."""
    probes = start_images(_PROBES, subject.input_shape, generator)
    expected = meter.ask(subject, probes).argmax(1)
    views = ("relu", "clipped_relu")
    with torch.no_grad():
        right = [int((subject.module(v)(probes).argmax(1) == expected).sum()) for v in views]
    return views[right.index(max(right))]


ATTACK = Attack(
    name="image_prior",
    family="image_prior",
    title="Inversion of the re-converted network under an image prior",
    access="weights",
    extras="a general prior of images (smooth, dark where nothing is, robust to noise)",
    run=run,
)
