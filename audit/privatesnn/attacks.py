"""The audit's attacks on float networks: all of them as they are, but for two that look inside.

The surrogate attacks run a quarter of the time-steps first, and the adaptive attack watches the
layers' rates; both find these in integers elsewhere. Steps, budget and prior are the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from audit.attacks import ATTACKS, Attack, AttackImages, Budget, adaptive
from audit.attacks.common import Meter, Progress, Scored, labels_for
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.attacks.observing import Observed
from audit.attacks.surrogate import ascend, coarse_of
from audit.privatesnn.subject import FloatSubject
from audit.subjects import Subject
from audit.surrogates import SURROGATES, Surrogate
from compiler.ir.chip import ChipGraph


def float_attacks() -> tuple[Attack, ...]:
    """audit.attacks.ATTACKS in their order, fit for float networks too."""
    own = {f"surrogate-{surrogate.name}": surrogate for surrogate in SURROGATES}
    attacks = []
    for attack in ATTACKS:
        if attack.name in own:
            attack = _through_time(attack, own[attack.name])
        elif attack.name == adaptive.ATTACK.name:
            attack = replace(attack, run=_adaptive)
        attacks.append(attack)
    return tuple(attacks)


def _through_time(attack: Attack, surrogate: Surrogate) -> Attack:
    def run(
        subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
    ) -> AttackImages:
        if not isinstance(subject, FloatSubject):
            return attack.run(subject, budget, seed, progress)
        meter = Meter(progress, budget.spiking_steps)
        coarse = coarse_of(subject.snn.timesteps)
        return ascend(subject, surrogate, attack.name, coarse, budget, seed, meter)

    return replace(attack, run=run)


def _adaptive(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """audit.attacks.adaptive on a network whose rates are those of floats."""
    if not isinstance(subject, FloatSubject):
        return adaptive.run(subject, budget, seed, progress)
    meter = _FloatMeter(subject, progress, budget.training_steps + budget.gradient_steps)
    generator = torch.Generator().manual_seed(seed)
    unused = cast(ChipGraph, None)  # handed through to the meter, which watches the subject
    module, error = adaptive.fitted_network(subject, unused, budget, generator, meter)
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    model, steps = Scored(module, subject.input_shape), budget.gradient_steps
    images = invert([model], start, labels, steps, DEFAULT_PRIOR, generator, meter)
    return meter.images(adaptive.ATTACK.name, images, labels, imitation_error=error)


class _FloatMeter(Meter):
    """Watches a float network in place of integers."""

    def __init__(self, subject: FloatSubject, progress: Progress | None, total: int) -> None:
        super().__init__(progress, total)
        self._subject = subject

    def observe(self, graph: ChipGraph, images: Tensor) -> Observed:
        """Every layer's rates and the answers, each image counted as a query."""
        self.queries += len(images)
        return self._subject.observe(images)
