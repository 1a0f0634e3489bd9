"""The options --mean and --std as an affine map of the pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from compiler.errors import Problem, UsageError, one_problem
from compiler.ir.geometry import Array

Normalisation = tuple[Array, Array]

REMEDY = "give mean and std of pixels in [0, 1], as the network was trained with"


def normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> Normalisation | None:
    """Return (x - mean) / std as scale and shift per channel, None where nothing was given.

    Raises UsageError for a wrong number of values, a std that is not positive, and for those of
    pixels that are not in [0, 1].
    """
    if mean is None and std is None:
        return None
    given = {"--mean": [0.0] if mean is None else mean, "--std": [1.0] if std is None else std}
    problems = [
        problem
        for option, values in given.items()
        for problem in _problems(option, values, channels)
    ]
    if problems:
        raise UsageError("wrong options", problems)
    means, stds = (
        np.broadcast_to(np.asarray(values, np.float64), (channels,)).copy()
        for values in given.values()
    )
    _check_single_precision(means, stds)
    if np.all(means > 1):
        found = f"{list(means)} and {list(stds)}, which are of pixels from 0 to 255"
        allowed, remedy = "those of pixels in [0, 1]", "divide both by 255"
        raise one_problem(UsageError, "wrong options", "--mean, --std", found, allowed, remedy)
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


def _problems(option: str, values: Sequence[float], channels: int) -> Iterator[Problem]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape not in ((1,), (channels,)) or not np.isfinite(numbers).all():
        allowed = f"{channels} finite numbers, one a channel, or a single one"
        yield Problem(option, f"{list(values)}", allowed, f"give {option} one number a channel")
    elif option == "--std" and not np.all(numbers > 0):
        yield Problem(option, str(list(values)), "positive numbers", "check --std")
