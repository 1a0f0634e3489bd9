"""Thresholds: the largest current that enters a layer, on synthetic images (code).

Layer by layer, with the layers before it already spiking at their new thresholds, over all
time-steps, no percentile; the current and not the voltage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from audit.privatesnn.encoder import SignedPoisson
from audit.privatesnn.network import PrivateSnn, SpikingNetwork
from compiler.errors import ModelError, one_problem
from compiler.ir.ann import AnnGraph, Relu
from compiler.ir.device import compute_device
from compiler.ir.geometry import Array

Progress = Callable[[int, int], None]


UNSET = 1.0
"""A threshold before the search finds one (code)."""


def unbalanced(graph: AnnGraph, timesteps: int) -> PrivateSnn:
    """The network with every threshold UNSET.

    The published code leaves them so, without a word, where it is given no more images than one
    batch of 1,024.
    """
    relus = sum(isinstance(layer, Relu) for layer in graph.layers)
    return PrivateSnn(graph, (UNSET,) * relus, timesteps)


def balanced(
    graph: AnnGraph,
    images_nchw: Array,
    timesteps: int,
    seed: int,
    progress: Progress | None = None,
) -> PrivateSnn:
    """The network with thresholds found on images (N, C, H, W) in [0, 1].

    Every layer is looked at with the same noise. Raises ModelError where no current is above 0.
    """
    images = torch.from_numpy(np.array(images_nchw, np.float32))
    relus = [layer for layer in graph.layers if isinstance(layer, Relu)]
    found = PrivateSnn(graph, (), timesteps)
    for done, relu in enumerate(relus):
        largest = _largest_current(found, images, seed)
        if not largest > 0:
            raise one_problem(
                ModelError,
                "the network cannot be converted",
                relu.name,
                "no current above 0 on any synthetic image",
                "a layer that answers to some image",
                f"more time-steps than {timesteps}, in which too few spikes may come this far; if "
                "that does not help, the ANN is dead at this layer: train it again",
            )
        found = PrivateSnn(graph, (*found.thresholds, largest), timesteps)
        if progress:
            progress(done + 1, len(relus))
    return found


def _largest_current(network: PrivateSnn, images: Tensor, seed: int) -> float:
    """Of the first ReLU that has no threshold yet."""
    device = compute_device()
    module, encoder = SpikingNetwork(network).to(device), SignedPoisson(seed)
    largest = 0.0
    with torch.inference_mode():
        for part in torch.split(images, network.at_once):
            spikes = encoder.spikes(part.to(device), network.timesteps)
            largest = max(largest, float(_next_current(module, spikes).max()))
    return largest


def _next_current(module: SpikingNetwork, spikes: Tensor) -> Tensor:
    left, current = len(module.network.thresholds), spikes
    outputs = module.layer_outputs(spikes)
    for layer in module.network.graph.layers[1:]:
        if isinstance(layer, Relu):
            if not left:
                break
            left -= 1
        _, current = next(outputs)
    return current
