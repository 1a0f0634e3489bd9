"""Static bounds: the largest sum of weights that a time-step can bring to a neuron, and of u."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.chip.execute import worst_sum
from compiler.chip.fields import ACCUMULATOR_LIMIT, DECAY_ONE, STATE_LIMIT, STATE_SHIFT
from compiler.ir.chip import ChipGraph, ChipLayer


@dataclass(frozen=True)
class StepBound:
    """`worst`: largest magnitude of the sum of weights when every input of one sign fires.

    accumulator_limit: what Loihi 1's 16-bit sum holds; state_share: what u, which sums what its
    decay leaves of the worst sum of every step, comes to with the bias, as a share of 24 bits.
    """

    layer: str
    worst: int
    accumulator_limit: int
    state_share: float

    @property
    def fits_accumulator(self) -> bool:
        """Whether no input can make Loihi 1's 16-bit sum wrap."""
        return self.worst < self.accumulator_limit


def step_bounds(graph: ChipGraph) -> tuple[StepBound, ...]:
    """The bound of every layer."""
    return tuple(_bound(layer) for layer in graph.layers)


def _bound(layer: ChipLayer) -> StepBound:
    worst = worst_sum(layer)
    bias = 0 if layer.bias is None else int(np.abs(layer.bias).max())
    current = worst * DECAY_ONE / layer.neuron.i_decay
    share = (current + bias) * (1 << STATE_SHIFT) / STATE_LIMIT
    return StepBound(layer.name, worst, ACCUMULATOR_LIMIT, share)
