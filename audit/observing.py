"""Watching the spiking network at work: whoever has the file can read every layer's rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from compiler.chip.encoding import encode
from compiler.chip.execute import run_graph
from compiler.ir.chip import ChipGraph

_AT_ONCE = 64
_MOST_VALUES = 1 << 27
"""Values of one layer over all time-steps and the images run together, at most."""

_EXACT_STEPS = 2048
"""A count over so many time-steps, a power of two, has no more than float16's 11 digits."""


@dataclass(frozen=True)
class Observed:
    """What the spiking network did on some images.

    rates: for every hidden layer (N, C, H, W), spikes a step, float32 or, where it holds them
    exactly, float16: they are by far the largest; answers: float32 (N, classes).
    """

    images: Tensor
    rates: tuple[Tensor, ...]
    answers: Tensor

    def joined(self, other: Observed) -> Observed:
        """Both together."""
        pairs = zip(self.rates, other.rates, strict=True)
        return Observed(
            torch.cat([self.images, other.images]),
            tuple(torch.cat(pair) for pair in pairs),
            torch.cat([self.answers, other.answers]),
        )


def observe(graph: ChipGraph, images: Tensor) -> Observed:
    """Run the file's integers on images (N, C, H, W) in [0, 1] and keep every layer's rates."""
    if graph.timesteps is None or graph.encoding is None:
        raise ValueError(f"{graph.name} has no time-steps or no input code")
    exact = torch.float16 if graph.timesteps <= _EXACT_STEPS else torch.float32
    rates: list[list[Tensor]] = [[] for _ in graph.layers[:-1]]
    answers = []
    largest = graph.timesteps * max(layer.neurons for layer in graph.layers)
    at_once = max(1, min(_AT_ONCE, _MOST_VALUES // largest))
    for begin in range(0, len(images), at_once):
        part = images[begin : begin + at_once].numpy()
        runs = run_graph(graph, encode(part, graph.timesteps, graph.encoding, begin))
        for kept, run in zip(rates, runs, strict=False):
            mean = run.spikes_tnhwc.mean(0, dtype=np.float32)
            kept.append(torch.from_numpy(np.moveaxis(mean, -1, 1).copy()).to(exact))
        readout = next(runs)
        answers.append(torch.from_numpy(readout.voltage_nhwc.reshape(len(part), -1)).float())
    return Observed(images, tuple(torch.cat(parts) for parts in rates), torch.cat(answers))
