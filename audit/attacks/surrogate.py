"""Inversion through the spiking network itself, with surrogate gradients over time.

The paper's second attack (its algorithm 3) under the image prior of `image_prior`, which makes
it stronger than as published. One attack for each surrogate: the owner has to fear the best.
"""

from __future__ import annotations

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
from audit.surrogates import SURROGATES, Surrogate
from compiler.synthesis.start import start_images

_FEWEST_TIMESTEPS = 4
_SHARES = (1, 2, 3)
"""Quarters of the time-steps that the coarse ascent may run.

A rate is known to a quarter of its precision from a quarter of the time-steps, which is enough
to say where an image has to go; but in a deep network no spike may have come through by then."""

_ALIKE = 0.7
"""Least correlation of answers after fewer time-steps with those after all of them."""

_PROBES = 32
"""Images made from random numbers that the two are compared on."""


def _attack(surrogate: Surrogate) -> Attack:
    name = f"surrogate-{surrogate.name}"

    def run(
        subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
    ) -> AttackImages:
        """Images by ascent through the spiking network, first coarsely and then exactly."""
        meter = Meter(progress, budget.spiking_steps)
        return _ascend(subject, surrogate, name, budget, seed, meter)

    return Attack(
        name=name,
        family="surrogate",
        title=f"Inversion through the spiking network, {surrogate.name} surrogate",
        access="weights",
        extras="a general prior of images",
        run=run,
    )


def _ascend(
    subject: Subject, surrogate: Surrogate, name: str, budget: Budget, seed: int, meter: Meter
) -> AttackImages:
    coarse = _coarse(subject, surrogate)
    generator = torch.Generator().manual_seed(seed)
    labels = labels_for(subject, budget)
    images = dark_start(len(labels), subject.input_shape, generator)
    full = budget.spiking_full_steps
    begin = 1 - full / budget.spiking_steps
    parts = ((coarse, budget.spiking_steps - full, (0.0, begin)), (None, full, (begin, 1.0)))
    for timesteps, count, course in parts:
        module = subject.module("spiking", surrogate, timesteps)
        model = Scored(module, subject.input_shape)
        images = invert([model], images, labels, count, DEFAULT_PRIOR, generator, meter, course)
    return meter.images(name, images, labels, coarse_timesteps=coarse, full_steps=full)


def _coarse(subject: Subject, surrogate: Surrogate) -> int | None:
    """The fewest time-steps whose answers are like those after all; None for all of them.

    All are run where the input is no rate.
    """
    steps = subject.rate_timesteps
    if steps is None:
        return None
    probes = start_images(_PROBES, subject.input_shape, torch.Generator().manual_seed(0))

    def answers(timesteps: int) -> Tensor:
        with torch.no_grad():
            found = subject.module("spiking", surrogate, timesteps)(probes)
        own = found - found[0]  # exactly 0 where every image is answered alike
        return centred(own - own.mean(0)).flatten()

    whole = answers(steps)
    fewer = sorted({max(_FEWEST_TIMESTEPS, share * steps // 4) for share in _SHARES})
    for timesteps in (few for few in fewer if few < steps):
        both = torch.stack([answers(timesteps), whole])
        if bool(both.std(1).all()) and float(torch.corrcoef(both)[0, 1]) >= _ALIKE:
            return timesteps
    return None


ATTACKS = tuple(_attack(surrogate) for surrogate in SURROGATES)
