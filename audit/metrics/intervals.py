"""Means of numbers in [0, 1] and statistics of two samples, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from compiler.ir.geometry import Array

CONFIDENCE = 0.95
RESAMPLES = 1000
FEWEST_DIFFERENT = 10
"""Images that must differ from the others for their bootstrap to tell how a mean may move."""

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
    """Mean of one number in [0, 1] an image; percentile bootstrap over the images.

    For hits and misses the interval is Clopper and Pearson's; so it is where fewer than
    FEWEST_DIFFERENT images differ from the others, of which resampling shows too little. No
    distribution on [0, 1] with that mean varies more than hits and misses do.
    """
    values = np.asarray(values_n, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"one number an image, at least one image, not {values.shape}")
    value = float(values.mean())
    if _as_a_share(values):
        return Estimate(value, *_clopper_pearson(value, len(values)))
    return Estimate(value, *_bootstrap((values,), _mean, seed))


def difference_estimate(first_n: Array, second_n: Array, seed: int) -> Estimate:
    """Mean of the first minus mean of the second sample, images resampled in both.

    Where a mean has Clopper and Pearson's interval, that of the difference is put together from
    the two (Newcombe, Statistics in Medicine 1998, method 10).
    """
    samples = np.asarray(first_n, np.float64), np.asarray(second_n, np.float64)
    value = float(samples[0].mean() - samples[1].mean())
    if not any(_as_a_share(sample) for sample in samples):
        return Estimate(value, *_bootstrap(samples, _difference, seed))
    one, other = (mean_estimate(sample, seed) for sample in samples)
    below = np.hypot(one.value - one.low, other.high - other.value)
    above = np.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, float(value - below), float(value + above))


def two_sample_estimate(
    first_n: Array, second_n: Array, statistic: Callable[..., Any], seed: int
) -> Estimate:
    """A statistic (first, second, axis) of two samples, both resampled."""
    first, second = np.asarray(first_n, np.float64), np.asarray(second_n, np.float64)
    low, high = _bootstrap((first, second), statistic, seed)
    return Estimate(float(statistic(first, second, axis=-1)), low, high)


def _as_a_share(values_n: Array) -> bool:
    if np.isin(values_n, (0.0, 1.0)).all():
        return True
    _, counts = np.unique(values_n, return_counts=True)
    return bool(len(values_n) - counts.max() < FEWEST_DIFFERENT)


def _clopper_pearson(share: float, count: int) -> tuple[float, float]:
    """By quantiles of the beta distribution, which exist between whole numbers of hits too."""
    from scipy.stats import beta

    tail, hits = (1 - CONFIDENCE) / 2, share * count
    low = beta.ppf(tail, hits, count - hits + 1) if hits > 0 else 0.0
    high = beta.ppf(1 - tail, hits + 1, count - hits) if hits < count else 1.0
    return float(low), float(high)


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
