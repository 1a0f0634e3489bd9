"""Evolution strategies: class images from answers alone, without any gradient.

Antithetic natural evolution strategies (Wierstra et al., JMLR 2014) with ranks for fitness, in
the low frequencies of the cosine transform. Where it finds more than the surrogate gradients do,
those were masked, not the classes hidden. Images of one class share half of every step: what
all of them learnt from their own queries.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.fft import idctn
from torch import Tensor

from audit.attacks.common import (
    Attack,
    AttackImages,
    Budget,
    Meter,
    Progress,
    centred,
    labels_for,
)
from audit.attacks.inversion import DEFAULT_PRIOR, class_means, dark_start, total_variation
from audit.subjects import Subject
from compiler.ir.geometry import Shape
from compiler.synthesis.start import start_images

_PROBES = 256
_PAIRS = 5
_MOST_FREQUENCIES = 8
_SPREAD = 0.15
"""Standard deviation of the pixels of what is tried."""

_RATE = 0.08
"""Standard deviation of the pixels' change in one step, at first."""

_SHARED = 0.5


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by evolution; the subject is asked `queries_per_image` times for each."""
    generations = budget.queries_per_image // (2 * _PAIRS)
    meter = Meter(progress, generations)
    generator = torch.Generator().manual_seed(seed)
    probes = start_images(_PROBES, subject.input_shape, generator)
    scale = centred(meter.ask(subject, probes)).std().clamp_min(1e-12)
    labels = labels_for(subject, budget)
    images = dark_start(len(labels), subject.input_shape, generator)
    basis = low_frequencies(subject.input_shape)
    moved = torch.zeros(len(labels), len(basis))
    for generation in range(generations):
        tried = _Generation(images, basis, generator)
        fitness = [
            _fitness(meter.ask(subject, candidates) / scale, candidates, labels)
            for candidates in tried.candidates()
        ]
        moved = 0.5 * moved + tried.direction(torch.stack(fitness), labels)
        rate = _RATE * 0.5 * (1.05 + math.cos(math.pi * generation / generations))
        images = _moved(images, moved, basis, rate)
        meter.advance()
    return meter.images(ATTACK.name, images, labels, frequencies=len(basis), pairs=_PAIRS)


def _moved(images: Tensor, direction: Tensor, basis: Tensor, rate: float) -> Tensor:
    change = torch.einsum("nd,dchw->nchw", direction, basis)
    spread = change.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    return (images + rate * change / spread).clamp(0, 1)


class _Generation:
    """One generation: pairs of opposite steps from every image."""

    def __init__(self, images: Tensor, basis: Tensor, generator: torch.Generator) -> None:
        self.images, self.basis = images, basis
        shape = (_PAIRS, len(images), len(basis))
        self.steps = torch.randn(shape, generator=generator)

    def candidates(self) -> list[Tensor]:
        """The images to ask about, one batch a sign of a pair."""
        pixels = self.images[0].numel()
        change = torch.einsum("pnd,dchw->pnchw", self.steps, self.basis)
        change = change * (_SPREAD * math.sqrt(pixels / len(self.basis)))
        pairs = [(self.images + step, self.images - step) for step in change]
        return [image.clamp(0, 1) for pair in pairs for image in pair]

    def direction(self, fitness_pn: Tensor, labels: Tensor) -> Tensor:
        """Where fitness rises, (N, frequencies): the image's own step and its class's."""
        ranks = fitness_pn.argsort(0).argsort(0).float() / (len(fitness_pn) - 1) - 0.5
        difference = ranks[0::2] - ranks[1::2]
        own: Tensor = torch.einsum("pn,pnd->nd", difference, self.steps) / _PAIRS
        of_class = class_means(own[:, :, None, None], labels)[:, :, 0, 0]
        share = _SHARED * own.norm() / of_class.norm().clamp_min(1e-12)
        direction: Tensor = (1 - _SHARED) * own + share * of_class
        return direction


def _fitness(answers: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """Log softmax of the label less the prior's penalties, (N,)."""
    known: Tensor = torch.log_softmax(centred(answers), 1).gather(1, labels[:, None])[:, 0]
    energy = images.square().mean((1, 2, 3))
    variation = total_variation(images)
    return known - DEFAULT_PRIOR.energy * energy - DEFAULT_PRIOR.variation * variation


def low_frequencies(shape: Shape) -> Tensor:
    """Orthonormal cosine patterns (D, C, H, W) of the lowest frequencies, channel by channel."""
    channels, height, width = shape
    rows, columns = min(height, _MOST_FREQUENCIES), min(width, _MOST_FREQUENCIES)
    patterns = np.zeros((channels, rows, columns, channels, height, width), np.float32)
    for row in range(rows):
        for column in range(columns):
            one = np.zeros((height, width))
            one[row, column] = 1
            pattern = idctn(one, norm="ortho")
            for channel in range(channels):
                patterns[channel, row, column, channel] = pattern
    return torch.from_numpy(patterns.reshape(-1, channels, height, width))


ATTACK = Attack(
    name="evolution",
    family="evolution",
    title="Evolution strategies on the network's answers",
    access="queries",
    extras="answers with their scores, and a general prior of images",
    run=run,
)
