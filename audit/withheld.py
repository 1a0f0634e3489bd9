"""What is attacked where the first layers stayed at home: the others behind guessed ones.

Without its first layers the file takes no image. An attacker who knows the architecture puts
layers of his own before it and fits them, without data, so that the whole answers surely and
with every class on images of random shapes: information maximisation (Krause et al., NIPS 2010)
in front of a classifier that stays as it is, as in source-free domain adaptation (Liang et al.,
ICML 2020). The best of several starts by that measure is what all attacks are given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from audit.reconvert import reconvert
from compiler.chip.fields import HIDDEN_V_TH_MANT, WEIGHT
from compiler.chip.fixed_point import quantize_bias, quantize_threshold, quantize_weight
from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d, Dense, Flatten, Relu
from compiler.ir.ann_module import AnnModule
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import to_module
from compiler.ir.splitting import join, split
from compiler.synthesis.start import start_images

STARTS = 4
STEPS = 200
_BATCH = 128
_RATE = 1e-2


@dataclass(frozen=True)
class Guess:
    """The network with guessed first layers.

    objective: mean entropy of an answer minus the entropy of the mean answer, in nats; between
    -log(classes), which is best, and 0.
    """

    graph: ChipGraph
    objective: float


def guess_first_layers(whole: ChipGraph, count: int, seed: int) -> Guess:
    """`whole` with its first `count` layers replaced by an attacker's guess.

    Of the withheld layers their shapes and kernels are used, which somebody who knows the
    architecture knows; none of their numbers.
    """
    first, rest = split(whole, count)
    guesses = [_fitted(first, rest, seed * STARTS + start) for start in range(STARTS)]
    objective, layers = min(guesses, key=lambda found: found[0])
    return Guess(join(replace(first, layers=layers), rest), objective)


def _fitted(first: ChipGraph, rest: ChipGraph, seed: int) -> tuple[float, tuple[ChipLayer, ...]]:
    generator = torch.Generator().manual_seed(seed)
    module = to_module(_as_ann(first, rest, generator))
    trained = _first_parameters(module, len(first.layers))
    optimizer = torch.optim.Adam(trained, _RATE)
    objective = torch.zeros(())
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        objective = _uncertainty(module(start_images(_BATCH, first.input_shape, generator)))
        optimizer.zero_grad()
        objective.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    pairs = zip(trained[::2], trained[1::2], first.layers, strict=True)
    return float(objective.detach()), tuple(_integers(*pair) for pair in pairs)


def _as_ann(first: ChipGraph, rest: ChipGraph, generator: torch.Generator) -> AnnGraph:
    """Random first layers before the plain reading of the others."""
    layers: list[AnnLayer] = []
    flat = False
    for layer in first.layers:
        weight = frozen(_start(layer, generator), np.float32)
        bias = frozen(np.zeros(layer.shape[0]), np.float32)
        if layer.kind == "dense" and not flat:
            layers.append(Flatten(f"{layer.name}.flatten"))
            flat = True
        conv = layer.kind == "conv"
        layers.append(
            Conv2d(layer.name, weight, bias, layer.geometry)
            if conv
            else Dense(layer.name, weight, bias)
        )
        layers.append(Relu(f"{layer.name}.relu"))
    read = reconvert(rest, "relu").layers
    layers += [layer for layer in read if not (flat and isinstance(layer, Flatten))]
    return AnnGraph("guess", first.input_shape, tuple(layers))


def _start(layer: ChipLayer, generator: torch.Generator) -> Array:
    """Means for a layer that is shaped like a pool, else random numbers (He et al. 2015).

    A pool's neurons read windows of one channel each that lie side by side.
    """
    shape = layer.weight.shape
    if layer.kind == "conv" and layer.geometry.stride == shape[2:] != (1, 1):
        reads = np.any(layer.weight != 0, axis=(2, 3))
        if (reads.sum(1) == 1).all():
            means: Array = np.broadcast_to(reads[:, :, None, None], shape) / np.prod(shape[2:])
            return means
    spread = math.sqrt(2 / np.prod(shape[1:]))
    drawn: Array = (spread * torch.randn(shape, generator=generator)).numpy()
    return drawn


def _first_parameters(module: AnnModule, count: int) -> list[Tensor]:
    """Weight and bias of the first `count` layers, which alone are trained."""
    found = [tensor for step in module.steps for tensor in step.buffers()][: 2 * count]
    for tensor in found:
        tensor.requires_grad_()
    return found


def _uncertainty(logits: Tensor) -> Tensor:
    """Mean entropy of the answers minus entropy of the mean answer, logits of unit spread."""
    centred = logits - logits.mean(1, keepdim=True)
    answers = torch.softmax(centred / centred.std().clamp_min(1e-9), 1)
    return _entropy(answers).mean() - _entropy(answers.mean(0))


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(-1)


def _integers(weight: Tensor, bias: Tensor, like: ChipLayer) -> ChipLayer:
    """The fitted layer as neurons that fire once a step at an activation of 1."""
    values = weight.detach().double().numpy().reshape(like.weight.shape)
    scale = min(HIDDEN_V_TH_MANT.high, WEIGHT.high / max(float(np.abs(values).max()), 1e-9))
    threshold = quantize_threshold(scale)
    return ChipLayer(
        like.name,
        like.kind,
        like.input_shape,
        like.shape,
        frozen(quantize_weight(values * threshold), np.int32),
        frozen(quantize_bias(bias.detach().double().numpy() * threshold), np.int32),
        CubaFields(threshold),
        like.geometry,
    )
