"""Soft targets from the last layer's weights."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.synthesis.targets import class_similarity, dirichlet_targets

WEIGHT = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)


def test_similarity_is_the_cosine_with_each_row_scaled_to_one() -> None:
    similarity = class_similarity(WEIGHT)
    assert similarity.min() == 0 and similarity.max() == pytest.approx(1)
    np.testing.assert_allclose(similarity.min(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(similarity), 1)
    for row in range(10):
        cosine = [
            np.dot(WEIGHT[row], other) / np.linalg.norm(WEIGHT[row]) / np.linalg.norm(other)
            for other in WEIGHT
        ]
        expected = (np.array(cosine) - min(cosine)) / (max(cosine) - min(cosine))
        np.testing.assert_allclose(similarity[row], expected, atol=1e-6)


def test_similarity_of_equal_or_empty_rows_is_a_number() -> None:
    assert np.isfinite(class_similarity(np.zeros((3, 4), np.float32))).all()
    assert np.isfinite(class_similarity(np.ones((3, 4), np.float32))).all()


def test_targets_are_distributions_of_every_class() -> None:
    similarity = class_similarity(WEIGHT)
    targets = dirichlet_targets(similarity, 400, (1.0, 0.1), np.random.default_rng(1))
    assert targets.dtype == np.float32 and targets.shape == (400, 10)
    assert targets.min() >= 0
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
    assert set(targets.argmax(1)) == set(range(10))


def test_both_concentrations_are_used_in_equal_numbers() -> None:
    """0.1 gives nearly one-hot targets, 1.0 spreads them: the two halves must differ."""
    similarity = class_similarity(WEIGHT)
    rng = np.random.default_rng
    both = dirichlet_targets(similarity, 2000, (1.0, 0.1), rng(2)).max(1)
    soft = dirichlet_targets(similarity, 1000, (1.0,), rng(2)).max(1)
    sharp = dirichlet_targets(similarity, 1000, (0.1,), rng(2)).max(1)
    assert sharp.mean() > soft.mean() + 0.2
    assert both.mean() == pytest.approx((soft.mean() + sharp.mean()) / 2, abs=0.02)


def test_the_mean_target_is_the_similarity() -> None:
    """A Dirichlet's mean is its concentration over the sum."""
    similarity = class_similarity(WEIGHT[:3])
    targets = dirichlet_targets(similarity, 6000, (1.0,), np.random.default_rng(3))
    for row in range(3):
        expected = similarity[row] / similarity[row].sum()
        np.testing.assert_allclose(targets[row::3].mean(0), expected, atol=0.03)
