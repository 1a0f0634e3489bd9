"""Batched Adam on images, so that the ANN's softened answer meets the soft target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from compiler.config import SynthesisConfig
from compiler.errors import ModelError, one_problem
from compiler.ir.ann import AnnGraph, Dense
from compiler.ir.device import compute_device, repeatable
from compiler.ir.run_ann import to_module
from compiler.ir.synthetic import SyntheticSet
from compiler.synthesis.start import start_images
from compiler.synthesis.targets import class_similarity, dirichlet_targets

if TYPE_CHECKING:
    from compiler.ir.geometry import Array, Shape

Progress = Callable[[int, int], None]
Smoother = Callable[[torch.Tensor], torch.Tensor]

_AT_ONCE = 128
"""Images optimized together on a CPU: more would leave the cache, and take fresh memory a step."""

_REFERENCE_SIDE = 32
_REACH = 2
"""Standard deviations after which the Gaussian is cut off."""


@repeatable()
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
    channels, height, width = start.shape[1:]
    smoothed = smoother(config.smoothness, (channels, height, width))
    for _ in range(config.steps):
        log_probabilities = torch.log_softmax(module(images) / temperature, 1)
        loss = -(target * log_probabilities).sum()
        (gradient,) = torch.autograd.grad(loss, images)
        with torch.no_grad():
            _step(optimizer, images, gradient, smoothed)
            images.clamp_(0, 1)
    return (images.detach() * 255).round().to(torch.uint8).contiguous()


def _step(
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    gradient: torch.Tensor,
    smoothed: Smoother | None,
) -> None:
    """One step of the optimizer, as if not the images but what is smoothed to them were moved."""
    if smoothed is None:
        images.grad = gradient
        optimizer.step()
        return
    before, images.grad = images.clone(), smoothed(gradient)
    optimizer.step()
    images.copy_(before + smoothed(images - before))


def smoother(smoothness: float, shape: Shape) -> Smoother | None:
    """Convolution of images (N, C, H, W) with a Gaussian; None where `smoothness` is 0.

    Its standard deviation is `smoothness` pixels in an image of 32 x 32, and as large a share of
    the smaller side of another. At the border the image's last pixels are repeated.
    """
    deviation = smoothness * min(shape[1:]) / _REFERENCE_SIDE
    if not deviation:
        return None
    reach = math.ceil(_REACH * deviation)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32, device=compute_device())
    weights = torch.exp(-places.square() / (2 * deviation**2))
    channels, kernel = shape[0], weights / weights.sum()

    def smoothed(images: torch.Tensor) -> torch.Tensor:
        wide = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
        across = kernel.expand(channels, 1, 1, -1)
        rows = functional.conv2d(wide, across, groups=channels)
        return functional.conv2d(rows, across.transpose(2, 3), groups=channels)

    return smoothed


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
