"""Spike for spike: do two runs of the same network agree?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from compiler.errors import AgreementError, one_problem
from compiler.ir.geometry import Array, Shape
from sim.traces import LayerTrace, NetworkTrace


@dataclass(frozen=True)
class Mismatch:
    """The first place where two runs differ: time-step 0-based, neuron (c, h, w)."""

    layer: str
    timestep: int
    sample: int
    neuron: Shape
    values: tuple[int, int]
    quantity: str = "spike"

    def describe(self, first: str, second: str) -> str:
        """The place and both values in words."""
        return (
            f"{self.quantity} at time-step {self.timestep} of neuron (c, h, w) = {self.neuron}, "
            f"sample {self.sample}: {self.values[0]} in {first}, {self.values[1]} in {second}"
        )


@dataclass(frozen=True)
class Agreement:
    """Result of comparing: `spikes` counts those of the first run, `mismatches` single steps of
    single neurons that differ; `first` is the earliest, by layer, then time-step.
    """

    samples: int
    spikes: int
    mismatches: int
    first: Mismatch | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return self.mismatches == 0

    def __add__(self, later: Agreement) -> Agreement:
        """Both together, the samples of `later` behind these; `first` is that of these, if any."""
        place = later.first and replace(later.first, sample=later.first.sample + self.samples)
        return Agreement(
            self.samples + later.samples,
            self.spikes + later.spikes,
            self.mismatches + later.mismatches,
            self.first or place,
        )


def compare_spikes(
    first: NetworkTrace | Mapping[str, Array], second: NetworkTrace | Mapping[str, Array]
) -> Agreement:
    """Compare every spike of every layer.

    Either a NetworkTrace or layer names with spikes (T, N, C, H, W), nonzero meaning a
    spike. Raises ValueError if the names or the shapes differ: then they are not runs of
    the same network.
    """
    left, right = _spikes(first), _spikes(second)
    if list(left) != list(right):
        raise ValueError(f"layers {list(left)} and {list(right)}")
    spikes = mismatches = samples = 0
    earliest: Mismatch | None = None
    for name in left:
        one, other = np.asarray(left[name]) != 0, np.asarray(right[name]) != 0
        samples = one.shape[1]
        spikes += int(np.count_nonzero(one))
        count, place = _differences(name, "spike", one, other)
        mismatches += count
        earliest = earliest or place
    return Agreement(samples, spikes, mismatches, earliest)


def compare_states(first: NetworkTrace, second: NetworkTrace) -> Agreement:
    """Compare every spike, u and v of every layer that both traced, and the final voltage."""
    agreement = compare_spikes(first, second)
    mismatches, earliest = agreement.mismatches, agreement.first
    pairs = zip((first.input, *first.layers), (second.input, *second.layers), strict=True)
    for one, other in pairs:
        for quantity, left, right in _states(one, other):
            count, place = _differences(one.name, quantity, left, right)
            mismatches += count
            earliest = earliest or place
    last = first.layers[-1]
    voltages = (
        trace.voltage_nk.reshape(1, trace.samples, *last.spikes_tnchw.shape[2:])
        for trace in (first, second)
    )
    count, place = _differences(last.name, "final v", *voltages)
    return Agreement(agreement.samples, agreement.spikes, mismatches + count, earliest or place)


def require_agreement(agreement: Agreement, first: str, second: str) -> None:
    """AgreementError naming layer, time-step, neuron and both values unless nothing differs."""
    place = agreement.first
    if place is None:
        return
    raise one_problem(
        AgreementError,
        f"{first} and {second} disagree on {agreement.mismatches} values "
        f"over {agreement.samples} samples",
        place.layer,
        place.describe(first, second),
        "no difference at all",
        "the file must not be used; report this with the file, as a bug",
    )


def _spikes(run: NetworkTrace | Mapping[str, Array]) -> Mapping[str, Array]:
    return run.spikes if isinstance(run, NetworkTrace) else run


def _states(one: LayerTrace, other: LayerTrace) -> list[tuple[str, Array, Array]]:
    pairs = (("u", one.u_tnchw, other.u_tnchw), ("v", one.v_tnchw, other.v_tnchw))
    return [
        (name, left, right) for name, left, right in pairs if left is not None and right is not None
    ]


def _differences(
    layer: str, quantity: str, one: Array, other: Array
) -> tuple[int, Mismatch | None]:
    """Number of differing values and the first of them in (t, n, c, h, w) order."""
    if one.shape != other.shape or one.ndim != 5:
        raise ValueError(f"{layer}: {quantity} of shape {one.shape} and {other.shape}")
    wrong = one != other
    count = int(np.count_nonzero(wrong))
    if not count:
        return 0, None
    t, n, c, h, w = (int(axis[0]) for axis in np.nonzero(wrong))
    values = (int(one[t, n, c, h, w]), int(other[t, n, c, h, w]))
    return count, Mismatch(layer, t, n, (c, h, w), values, quantity)
