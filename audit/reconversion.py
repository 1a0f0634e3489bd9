"""What the file's weights are worth as an ordinary network, and how far they moved.

The paper's first scenario: spiking neurons are replaced by ReLU. Besides the plain reading of
the integers an attacker can rescale it, channel by channel, on images that he makes from the
re-converted network itself, and fine-tune it on public noise towards the file's own answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.attacks.common import Meter, Spent
from audit.attacks.distil import train
from audit.observing import Observed
from audit.reconvert import Activation, with_gains, with_unit_logits
from audit.subjects import SUBJECTS, Subject
from compiler.config import SynthesisConfig
from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d, Dense, Relu
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import to_module
from compiler.synthesis import synthesize
from compiler.synthesis.start import start_images

ACTIVATIONS: tuple[Activation, ...] = ("relu", "clipped_relu")

RESCALING_IMAGES = SynthesisConfig(count=256, held_out=64, steps=20)
NOISE_IMAGES = 1_024
FINE_TUNING_STEPS = 200
FINE_TUNING_RATE = 1e-4
_FINE_TUNED = "_finetuned"

_GAINS = (0.1, 10.0)


@dataclass(frozen=True)
class Reconversion:
    """An ordinary network read from integers; name: relu, clipped_relu, relu_rescaled, ...

    queries: images that the spiking network was run on, those of the plainer readings that it
    starts from among them; extras: what the attacker needs besides the file; seconds: what it
    took beyond the plainer readings.
    """

    name: str
    graph: AnnGraph
    queries: int
    extras: str
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class WeightDistance:
    """change: least norm(a * other - weight) / norm(weight) over all factors a; cosine: of the
    angle between the two.

    A factor of the whole layer, such as another threshold or current decay brings, changes nothing
    that an attacker could not undo. change is the sine of the angle.
    """

    change: float
    cosine: float


@lru_cache(maxsize=len(SUBJECTS))
def reconversions(subject: Subject, seed: int) -> tuple[Reconversion, ...]:
    """Every reading of a subject's integers, plain and clipped; the ANN as the two plain ones.

    Made once, and kept as the subject keeps things: the answers of all readings are told, and an
    attack inverts the best of them.
    """
    return tuple(made for kind in ACTIVATIONS for made in _readings(subject, kind, seed))


def spent_on(readings: Sequence[Reconversion]) -> Spent:
    """What all of them took together; gradient steps are those of images and of weights."""
    tuned = [reading for reading in readings if reading.name.endswith(_FINE_TUNED)]
    steps = len(tuned) * (RESCALING_IMAGES.steps + FINE_TUNING_STEPS)
    queries = sum(reading.queries for reading in tuned)
    return Spent(steps, queries, sum(reading.seconds for reading in readings))


def _readings(subject: Subject, activation: Activation, seed: int) -> list[Reconversion]:
    """The plain reading and those made better, which are kept: they take long."""
    plain = Reconversion(activation, subject.reconverted(activation), 0, "nothing")
    if not subject.spiking:
        return [plain]
    decided_by = [subject.fingerprint, seed]
    better = subject.keep(
        tuple,
        f"{subject.name}.{activation}",
        decided_by,
        lambda: tuple(_parts(made) for made in _improved(subject, plain.graph, activation, seed)),
    )
    return [plain, *(Reconversion(*parts) for parts in better)]


def _parts(reading: Reconversion) -> tuple[Any, ...]:
    """The fields in their order."""
    return tuple(getattr(reading, part.name) for part in fields(reading))


def _improved(
    subject: Subject, plain: AnnGraph, activation: Activation, seed: int
) -> list[Reconversion]:
    """The reading rescaled, and that fine-tuned."""
    readings: list[Reconversion] = []
    began = time.perf_counter()
    made = synthesize(with_unit_logits(plain), RESCALING_IMAGES, seed)
    images = torch.from_numpy(made.pixels(slice(None)))
    better = rescaled(plain, subject.observe(images))
    rescaled_at = time.perf_counter()
    name, text = f"{activation}_rescaled", "images made from the re-converted network"
    readings.append(Reconversion(name, better, len(images), text, rescaled_at - began))
    tuned = fine_tuned(better, subject, seed)
    text += ", public noise and the network's answers to it"
    queries, seconds = len(images) + NOISE_IMAGES, time.perf_counter() - rescaled_at
    readings.append(Reconversion(f"{activation}{_FINE_TUNED}", tuned, queries, text, seconds))
    return readings


def rescaled(graph: AnnGraph, seen: Observed) -> AnnGraph:
    """Each hidden channel scaled so that its activation fits the rates seen, by least squares.

    A layer's input are the rates that really arrived, so that errors do not add up.
    """
    layers: list[AnnLayer] = []
    rates = iter(seen.rates)
    outputs = seen.images
    for layer, step in zip(graph.layers, to_module(graph).steps, strict=True):
        with torch.no_grad():
            outputs = step(outputs)
        if isinstance(layer, Relu):
            goal = next(rates).float().reshape(outputs.shape)
            synapse = layers.pop()
            if not isinstance(synapse, (Conv2d, Dense)):
                raise ValueError(f"{layer.name} follows no synapse")
            layers.append(with_gains(synapse, _gains(outputs, goal)))
            outputs = goal
        layers.append(layer)
    return graph.with_layers(tuple(layers))


def _gains(activation: Tensor, rates: Tensor) -> Array:
    axes = (0, 2, 3)
    product = (activation * rates).sum(axes)
    square = activation.square().sum(axes)
    gains = torch.where(square > 0, product / square.clamp_min(1e-12), torch.ones(()))
    found: Array = gains.clamp(*_GAINS).numpy().astype(np.float64)
    return found


def fine_tuned(graph: AnnGraph, subject: Subject, seed: int) -> AnnGraph:
    """The network trained for some steps to give the subject's answers on noise and shapes."""
    generator = torch.Generator().manual_seed(seed)
    meter = Meter(None, FINE_TUNING_STEPS)
    images = start_images(NOISE_IMAGES, graph.input_shape, generator)
    answers = meter.ask(subject, images)
    module = to_module(with_unit_logits(graph))
    tensors = list(module.buffers())
    train(
        module, tensors, images, answers, FINE_TUNING_STEPS, generator, meter, FINE_TUNING_RATE, 0.0
    )
    layers = [
        _with_tensors(layer, dict(step.named_buffers()))
        for layer, step in zip(graph.layers, module.steps, strict=True)
    ]
    return graph.with_layers(tuple(layers))


