"""What every attack takes and gives, and the counting of what it spends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from audit.observing import Observed
from audit.subjects import Subject
from compiler.ir.geometry import Array, Shape
from compiler.synthesis.start import start_images

Progress = Callable[[int, int], None]
Family = Literal["representative", "surrogate", "evolution", "image_prior", "clone", "adaptive"]

_SCALE_IMAGES = 256


@dataclass(frozen=True)
class Budget:
    """What an attack may spend, the same for every subject.

    images_per_class: class images that each attack hands over.
    gradient_steps: steps of gradient ascent on every image, through an ordinary network.
    spiking_steps, spiking_full_steps: steps through the spiking network, and how many of them
    run all its time-steps; the others run as few as give like answers, where the input is a rate.
    queries_per_image: answers that an attack without gradients may ask for on each image.
    queries: answers for copying the network; training_steps: steps of the copy's training.
    """

    images_per_class: int
    gradient_steps: int
    spiking_steps: int
    spiking_full_steps: int
    queries_per_image: int
    queries: int
    training_steps: int


QUICK = Budget(
    images_per_class=20,
    gradient_steps=150,
    spiking_steps=40,
    spiking_full_steps=8,
    queries_per_image=400,
    queries=4_000,
    training_steps=500,
)
FULL = Budget(
    images_per_class=50,
    gradient_steps=200,
    spiking_steps=40,
    spiking_full_steps=8,
    queries_per_image=400,
    queries=8_000,
    training_steps=1_500,
)


@dataclass(frozen=True)
class AttackImages:
    """Images made for every class, and what they cost.

    images_nchw: float32 in [0, 1], all classes in turn; labels_n: int64, the class that each
    was made for. gradient_steps: optimizer steps, of images and of trained copies together, an
    image's own steps counted once for all images; queries: images on which the subject was
    asked for its answer; details: plain values.
    """

    attack: str
    images_nchw: Array
    labels_n: Array
    gradient_steps: int
    queries: int
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)


class Run(Protocol):
    """How an attack is called; `progress` hears of its own steps."""

    def __call__(
        self, subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
    ) -> AttackImages:
        """Make the images."""


@dataclass(frozen=True)
class Attack:
    """An attack; attacks of one `family` differ in a choice, of which the worst counts.

    access: `weights` reads the file's integers, `queries` needs answers alone; extras: what
    else the attacker needs.
    """

    name: str
    family: Family
    title: str
    access: Literal["weights", "queries"]
    extras: str
    run: Run


@dataclass(frozen=True)
class Spent:
    """Gradient steps, queries and seconds that went into something."""

    gradient_steps: int = 0
    queries: int = 0
    seconds: float = 0.0


class Meter:
    """Counts what an attack spends; built when it begins. before: what it was given cost."""

    def __init__(self, progress: Progress | None, total: int, before: Spent | None = None) -> None:
        before = before or Spent()
        self.gradient_steps, self.queries = before.gradient_steps, before.queries
        self._progress, self._total = progress, total
        self._done = 0
        self._started = time.perf_counter() - before.seconds

    def step(self) -> None:
        """One gradient step, of all images or of a copy's training."""
        self.gradient_steps += 1
        self.advance()

    def advance(self) -> None:
        """One of the announced steps is done."""
        self._done += 1
        if self._progress:
            self._progress(min(self._done, self._total), self._total)

    def ask(self, subject: Subject, images: Tensor) -> Tensor:
        """The subject's answers, float32 (N, classes), each image counted as a query."""
        self.queries += len(images)
        return torch.from_numpy(subject.logits(images.numpy())).float()

    def observe(self, subject: Subject, images: Tensor) -> Observed:
        """Every layer's rates and the answers, each image counted as a query."""
        self.queries += len(images)
        return subject.observe(images)

    def images(self, attack: str, images: Tensor, labels: Tensor, **details: Any) -> AttackImages:
        """The attack's result with everything that was counted."""
        return AttackImages(
            attack,
            np.ascontiguousarray(images.detach().numpy(), dtype=np.float32),
            labels.numpy().astype(np.int64),
            self.gradient_steps,
            self.queries,
            time.perf_counter() - self._started,
            details,
        )


def labels_for(subject: Subject, budget: Budget) -> Tensor:
    """int64 labels, the classes taking turns: 0, 1, ..., K - 1, 0, 1, ..."""
    return torch.arange(subject.classes).repeat(budget.images_per_class)


MOST_AT_ONCE = 250
"""Images that move together, and whose gradient through an ordinary network is computed at once."""


class Scored(nn.Module):
    """A network whose answers have mean 0 over the classes and a spread of 1 over images.

    Logits, voltages and rates come on scales of their own; without this a gradient step or a
    softmax would mean something else for each subject. The scale is that of the answers to
    images made from random numbers; 1 where the network answers all of them alike.
    """

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.module = module
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            answers = module(start_images(_SCALE_IMAGES, shape, generator))
        self.scale = float(centred(answers).std()) or 1.0

    @property
    def at_once(self) -> int:
        """Images whose gradient is computed together; spiking modules say how many."""
        return int(getattr(self.module, "at_once", MOST_AT_ONCE))

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return standardised answers (N, classes)."""
        return centred(self.module(images_nchw)) / self.scale


def centred(answers: Tensor) -> Tensor:
    """Answers minus their mean over the classes."""
    return answers - answers.mean(1, keepdim=True)


def target_gradient(models: Sequence[Scored], images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the sum of `target_loss` by the images, (N, C, H, W).

    Computed part by part: what all images through all time-steps leave for the pass back would
    take gigabytes.
    """
    size = min(model.at_once for model in models)
    found: list[Tensor] = []
    for some, wanted in zip(
        torch.split(images.detach(), size), torch.split(labels, size), strict=True
    ):
        some.requires_grad_()
        found += torch.autograd.grad(target_loss(models, some, wanted).sum(), some)
    return torch.cat(found)


def target_loss(models: Sequence[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    """Mean over the models of -log softmax at each image's label, (N,)."""
    losses = [-torch.log_softmax(model(images), 1).gather(1, labels[:, None]) for model in models]
    return torch.stack(losses).mean(0)[:, 0]
