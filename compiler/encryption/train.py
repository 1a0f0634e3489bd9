"""Train the spiking network on the synthetic images, distilling from the ANN."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from compiler.chip.execute_float import encode_nhwc
from compiler.config import EncryptionConfig
from compiler.encryption.dynamics import with_decays
from compiler.encryption.losses import answer_loss, reconversion
from compiler.encryption.network import WEIGHT_SCALE, SlayerNetwork, Surrogate
from compiler.errors import EnvironmentProblem, one_problem
from compiler.ir.ann import AnnGraph
from compiler.ir.device import compute_device, repeatable
from compiler.ir.geometry import Array, in_parts
from compiler.ir.run_ann import to_module
from compiler.ir.snn import SnnGraph
from compiler.ir.stages import stages
from compiler.ir.synthetic import SyntheticSet
from compiler.store import KEEP_SECONDS

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Epoch:
    """Held-out figures after an epoch; epoch 0 is the network before training.

    agreement: share of images on which the answer is the ANN's. answers, rates, reconversion: the
    parts of `loss` before their weights (EncryptionConfig); the last is 0 where it has no weight.
    """

    epoch: int
    loss: float
    agreement: float
    answers: float
    rates: float
    reconversion: float


_LEAST_SIZE = 1e-3
"""Of a layer's weights, for the relative learning rate: Adafactor's epsilon_2."""

FIGURES = tuple(field.name for field in fields(Epoch))[1:]


@dataclass(frozen=True)
class Encryption:
    """The trained network of the best epoch, and the course of the training."""

    graph: SnnGraph
    epochs: tuple[Epoch, ...]
    best_epoch: int


@dataclass
class TrainingState:
    """Everything needed to go on after an interruption."""

    network: dict[str, Any]
    optimizer: dict[str, Any]
    best: dict[str, Any]
    epochs: list[Epoch]
    steps: int = 0
    """Of the epoch that follows `epochs`, those already done."""


Checkpoint = Callable[[TrainingState], None]


class Team(Protocol):
    """The processes that train together, each on its part of every batch."""

    def share(self, count: int) -> slice:
        """This process's part of `count` samples."""

    def total(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their sums over all processes."""


class _Alone:
    """One process, which trains on whole batches."""

    def share(self, count: int) -> slice:
        """All of them."""
        return slice(0, count)

    def total(self, tensors: Sequence[torch.Tensor]) -> None:
        """They are the sums."""


@dataclass(frozen=True)
class _Goals:
    """The ANN's logits (N, K), the rates its hidden activations stand for, (N, H, W, C) each, and
    the mean square of each of them over the whole batch."""

    logits: torch.Tensor
    rates: list[torch.Tensor]
    scales: torch.Tensor

    def part(self, samples: slice) -> _Goals:
        """Those of some samples."""
        return _Goals(self.logits[samples], [rate[samples] for rate in self.rates], self.scales)


class _Teacher:
    """The ANN, asked for logits and for the firing rates its activations stand for."""

    def __init__(self, graph: AnnGraph, network: SnnGraph, device: torch.device) -> None:
        self.module = to_module(graph).to(device)
        chain = stages(graph)
        self.hidden = [stage.output_index for stage in chain if not stage.readout]
        self.units = [
            torch.tensor(layer.unit, dtype=torch.float32, device=device)
            for layer in network.layers[:-1]
        ]

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.no_grad():
            outputs = [output for _, output in self.module.layer_outputs(images)]
        rates = [
            (outputs[index].permute(0, 2, 3, 1) / unit).clamp(0, 1)
            for index, unit in zip(self.hidden, self.units, strict=True)
        ]
        return outputs[-1].flatten(1), rates


@repeatable()
def encrypt(
    graph: AnnGraph,
    network: SnnGraph,
    synthetic: SyntheticSet,
    config: EncryptionConfig,
    seed: int,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    resume: TrainingState | None = None,
    team: Team | None = None,
) -> Encryption:
    """Train `network` (converted from the lowered `graph`) on synthetic images alone.

    Weights and biases are seen rounded to the chip's integers, u wraps and v clips as on the chip.
    Stops when the held-out loss has not improved for `config.patience` epochs and returns
    the best epoch, which may be 0. `checkpoint` is given the state after every epoch, and every
    KEEP_SECONDS within one; `resume` takes one. `team`: processes that were all called with the
    same arguments; they share every batch, and gradients are summed over them. Raises
    EnvironmentProblem if the loss is no number.
    """
    trainer = _Trainer(graph, network, synthetic, config, seed, team or _Alone())
    if resume is not None:
        trainer.restore(resume)
    else:
        trainer.judge(0)
    begin = len(trainer.epochs)
    for epoch in range(begin, config.epochs + 1):
        if trainer.exhausted():
            break
        trainer.train_epoch(epoch, progress, checkpoint)
        trainer.judge(epoch)
        if checkpoint:
            checkpoint(trainer.state())
    return trainer.result()


class _Trainer:
    def __init__(
        self,
        graph: AnnGraph,
        network: SnnGraph,
        synthetic: SyntheticSet,
        config: EncryptionConfig,
        seed: int,
        team: Team,
    ) -> None:
        self.config, self.seed, self.synthetic, self.team = config, seed, synthetic, team
        network = with_decays(network, config.current_decay, config.voltage_decay)
        height = config.surrogate_height or 2 / network.timesteps
        surrogate = Surrogate(config.surrogate_width, height, config.surrogate == "linear")
        torch.manual_seed(seed)
        self.device = compute_device()
        self.network = SlayerNetwork(network, surrogate).to(self.device)
        self.teacher = _Teacher(graph, network, self.device)
        self.logit_scale = network.logit_per_voltage * WEIGHT_SCALE
        self.optimizer = torch.optim.Adam(self._groups(), config.learning_rate)
        self.images = synthetic.pixels(synthetic.training)
        self.held_out = with_contrast(
            synthetic.pixels(synthetic.validation), config.lowest_contrast, [seed, 0]
        )
        self.epochs: list[Epoch] = []
        self.best: dict[str, Any] = {}
        self.steps = 0

    def _groups(self) -> list[dict[str, Any]]:
        """Each layer's weights and bias, and the factor of the learning rate that they have."""
        relative = self.config.learning_rate_unit == "weights"
        groups = []
        for block in self.network.blocks:
            weight = block.synapse.weight
            size = max(float(weight.detach().double().square().mean().sqrt()), _LEAST_SIZE)
            trained = [p for p in block.parameters() if p.requires_grad]
            groups.append({"params": trained, "factor": size if relative else 1.0})
        return groups

    def train_epoch(
        self, epoch: int, progress: Progress | None, checkpoint: Checkpoint | None
    ) -> None:
        kept = time.monotonic()
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        steps = -(-len(order) // self.config.batch)
        for step in range(self.steps, steps):
            self._set_rate((epoch - 1 + step / steps) / self.config.epochs)
            chosen = order[step * self.config.batch : (step + 1) * self.config.batch]
            drawn = ((epoch - 1) * steps + step) * self.config.batch
            self.optimizer.zero_grad(set_to_none=True)
            images = with_contrast(
                self.images[chosen], self.config.lowest_contrast, [self.seed, epoch, step]
            )
            self._run(images, drawn, learn=True)
            self._sum_gradients()
            self.optimizer.step()
            self.steps = step + 1
            if progress:
                progress((epoch - 1) * steps + step + 1, self.config.epochs * steps)
            if checkpoint and time.monotonic() - kept > KEEP_SECONDS:
                checkpoint(self.state())
                kept = time.monotonic()
        self.steps = 0
        self._check_finite(epoch)

    def _sum_gradients(self) -> None:
        """Of the team's parts of a batch."""
        parameters = (p for group in self.optimizer.param_groups for p in group["params"])
        self.team.total([p.grad for p in parameters if p.grad is not None])

    def _set_rate(self, share: float) -> None:
        factor = _SCHEDULES[self.config.schedule](share)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor * group["factor"]

    def _run(self, images: Array, first_index: int, learn: bool = False) -> Array:
        """This process's part of a batch's figures (FIGURES), means over its samples.

        The parts of all processes add up to those of the whole batch; `learn` adds up their
        gradients too. `first_index` gives the `poisson` code new random numbers for every batch.
        """
        part, whole = self.team.share(len(images)), len(images)
        # a process without a sample of a small batch runs one all the same, and it counts nothing
        idle = part.stop == part.start
        images = images[:1] if idle else images[part]
        goals = self._goals(images, 0.0 if idle else len(images) / whole)
        figures = np.zeros(len(FIGURES))
        for begin, some in in_parts(images, self._at_once(len(images))):
            these = goals.part(slice(begin, begin + len(some)))
            weight = 0.0 if idle else len(some) / whole
            with torch.set_grad_enabled(learn):
                loss, found = self._loss(some, first_index + part.start + begin, these)
            if learn:
                (loss * weight).backward()
            figures += weight * found
        return figures

    def _at_once(self, samples: int) -> int:
        """Samples of a batch that run together, so that the memory is kept to."""
        most = max(1, int(self.config.memory_gb * 1e9 / self.network.bytes_per_sample()))
        return -(-samples // -(-samples // most))

    def _goals(self, images: Array, weight: float) -> _Goals:
        """What the ANN says of this process's part of a batch, a share `weight` of it."""
        logits, rates = self.teacher(torch.from_numpy(images).to(self.device))
        scales = torch.stack([target.square().mean() * weight for target in rates])
        self.team.total([scales])
        return _Goals(logits, rates, scales.clamp_min(1e-9))

    def _loss(self, images: Array, first_index: int, goals: _Goals) -> tuple[torch.Tensor, Array]:
        """Mean loss of some samples, and the same with its parts and the agreement as FIGURES."""
        spikes = torch.from_numpy(encode_nhwc(images, self.network.graph, first_index))
        voltage, hidden = self.network(spikes.to(self.device))
        logits = voltage * self.logit_scale
        answers = answer_loss(logits, goals.logits, self.config)
        loss, read, rates = answers, torch.zeros_like(answers), torch.zeros_like(answers)
        if self.config.reconversion_weight:
            pixels = torch.from_numpy(images).to(self.device).permute(0, 2, 3, 1).contiguous()
            read = reconversion(self.network, pixels, goals.logits)
            loss = loss + self.config.reconversion_weight * read
        for counts, target, scale in zip(hidden, goals.rates, goals.scales, strict=True):
            error = functional.mse_loss(counts / self.network.graph.timesteps, target) / scale
            loss = loss + self.config.hidden_weight * error / len(hidden)
            rates = rates + error.detach() / len(hidden)
        agreement = (logits.argmax(1) == goals.logits.argmax(1)).float().mean()
        figures = torch.stack([one.detach() for one in (loss, agreement, answers, rates, read)])
        return loss, figures.double().cpu().numpy()

    def judge(self, epoch: int) -> None:
        """Measure on the held-out images and keep the network if it is the best so far."""
        figures = np.zeros(len(FIGURES))
        for start, part in in_parts(self.held_out, self.config.batch):
            figures += self._run(part, start) * len(part) / len(self.held_out)
        found = Epoch(epoch, **dict(zip(FIGURES, self._summed(*figures), strict=True)))
        if not self.epochs or found.loss < min(entry.loss for entry in self.epochs):
            self.best = copy.deepcopy(self.network.state_dict())
        self.epochs.append(found)

    def _summed(self, *values: float) -> list[float]:
        """Each value summed over the team."""
        sums = [torch.tensor([value], dtype=torch.float64) for value in values]
        self.team.total(sums)
        return [float(total) for total in sums]

    def exhausted(self) -> bool:
        """Whether the held-out loss has stopped improving."""
        losses = [entry.loss for entry in self.epochs]
        return len(losses) - 1 - int(np.argmin(losses)) >= self.config.patience

    def state(self) -> TrainingState:
        return TrainingState(
            self.network.state_dict(),
            self.optimizer.state_dict(),
            self.best,
            list(self.epochs),
            self.steps,
        )

    def restore(self, state: TrainingState) -> None:
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.best, self.epochs, self.steps = state.best, list(state.epochs), state.steps

    def result(self) -> Encryption:
        self.network.load_state_dict(self.best)
        losses = [entry.loss for entry in self.epochs]
        best = self.epochs[int(np.argmin(losses))].epoch
        return Encryption(self.network.to_graph(), tuple(self.epochs), best)

    def _check_finite(self, epoch: int) -> None:
        if all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
            return
        raise one_problem(
            EnvironmentProblem,
            "the spike-based training diverged",
            "encrypt",
            f"weights that are not finite after epoch {epoch}",
            "finite weights",
            f"use a learning rate below {self.config.learning_rate}",
        )


def with_contrast(images_nchw: Array, lowest: float, seed: list[int]) -> Array:
    """Images (N, C, H, W) with each one's differences from its mean multiplied by lowest..1."""
    if lowest == 1:
        return images_nchw
    factor = np.random.default_rng(seed).uniform(lowest, 1, (len(images_nchw), 1, 1, 1))
    mean = images_nchw.mean((1, 2, 3), keepdims=True)
    return np.asarray(mean + factor.astype(np.float32) * (images_nchw - mean), np.float32)


def _cosine(share: float) -> float:
    """Half a cosine down to a hundredth, over the training's share that is done."""
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * share)))


def _steps(share: float) -> float:
    """A tenth from 50 % and a hundredth from 70 % of the training on."""
    return float(0.1 ** ((share >= 0.5) + (share >= 0.7)))


_SCHEDULES = {"cosine": _cosine, "steps": _steps}
