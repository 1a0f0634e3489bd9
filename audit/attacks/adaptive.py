"""The attack that knows the recipe: an ordinary network fitted to the spiking one, then inverted.

The plain reading of the weights assumes that a neuron's rate is its drive over its threshold.
Leak, reset, slow currents, saturation, or a loss that was added to make this reading useless,
break the assumption, not the attacker: he runs the file on images of his own, fits each layer's
rate as a function of its drive, and trains the weights for some steps until his network gives
the layers' rates and the answers of the spiking one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

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
from audit.attacks.distil import dreams
from audit.attacks.inversion import DEFAULT_PRIOR, dark_start, invert
from audit.observing import Observed
from audit.reconvert import with_unit_logits
from audit.subjects import Subject
from compiler.ir.ann import Relu
from compiler.ir.ann_module import AnnModule
from compiler.ir.run_ann import to_module
from compiler.synthesis.start import start_images

_KNOTS = 32
_FLATTEST = 0.02
"""Least slope of a fitted curve, as a share of its mean slope: inversion needs a gradient."""

_FITTED = 256
"""Images that the curves are fitted on."""

_BATCH = 128
_RATE = 2e-4
_DREAM_STEPS = 20
_SHARE = 4
"""A network that starts from the right weights needs this part of a fresh copy's training."""

_SILENT = 1e-3
"""Variance of rates below which a layer says next to nothing."""


def run(
    subject: Subject, budget: Budget, seed: int, progress: Progress | None = None
) -> AttackImages:
    """Images by inversion of a fitted network; the ANN, which is one, is inverted as it is."""
    training = budget.training_steps // _SHARE if subject.spiking else -_DREAM_STEPS
    meter = Meter(progress, training + _DREAM_STEPS + budget.gradient_steps)
    generator = torch.Generator().manual_seed(seed)
    if subject.spiking:
        module, error = fitted_network(subject, budget, generator, meter)
    else:
        module, error = subject.module(), 0.0
    labels = labels_for(subject, budget)
    start = dark_start(len(labels), subject.input_shape, generator)
    model = Scored(module, subject.input_shape)
    steps = budget.gradient_steps
    images = invert([model], start, labels, steps, DEFAULT_PRIOR, generator, meter)
    return meter.images(ATTACK.name, images, labels, imitation_error=error)


