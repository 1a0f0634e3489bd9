"""Real images of an audit: parts that overlap, and classes that are not equally frequent."""

from __future__ import annotations

import numpy as np
import pytest

from audit.inputs import AuditData
from audit.measure import _resemblance
from compiler.errors import DataError
from sim.datasets import Dataset
from sim.overlap import unseen


def data(images: np.ndarray, labels: np.ndarray | None = None) -> Dataset:
    chosen = np.zeros(len(images), np.int64) if labels is None else labels
    return Dataset("some", images.astype(np.float32), chosen, ("a", "b"), np.arange(len(images)))


def images(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 4, 4)) / 255


def test_test_images_that_are_training_images_are_left_out() -> None:
    training, fresh = images(50, 0), images(9, 1)
    test = data(np.concatenate([fresh[:4], training[7:8], fresh[4:]]))
    kept, note = unseen(test, data(training, np.ones(50, np.int64)))
    assert (kept.images_nchw == data(fresh).images_nchw).all()
    assert kept.index_n.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert note is not None and note.startswith("1 of 10 test images are training images too")


def test_parts_that_are_apart_are_left_as_they_are() -> None:
    test = data(images(9, 1))
    kept, note = unseen(test, data(images(50, 0)))
    assert kept is test and note is None


@pytest.mark.parametrize("fresh", [0, 9])
def test_a_test_part_of_training_images_is_refused(fresh: int) -> None:
    training = images(50, 0)
    test = np.concatenate([images(fresh, 1), training[::-1][:10]])
    with pytest.raises(DataError, match="not apart") as error:
        unseen(data(test), data(training))
    assert f"10 of {10 + fresh:,}" in str(error.value)


def test_copies_are_found_where_classes_differ_in_number() -> None:
    """Three quarters of the training part are of one class, half of the test part and half of
    the made images: a fifth of those are copies of training images."""
    generator = np.random.default_rng(0)

    def drawn(first: int, second: int) -> Dataset:
        labels = np.repeat([0, 1], [first, second])
        pixels = generator.random((len(labels), 1, 4, 4)) / 4 + labels[:, None, None, None] / 2
        return data(pixels, labels)

    training, test, made = drawn(900, 300), drawn(300, 300), drawn(250, 250)
    parts = AuditData("some", test, training, test, ("a", "b"), ())
    copied = made.images_nchw.copy()
    copied[:50], copied[450:] = training.images_nchw[:50], training.images_nchw[-50:]
    found = _resemblance(parts, {"fresh": made.images_nchw, "copied": copied}, 0)
    assert found["copied"]["p"] < 0.05
    assert found["fresh"]["chance"]["low"] < found["fresh"]["value"]
    assert found["fresh"]["value"] < found["fresh"]["chance"]["high"]
    assert found["fresh"]["real_images_each"] == 600
