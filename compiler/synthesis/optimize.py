"""Batched Adam on images, so that the ANN's softened answer meets the soft target."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from compiler.config import SynthesisConfig
from compiler.errors import ModelError, one_problem
from compiler.ir.ann import AnnGraph, Dense
from compiler.ir.device import compute_device
from compiler.ir.run_ann import to_module
from compiler.ir.synthetic import SyntheticSet
from compiler.synthesis.start import start_images
from compiler.synthesis.targets import class_similarity, dirichlet_targets

if TYPE_CHECKING:
    from compiler.ir.geometry import Array

Progress = Callable[[int, int], None]

_AT_ONCE = 128
"""Images optimized together on a CPU: more would leave the cache, and take fresh memory a step."""


def synthesize(
    graph: AnnGraph, config: SynthesisConfig, seed: int, progress: Progress | None = None
) -> SyntheticSet:
    """Make `config.count` images from the network alone; no data set is touched.

    Loss per image: cross-entropy between softmax(logits / temperature) and its Dirichlet
    target. `progress` is called with (images done, images in all). Raises ModelError if
    the last layer is not dense.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    similarity = class_similarity(_last_weight(graph))
    targets = dirichlet_targets(similarity, config.count, config.concentrations, rng)
    order = rng.permutation(config.count)
    targets = targets[order]
    module = to_module(graph).requires_grad_(False).to(compute_device())
    images, logits = [], []
    for begin in range(0, config.count, config.batch):
        target = torch.from_numpy(targets[begin : begin + config.batch])
        batch = _make(module, target, graph, config, generator)
        images.append(batch)
        with torch.no_grad():
            logits.append(module(batch.float() / 255).cpu().numpy())
        if progress:
            progress(min(begin + config.batch, config.count), config.count)
    pixels: Array = torch.cat(images).cpu().numpy()
    return SyntheticSet(pixels, targets, np.concatenate(logits), config.held_out)


def _make(
    module: torch.nn.Module,
    target: torch.Tensor,
    graph: AnnGraph,
    config: SynthesisConfig,
    generator: torch.Generator,
) -> torch.Tensor:
    """One batch of images, uint8; random numbers are drawn for the batch as a whole."""
    count = len(target)
    temperature = _temperatures(count, config, generator)
    start = start_images(count, graph.input_shape, generator)
    at_once = _AT_ONCE if compute_device().type == "cpu" else count
    made = []
    for begin in range(0, count, at_once):
        part = slice(begin, begin + at_once)
        made.append(_optimize(module, start[part], target[part], temperature[part], config))
    return torch.cat(made)


def _optimize(
    module: torch.nn.Module,
    start: torch.Tensor,
    target: torch.Tensor,
    temperature: torch.Tensor,
    config: SynthesisConfig,
) -> torch.Tensor:
    """Images after `config.steps` steps from `start`, uint8, on the device of the network."""
    device = compute_device()
    target, temperature = target.to(device), temperature.to(device)
    images = start.to(device, memory_format=torch.channels_last, copy=True).requires_grad_()
    optimizer = torch.optim.Adam([images], config.learning_rate)
    for _ in range(config.steps):
        log_probabilities = torch.log_softmax(module(images) / temperature, 1)
        loss = -(target * log_probabilities).sum()
        (images.grad,) = torch.autograd.grad(loss, images)
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return (images.detach() * 255).round().to(torch.uint8).contiguous()


def _temperatures(count: int, config: SynthesisConfig, generator: torch.Generator) -> torch.Tensor:
    low, high = np.log(config.temperature_low), np.log(config.temperature_high)
    return torch.exp(low + (high - low) * torch.rand(count, 1, generator=generator))


def _last_weight(graph: AnnGraph) -> Array:
    last = graph.layers[-1]
    if isinstance(last, Dense):
        return last.weight
    raise one_problem(
        ModelError,
        "images cannot be synthesized",
        last.name,
        f"a last layer of kind {type(last).__name__}",
        "a dense layer without activation",
        "end the network in a linear layer that gives the logits",
    )
