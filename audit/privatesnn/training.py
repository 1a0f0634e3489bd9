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

import torch
from torch import Tensor
from torch.nn import functional

from audit.privatesnn.encoder import SignedPoisson
from audit.privatesnn.network import PrivateSnn, SpikingNetwork
from audit.privatesnn.settings import Training
from compiler.ir.device import compute_device
from compiler.ir.synthetic import SyntheticSet

Progress = Callable[[int, int], None]
_DECAY = 0.1


@dataclass(frozen=True)
class Trained:
    """losses: mean of every epoch; agreement: with the ANN's answers, of every epoch."""

    network: PrivateSnn
    losses: tuple[float, ...]
    agreement: tuple[float, ...]


def trained(
    network: PrivateSnn,
    synthetic: SyntheticSet,
    settings: Training,
    seed: int,
    progress: Progress | None = None,
) -> Trained:
    """Train on the synthetic images that are not held out; thresholds stay as they are.

    A batch's gradient is summed over as many images at a time as PrivateSnn.at_once says.
    """
    device = compute_device()
    images = torch.from_numpy(synthetic.pixels(synthetic.training))
    teacher = torch.from_numpy(synthetic.logits_nk[synthetic.training].copy())
    module, encoder = SpikingNetwork(network).to(device), SignedPoisson(seed)
    weights = [weight.requires_grad_() for weight in module.weights.values()]
    optimizer = torch.optim.Adam(weights, settings.learning_rate)
    milestones = [round(share * settings.epochs) for share in settings.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, _DECAY)
    generator = torch.Generator().manual_seed(seed)
    losses, agreement = [], []
    for epoch in range(settings.epochs):
        total, right = 0.0, 0
        order = torch.randperm(len(images), generator=generator)
        for done, chosen in enumerate(torch.split(order, settings.batch)):
            optimizer.zero_grad()
            for part in torch.split(chosen, network.at_once):
                spikes = encoder.spikes(images[part].to(device), network.timesteps)
                answer, goal = module(spikes), teacher[part].to(device)
                loss = objective(answer, goal, settings) * len(part)
                (loss / len(chosen)).backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
                right += int((answer.argmax(1) == goal.argmax(1)).sum())
            optimizer.step()
            if progress:
                progress(epoch * len(order) + done * settings.batch, settings.epochs * len(order))
        schedule.step()
        losses.append(total / len(images))
        agreement.append(right / len(images))
    return Trained(module.trained(), tuple(losses), tuple(agreement))


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
