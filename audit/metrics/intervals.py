"""Means with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compiler.ir.geometry import Array

CONFIDENCE = 0.95
RESAMPLES = 1000
_BATCH_NUMBERS = 2_000_000
"""Resampled numbers in memory at a time."""


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its interval of CONFIDENCE."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """value, low, high."""
        return asdict(self)


def mean_estimate(values_n: Array, seed: int) -> Estimate:
    """Mean of one number an image; percentile bootstrap over the images.

    Where every image is a hit, or none is, resampling shows no spread at all: then the
    interval is Clopper and Pearson's for a share.
    """
    values = np.asarray(values_n, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"one number an image, at least one image, not {values.shape}")
    if np.ptp(values) == 0:
        return _constant(float(values[0]), len(values))
    low, high = _bootstrap((values,), _mean, seed)
    return Estimate(float(values.mean()), low, high)


def difference_estimate(first_n: Array, second_n: Array, seed: int) -> Estimate:
    """Mean of the first minus mean of the second sample, images resampled in both."""
    first, second = np.asarray(first_n, np.float64), np.asarray(second_n, np.float64)
    value = float(first.mean() - second.mean())
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        one, other = (_constant(float(part[0]), len(part)) for part in (first, second))
        return Estimate(value, one.low - other.high, one.high - other.low)
    low, high = _bootstrap((first, second), _difference, seed)
    return Estimate(value, low, high)


def two_sample_estimate(
    first_n: Array, second_n: Array, statistic: Callable[..., Any], seed: int
) -> Estimate:
    """A statistic (first, second, axis) of two samples, both resampled."""
    first, second = np.asarray(first_n, np.float64), np.asarray(second_n, np.float64)
    low, high = _bootstrap((first, second), statistic, seed)
    return Estimate(float(statistic(first, second, axis=-1)), low, high)


def _constant(value: float, count: int) -> Estimate:
    from scipy.stats import binomtest

    if value not in (0.0, 1.0):
        return Estimate(value, value, value)
    exact = binomtest(round(value * count), count).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(value, float(exact.low), float(exact.high))


def _bootstrap(
    samples: tuple[Array, ...], statistic: Callable[..., Any], seed: int
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // sum(len(sample) for sample in samples)),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(result.low), float(result.high)


def _mean(values: Array, axis: int) -> Any:
    return values.mean(axis)


def _difference(first: Array, second: Array, axis: int) -> Any:
    return first.mean(axis) - second.mean(axis)
