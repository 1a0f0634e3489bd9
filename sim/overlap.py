"""Test images that are training images too: they say nothing of images that were never seen."""

from __future__ import annotations

import numpy as np

from compiler.errors import DataError, one_problem
from sim.datasets import Dataset

MOST_SEEN = 0.5
"""Largest share of the test images that may be training images."""


def apart(test: Dataset, training: Dataset) -> tuple[Dataset | None, str | None]:
    """The test images that are no training images, and how many are, in words, where any is.

    None in place of the images where more than MOST_SEEN of them are training images: such
    data has no test part.
    """
    seen = test.within(training)
    if not seen.any():
        return test, None
    found = f"{int(seen.sum()):,} of {len(seen):,} test images are training images too"
    return (None if seen.mean() > MOST_SEEN else test.only(np.flatnonzero(~seen))), found


def unseen(test: Dataset, training: Dataset) -> tuple[Dataset, str | None]:
    """The test images that are no training images, and a note where that is not all of them.

    Raises DataError where most test images are training images.
    """
    kept, found = apart(test, training)
    if kept is None:
        raise one_problem(
            DataError,
            "the two parts of the data are not apart",
            test.name,
            str(found),
            f"at most {MOST_SEEN:.0%} of them, which are then left out",
            "name data with training images that the network saw and test images that it did not "
            "(npz: x_train and x_test; imagefolder: train/ and test/)",
        )
    return kept, f"{found}; they were left out." if found else None