def fitted_network(
    subject: Subject, budget: Budget, generator: torch.Generator, meter: Meter
) -> tuple[nn.Module, float]:
    """The network fitted to the spiking one, and the last loss (0: the same, 1: unrelated)."""
    shape, half = subject.input_shape, budget.queries // 2
    module = to_module(with_unit_logits(subject.reconverted("relu")))
    seen = meter.observe(subject, start_images(half, shape, generator))
    fit_transfers(module, seen)
    steps = budget.training_steps // _SHARE
    _imitate(module, seen, steps // 2, generator, meter)
    model = Scored(module, shape)
    asked = dreams([model], shape, subject.classes, half, _DREAM_STEPS, generator, meter)
    seen = seen.joined(meter.observe(subject, asked))
    error = _imitate(module, seen, steps - steps // 2, generator, meter)
    return module, error


class Transfer(nn.Module):
    """A rising curve through knots (x, y); nearly level before them, straight on behind them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        mean = float((y[-1] - y[0]) / (x[-1] - x[0]).clamp_min(1e-9))
        flattest = max(_FLATTEST * mean, 1e-6)
        level = torch.tensor([flattest])
        slope = ((y[1:] - y[:-1]) / (x[1:] - x[:-1]).clamp_min(1e-9)).clamp_min(flattest)
        self.register_buffer("x", x)
        self.register_buffer("y", y)
        last = slope[-1:] if len(slope) else level
        self.register_buffer("slope", torch.cat([level, slope, last]))

    def forward(self, drive: Tensor) -> Tensor:
        """Rates at the drives."""
        rates: Tensor = _follow(drive, *map(self.get_buffer, ("x", "y", "slope")))
        return rates


class _Follow(torch.autograd.Function):
    """Drives to rates on a curve; backward times the slope of the piece."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, x: Tensor, y: Tensor, slope: Tensor) -> Tensor:
        flat = drive.detach().contiguous().view(-1).numpy()
        rates, steep = np.empty_like(flat), np.empty_like(flat)
        _on_curve(flat, x.numpy(), y.numpy(), slope.numpy(), rates, steep)
        ctx.save_for_backward(torch.from_numpy(steep).view(drive.shape))
        return torch.from_numpy(rates).view(drive.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad * ctx.saved_tensors[0], None, None, None


_follow: Callable[..., Tensor] = _Follow.apply


@numba.njit(parallel=True, cache=True)
def _on_curve(drive, x, y, slope, rates, steep):  # type: ignore[no-untyped-def]
    """Rate and slope at every drive (n,); slope[k] holds before knot k, the last behind all."""
    for n in numba.prange(drive.shape[0]):
        value, piece = drive[n], np.int32(0)
        for k in range(x.shape[0]):  # quicker than a search: a few vectors, and no branch
            piece += np.int32(x[k] < value)
        knot = max(piece - 1, 0)
        rates[n] = y[knot] + slope[piece] * (value - x[knot])
        steep[n] = slope[piece]


def fit_transfers(module: AnnModule, seen: Observed) -> None:
    """Put fitted curves in place of the module's ReLUs.

    The drive of a layer is that of the rates that really arrive, so that an error in one layer's
    curve does not pass into the next.
    """
    arriving = seen.images[:_FITTED]
    hidden = iter(seen.rates)
    outputs = arriving
    with torch.no_grad():
        for index, layer in enumerate(module.graph.layers):
            if isinstance(layer, Relu):
                rates = next(hidden)[:_FITTED].float().reshape(outputs.shape)
                module.steps[index] = fit_transfer(outputs, rates)
                outputs = rates
            else:
                outputs = module.steps[index](outputs)


def fit_transfer(drive: Tensor, rates: Tensor) -> Transfer:
    """Mean rates between quantiles of the drive, made rising."""
    x, order = drive.flatten().sort()
    y = rates.flatten()[order]
    low = int((y > 0).nonzero()[0, 0]) if bool((y > 0).any()) else 0
    low = max(0, low - (len(x) - low) // _KNOTS)
    groups = zip(x[low:].tensor_split(_KNOTS), y[low:].tensor_split(_KNOTS), strict=True)
    means = [(a.mean(), b.mean()) for a, b in groups if len(a)]
    knots = torch.stack([a for a, _ in means])
    rising = torch.stack([b for _, b in means]).cummax(0).values
    keep = torch.ones(len(knots), dtype=torch.bool)
    keep[1:] = knots[1:] - knots[:-1] > 1e-6
    return Transfer(knots[keep], rising[keep])


def _imitate(
    module: AnnModule, seen: Observed, steps: int, generator: torch.Generator, meter: Meter
) -> float:
    """Train weights and biases on the observed rates and answers; the mean of the last losses."""
    trained = _weights(module)
    for tensor in trained:
        tensor.requires_grad_()
    scale = centred(seen.answers).std().clamp_min(1e-12)
    gain = torch.ones(()) / _answer_spread(module, seen)
    optimizer = torch.optim.Adam(trained, _RATE)
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        chosen = torch.randint(len(seen.images), (_BATCH,), generator=generator)
        rates, answers = _outputs(module, seen.images[chosen])
        goals = [rate[chosen].float() for rate in seen.rates]
        errors = [_relative(found, goal) for found, goal in zip(rates, goals, strict=True)]
        goal = centred(seen.answers[chosen]) / scale
        loss = functional.mse_loss(centred(answers) * gain, goal) + sum(errors) / len(errors)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        meter.step()
        losses.append(float(loss.detach()))
    for tensor in trained:
        tensor.requires_grad_(False)
    return float(np.mean(losses[-50:])) / 2


def _weights(module: AnnModule) -> list[Tensor]:
    steps = [s for s in module.steps if not isinstance(s, Transfer)]
    return [buffer for step in steps for buffer in step.buffers()]


def _answer_spread(module: AnnModule, seen: Observed) -> Tensor:
    with torch.no_grad():
        return centred(module(seen.images[:_FITTED])).std().clamp_min(1e-12)


def _outputs(module: AnnModule, images: Tensor) -> tuple[Sequence[Tensor], Tensor]:
    outputs = list(module.layer_outputs(images))
    rates = [output for layer, output in outputs if isinstance(layer, Relu)]
    return rates, outputs[-1][1].flatten(1)


def _relative(found: Tensor, goal: Tensor) -> Tensor:
    """Squared error as a share of the goal's variance, which a silent layer has not."""
    error: Tensor = functional.mse_loss(found, goal.reshape(found.shape))
    return error / goal.var().clamp_min(_SILENT)


ATTACK = Attack(
    name="adaptive",
    family="adaptive",
    title="A network fitted to the spiking one layer by layer, then inverted",
    access="weights",
    extras="the recipe, and a general prior of images",
    run=run,
)
