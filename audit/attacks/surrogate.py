"""Inversion through the spiking network itself, with surrogate gradients over time.

The paper's second attack (its algorithm 3) under the image prior of `image_prior`, which makes
it stronger than as published. One attack for each surrogate: the owner has to fear the best.
"""

from __future__ import annotations

import torch

from audit.attacks.common import Attack, AttackImages, Budget, Meter, Progress, Scored, labels_for
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.subjects import Subject
from audit.surrogates import SURROGATES, Surrogate

_FEWEST_TIMESTEPS = 4
_FEWER = 4
"""A rate is known to a quarter of its precision from a quarter of the time-steps, which is
enough to say where an image has to go."""


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
    coarse = _coarse(subject.rate_timesteps)
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


def _coarse(timesteps: int | None) -> int | None:
    """Time-steps of the coarse ascent; None for all of them, where the input is no rate."""
    return None if timesteps is None else max(_FEWEST_TIMESTEPS, timesteps // _FEWER)


ATTACKS = tuple(_attack(surrogate) for surrogate in SURROGATES)
