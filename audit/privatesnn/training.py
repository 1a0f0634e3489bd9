"""Training in the spiking domain on synthetic images, with or without distillation.

loss = (1 - m) * cross-entropy + m * tau^2 * KL(softmax(ANN / tau), softmax(SNN / tau)), with the
sums of the output layer for the SNN's logits, as the code leaves them. The labels of the
cross-entropy are the ANN's own answers: which ones the paper takes was not found, and the class
that an image was made for is often not the one that the ANN sees in it. The factor tau^2 is that
of Hinton, Vinyals and Dean (2015); whether the paper has it was not found either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audit.privatesnn.encoder import SignedPoisson
from audit.privatesnn.network import PrivateSnn, SpikingNetwork
from audit.privatesnn.settings import Training
from compiler.ir.device import compute_device
from compiler.ir.synthetic import SyntheticSet
from compiler.store import DAMAGE, read_state, write_state

Progress = Callable[[int, int], None]
_DECAY = 0.1


@dataclass(frozen=True)
class Trained:
    """losses: mean of every epoch; agreement: with the ANN's answers, of every epoch."""

    network: PrivateSnn
    losses: tuple[float, ...]
    agreement: tuple[float, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A file with the state after the last epoch, which counts for one key of settings alone."""

    path: Path
    key: str

    def read(self) -> dict[str, Any] | None:
        """The state; None where there is none for this key, or a damaged one."""
        if not self.path.is_file():
            return None
        try:
            content: dict[str, Any] = read_state(self.path)
            return content if content["key"] == self.key else None
        except DAMAGE:
            return None


class _Course:
    """What changes while a network is trained."""

    def __init__(self, network: PrivateSnn, settings: Training, seed: int) -> None:
        self.settings = settings
        self.device = compute_device()
        self.module, self.encoder = SpikingNetwork(network).to(self.device), SignedPoisson(seed)
        self.weights = [weight.requires_grad_() for weight in self.module.weights.values()]
        self.optimizer = torch.optim.Adam(self.weights, settings.learning_rate)
        milestones = [round(share * settings.epochs) for share in settings.milestones]
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones, _DECAY)
        self.generator = torch.Generator().manual_seed(seed)
        self.losses: list[float] = []
        self.agreement: list[float] = []

    @property
    def state(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {
            "weights": [weight.detach() for weight in self.weights],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.generator.get_state(),
            "noise": self.encoder.state,
            "losses": self.losses,
            "agreement": self.agreement,
        }

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Be where the course was when `state` was read."""
        with torch.no_grad():
            for weight, kept in zip(self.weights, state["weights"], strict=True):
                weight.copy_(kept)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["order"])
        self.encoder.go_on_from(state["noise"])
        self.losses, self.agreement = state["losses"], state["agreement"]

    def run_epoch(self, images: Tensor, teacher: Tensor, done: Callable[[int], None]) -> None:
        """One epoch; `done` hears of images that were trained on."""
        total, right = 0.0, 0
        for chosen in torch.split(
            torch.randperm(len(images), generator=self.generator), self.settings.batch
        ):
            self.optimizer.zero_grad()
            for part in torch.split(chosen, self.module.network.at_once):
                loss, same = self._step(images[part], teacher[part], len(chosen))
                total, right = total + loss, right + same
            self.optimizer.step()
            done(len(chosen))
        self.schedule.step()
        self.losses.append(total / len(images))
        self.agreement.append(right / len(images))

    def _step(self, images: Tensor, teacher: Tensor, batch: int) -> tuple[float, int]:
        """Add the gradient of some images of a batch: their summed loss, and answers as wanted."""
        spikes = self.encoder.spikes(images.to(self.device), self.module.network.timesteps)
        answer, goal = self.module(spikes), teacher.to(self.device)
        loss = objective(answer, goal, self.settings) * len(images)
        (loss / batch).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), int((answer.argmax(1) == goal.argmax(1)).sum())


def trained(
    network: PrivateSnn,
    synthetic: SyntheticSet,
    settings: Training,
    seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train on the synthetic images that are not held out; thresholds stay as they are.

    A batch's gradient is summed over as many images at a time as PrivateSnn.at_once says. With
    a `checkpoint` the state is written after every epoch; where it has one of the same key the
    training goes on from there, to the same result.
    """
    images = torch.from_numpy(synthetic.pixels(synthetic.training))
    teacher = torch.from_numpy(synthetic.logits_nk[synthetic.training].copy())
    course = _Course(network, settings, seed)
    state = checkpoint.read() if checkpoint else None
    if state:
        course.go_on_from(state)
    done = len(course.losses) * len(images)

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, settings.epochs * len(images))

    while len(course.losses) < settings.epochs:
        course.run_epoch(images, teacher, tell)
        if checkpoint:
            write_state(checkpoint.path, {"key": checkpoint.key, **course.state})
    return Trained(course.module.trained(), tuple(course.losses), tuple(course.agreement))


def objective(answers: Tensor, teacher: Tensor, settings: Training) -> Tensor:
    """Mean loss of a batch; answers, teacher: (N, classes)."""
    share, temperature = settings.distillation, settings.temperature
    hard = functional.cross_entropy(answers, teacher.argmax(1))
    soft = functional.kl_div(
        torch.log_softmax(answers / temperature, 1),
        torch.softmax(teacher / temperature, 1),
        reduction="batchmean",
    )
    return (1 - share) * hard + share * temperature**2 * soft