def _with_tensors(layer: AnnLayer, tensors: dict[str, Tensor]) -> AnnLayer:
    if not isinstance(layer, (Conv2d, Dense)):
        return layer
    bias = tensors.get("bias", tensors.get("border"))
    return replace(
        layer,
        weight=frozen(tensors["weight"].numpy(), np.float32),
        bias=None if bias is None else frozen(bias.numpy(), np.float32),
    )


def weight_distances(subject: Subject, converted: Subject) -> dict[str, WeightDistance]:
    """How far each layer's weights are from the converted network's.

    Those are the ANN's own weights but for factors of whole rows and columns, and rounding.
    """
    before = converted.weights
    return {
        layer: weight_distance(before[layer], weight) for layer, weight in subject.weights.items()
    }


def weight_distance(before: Array, after: Array) -> WeightDistance:
    """Distance of two weight tensors of one shape."""
    old, new = (np.asarray(weight, np.float64) for weight in (before, after))
    lengths = float(np.linalg.norm(old)) * float(np.linalg.norm(new))
    cosine = float(np.vdot(old, new)) / lengths if lengths else float(not (old.any() or new.any()))
    return WeightDistance(math.sqrt(max(0.0, 1 - cosine**2)), cosine)


def as_fields(moved: Mapping[str, WeightDistance]) -> dict[str, dict[str, float]]:
    """weight_change and weight_cosine by layer, as audit.json has them."""
    return {
        "weight_change": {layer: found.change for layer, found in moved.items()},
        "weight_cosine": {layer: found.cosine for layer, found in moved.items()},
    }
