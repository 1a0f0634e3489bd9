"""The options --mean and --std as an affine map of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.errors import Problem, UsageError, one_problem
from compiler.ir.geometry import Array

Normalisation = tuple[Array, Array]

REMEDY = "give mean and std of pixels in [0, 1], as the network was trained with"


def normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> Normalisation | None:
    """Return (x - mean) / std as scale and shift per channel, None where nothing was given.

    Raises UsageError for a wrong number of values or a std that is not positive.
    """
    if mean is None and std is None:
        return None
    means = _per_channel("--mean", mean if mean is not None else [0.0], channels)
    stds = _per_channel("--std", std if std is not None else [1.0], channels)
    if not np.all(stds > 0):
        raise one_problem(
            UsageError, "wrong option", "--std", str(list(stds)), "positive numbers", "check --std"
        )
    _check_single_precision(means, stds)
    return 1 / stds, -means / stds


def _check_single_precision(means: Array, stds: Array) -> None:
    """Refuse values whose scale or shift is beyond what the network computes with."""
    with np.errstate(over="ignore"):
        found = {"1 / std": 1 / stds, "mean / std": means / stds}
    largest = float(np.finfo(np.float32).max)
    problems = [
        Problem("--mean, --std", f"{what} {list(values)}", f"at most {largest:.3g}", REMEDY)
        for what, values in found.items()
        if not np.all(np.abs(values) <= largest)
    ]
    if problems:
        raise UsageError("the normalisation is beyond single precision", problems)


def _per_channel(option: str, values: Sequence[float], channels: int) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape not in ((1,), (channels,)) or not np.isfinite(numbers).all():
        raise one_problem(
            UsageError,
            "wrong option",
            option,
            f"{list(values)}",
            f"{channels} finite numbers, one a channel, or a single one",
            f"give {option} one number a channel",
        )
    return np.broadcast_to(numbers, (channels,)).copy()
