"""Metrics of the audit against values worked out by hand, and against the libraries' own."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from audit.metrics.distances import set_distance
from audit.metrics.intervals import difference_estimate, mean_estimate
from audit.metrics.nearest import (
    _dealt_shares,
    class_of_nearest,
    compare_distances,
    nearer_to_members,
    nearest,
)
from audit.metrics.recognition import recognise


class OnePixelJudge:
    """Says class k with probability 0.7 where pixel k is the brightest."""

    def __init__(self, name: str, turned: int = 0) -> None:
        self.name = name
        self.turned = turned

    def probabilities(self, images_nchw: np.ndarray) -> np.ndarray:
        chosen = (images_nchw.reshape(len(images_nchw), -1).argmax(1) + self.turned) % 4
        return np.where(np.eye(4)[chosen] > 0, 0.7, 0.1)


def one_pixel(labels: list[int]) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[labels].reshape(-1, 1, 2, 2)


def test_recognition_by_hand() -> None:
    # three judges, four images of classes 0, 0, 1, 2, drawn as 0, 1, 1, 2
    judges: Any = [OnePixelJudge("a"), OnePixelJudge("b"), OnePixelJudge("c", turned=1)]
    found = recognise(judges, one_pixel([0, 1, 1, 2]), np.array([0, 0, 1, 2]))
    assert found.hits_jn.tolist() == [[1, 0, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0]]
    assert found.rate(0).value == pytest.approx(6 / 12)
    fields = found.as_dict(["w", "x", "y", "z"], seed=0)
    assert fields["judge_accuracy"]["a"]["value"] == 0.75
    assert fields["judge_accuracy"]["c"]["value"] == 0.0
    assert fields["judge_confidence"]["a"]["value"] == pytest.approx((0.7 * 3 + 0.1) / 4)
    assert fields["judge_confidence"]["c"]["value"] == pytest.approx((0.1 * 3 + 0.1) / 4)
    assert fields["all_judges_agree"]["value"] == 0.0
    assert list(fields["classes"]) == ["w", "x", "y"]
    assert fields["classes"]["w"]["value"] == pytest.approx(1 / 3)
    assert fields["classes"]["x"]["value"] == pytest.approx(2 / 3)
    assert fields["classes"]["w"]["images"] == 2


def test_all_hits_have_the_exact_interval_of_a_share() -> None:
    ten = mean_estimate(np.ones(10), 0)
    assert (ten.value, ten.high) == (1.0, 1.0)
    assert ten.low == pytest.approx(0.025 ** (1 / 10))
    none = mean_estimate(np.zeros(10), 0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 10))


def test_a_bootstrap_interval_is_as_wide_as_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    found = mean_estimate(values, 1)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)
    assert found == mean_estimate(values, 1)


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5, 0.9])
def test_intervals_of_shares_cover_the_truth(share: float) -> None:
    """Exact ones hold the true share in at least 95 % of draws; 200 draws show 92 or more."""
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        found = mean_estimate(generator.random(120) < share, seed)
        covered += found.low <= share <= found.high
    assert covered >= 184


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_intervals_of_means_cover_the_truth(share: float) -> None:
    """Four judges: 95 % intervals hold the mean in about 95 % of draws (200: 88.5 to 99 %)."""
    generator = np.random.default_rng(7)
    covered = 0
    for seed in range(200):
        found = mean_estimate((generator.random((4, 120)) < share).mean(0), seed)
        covered += found.low <= share <= found.high
    assert 177 <= covered <= 198


def test_difference_of_two_samples() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random(300) < 0.8, generator.random(300) < 0.5
    found = difference_estimate(first, second, 0)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.low < 0.3 < found.high
    assert found.low > 0
    sure = difference_estimate(np.ones(10), np.zeros(10), 0)
    assert sure.value == sure.high == 1.0
    assert sure.low == pytest.approx(1 - math.sqrt(2) * (1 - 0.025**0.1))


@pytest.mark.parametrize("count", [20, 200])
def test_one_hit_more_never_lowers_a_bound(count: int) -> None:
    found = [mean_estimate(np.arange(count) < hits, 0) for hits in range(count + 1)]
    assert all(one.low < more.low or more.low == 0 for one, more in pairwise(found))
    assert all(one.high < more.high for one, more in pairwise(found[:-1]))


@pytest.mark.parametrize("hits", [1, 3, 19])
def test_a_share_has_the_exact_interval(hits: int) -> None:
    found = mean_estimate(np.arange(20) < hits, 0)
    exact = binomtest(hits, 20).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


@pytest.mark.parametrize("different", [0, 1, 9])
def test_no_interval_is_without_width(different: int) -> None:
    """Three of four judges recognise every image but a few: nothing sure about the next one."""
    shares = np.full(20, 0.75)
    shares[:different] = 0.5
    found = mean_estimate(shares, 0)
    assert found.low < found.value - 0.15
    assert found.high > found.value + 0.1
    assert found.value == pytest.approx(shares.mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_a_difference_of_shares_is_odd(first: int, second: int) -> None:
    one, other = (np.arange(40) < hits for hits in (first, second))
    found, turned = difference_estimate(one, other, 0), difference_estimate(other, one, 0)
    assert found.low == pytest.approx(-turned.high, abs=1e-12)
    assert -1 <= found.low <= found.value <= found.high <= 1


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_nearest_is_the_smallest_distance(queries: int, points: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    own = generator.random((queries, 1, 3, 3), np.float32)
    reference = generator.random((points, 1, 3, 3), np.float32)
    table = np.linalg.norm((own[:, None] - reference[None]).reshape(queries, points, -1), axis=2)
    found = nearest(own, reference)
    assert found.distance_n == pytest.approx(table.min(1), rel=1e-5)
    assert found.index_n.tolist() == table.argmin(1).tolist()


def test_a_copy_is_at_distance_zero() -> None:
    reference = 100 + np.random.default_rng(0).random((500, 64), np.float32)
    found = nearest(reference[[7, 300]], reference)
    assert found.index_n.tolist() == [7, 300]
    assert found.distance_n.tolist() == [0.0, 0.0]


def test_nearest_distances_compared_by_hand() -> None:
    real = np.arange(1.0, 102.0)  # median 51, quantile 1 % = 2
    found = compare_distances(np.array([1.5, 10.0, 60.0, 70.0]), real, 0)
    assert (found["median"], found["real_median"]) == (35.0, 51.0)
    assert found["nearer_than_real"]["value"] == 0.5
    assert found["copies"]["value"] == 0.25


def test_class_of_the_nearest_by_hand() -> None:
    found = class_of_nearest(np.array([0, 2, 2, 1]), np.array([5, 6, 7]), np.array([5, 7, 5, 5]), 0)
    assert found["value"] == 0.5


def test_noisy_copies_of_members_are_found_and_fresh_images_are_not() -> None:
    generator = np.random.default_rng(0)
    members, others, fresh = (generator.random((200, 16)) for _ in range(3))
    near = members[:80] + generator.normal(0, 0.02, (80, 16))
    labels = np.arange(200) % 3
    copies = nearer_to_members(near, members, others, labels, 0)
    assert copies["value"] == 1.0
    assert copies["p"] < 0.01
    clean = nearer_to_members(fresh[:80], members, others, labels, 0)
    assert clean["chance"]["low"] <= clean["value"] <= clean["chance"]["high"]
    assert clean["p"] > 0.01
    assert clean["real_images_each"] == 200


def test_chance_is_calibrated() -> None:
    """Where members and others are the same kind, p is below 0.1 in about a tenth of cases."""
    small = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        members, others, images = (generator.random((60, 4)) for _ in range(3))
        labels = np.repeat([0, 1], [20, 40])
        small += nearer_to_members(images, members, others, labels, seed)["p"] < 0.1
    assert small <= 14


def test_words_are_dealt_out_within_each_class() -> None:
    """Of two places a class, one is called training: images near all of them are half near it."""
    generator = np.random.default_rng(0)
    shares = _dealt_shares(np.arange(6), np.arange(3), generator)
    assert (shares == 0.5).all()


def test_frechet_distance_of_gaussians_by_hand() -> None:
    """|mean|^2 + sum of (s1 - s2)^2 for independent features."""
    generator = np.random.default_rng(0)
    one = generator.normal(0.0, 1.0, (20_000, 2))
    other = generator.normal([1.0, 0.0], [1.0, 3.0], (20_000, 2))
    found = set_distance(other, one, 0)
    assert found.fid == pytest.approx(1 + 4, rel=0.05)
    assert set_distance(one, one, 0).fid == pytest.approx(0, abs=1e-6)


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def test_kernel_distance_by_hand() -> None:
    """Unbiased squared MMD with (x.y / d + 1)^3; subsets as large as the sets leave no chance."""
    generator = np.random.default_rng(3)
    own, reference = generator.normal(1, 1, (30, 4)), generator.normal(0, 1, (30, 4))
    n = 30
    within = sum(
        (cubic(x, x).sum() - np.trace(cubic(x, x))) / (n * (n - 1)) for x in (own, reference)
    )
    expected = within - 2 * cubic(own, reference).mean()
    found = set_distance(own, reference, 0)
    assert found.kid == pytest.approx(expected, rel=1e-6)
    assert found.kid_std == pytest.approx(0, abs=1e-9)


def test_fid_of_few_images_is_biased_upwards_and_kid_is_not() -> None:
    generator = np.random.default_rng(0)
    reference = generator.normal(0, 1, (4000, 16))
    few = [set_distance(generator.normal(0, 1, (40, 16)), reference, seed) for seed in range(10)]
    assert min(found.fid for found in few) > 1
    mean = np.mean([found.kid for found in few])
    spread = np.std([found.kid for found in few]) / math.sqrt(10)
    assert abs(mean) < 4 * spread
