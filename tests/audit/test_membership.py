"""Membership inference against scikit-learn's curves and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from audit.answers import chosen_alike
from audit.membership import (
    attack_membership,
    auc,
    membership_scores,
    resolution_note,
    true_positive_rate,
)
from compiler.errors import DataError


def scores_with_ties(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 20, count) + 2.0, generator.integers(0, 20, count + 3) + 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_curve_is_scikit_learns(seed: int, count: int, rate: float) -> None:
    ins, outs = scores_with_ties(seed, count)
    truth = np.concatenate([np.ones(len(ins)), np.zeros(len(outs))])
    scores = np.concatenate([ins, outs])
    assert auc(ins, outs) == pytest.approx(roc_auc_score(truth, scores))
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert true_positive_rate(ins, outs, rate) == pytest.approx(true[false <= rate + 1e-9].max())


def test_statistics_work_along_the_last_axis() -> None:
    ins, outs = scores_with_ties(0, 50)
    both = np.stack([ins, ins + 5]), np.stack([outs, outs])
    assert auc(*both).tolist() == [auc(ins, outs), auc(ins + 5, outs)]
    rates = true_positive_rate(*both, 0.1).tolist()
    assert rates == [true_positive_rate(ins, outs, 0.1), true_positive_rate(ins + 5, outs, 0.1)]


def test_scores_by_hand() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    found = membership_scores(logits, np.array([0, 2]), 1.0)
    assert found["confidence"] == pytest.approx(np.log([0.7, 0.6]))
    assert found["loss"] == pytest.approx(np.log([0.7, 0.3]))
    assert found["margin"] == pytest.approx([np.log(0.7 / 0.2), np.log(0.3 / 0.6)])
    first = -(0.3 * np.log(0.7)) - (0.2 * np.log(0.8) + 0.1 * np.log(0.9))
    assert found["modified_entropy"][0] == pytest.approx(-first)
    assert found["entropy"][0] == pytest.approx(sum(p * np.log(p) for p in (0.7, 0.2, 0.1)))
    assert found["max_logit"] == pytest.approx(np.log([0.7, 0.6]))


def sample(seed: int, count: int, sure: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, count)
    logits = generator.normal(0, 1, (count, 5))
    logits[np.arange(count), labels] += sure
    return logits, labels


def test_a_network_that_is_surer_of_its_members_is_found_out() -> None:
    found = attack_membership(sample(0, 600, 6.0), sample(1, 600, 3.0), 0)
    assert found["auc"]["value"] > 0.9
    assert found["auc"]["low"] > 0.88
    assert found["tpr_at"]["0.01"]["value"] > 0.2
    assert found["best"] in found["scores"]
    assert found["auc"] == found["scores"][found["best"]]["auc"]


def test_every_rate_is_that_of_the_score_that_is_best_there() -> None:
    found = attack_membership(sample(0, 1000, 4.0), sample(1, 1000, 3.0), 0)
    for rate, best in found["tpr_at"].items():
        values = {name: row["tpr_at"][rate]["value"] for name, row in found["scores"].items()}
        assert best["value"] == max(values.values()) == values[best["score"]]


@pytest.mark.parametrize("most", [120, 10_000])
def test_classes_that_are_rare_in_one_part_are_no_sign_of_membership(most: int) -> None:
    """Answers that depend on the class alone: nothing but the mix of classes could tell."""
    generator = np.random.default_rng(3)
    parts = [np.repeat(np.arange(3), counts) for counts in ((900, 60, 40), (40, 300, 500))]
    parts.append(np.full(50, 7))
    asked = []
    for labels, index in zip(parts[:2], chosen_alike(*parts[:2], most, 5), strict=True):
        assert np.all(np.diff(index) > 0)
        chosen = labels[index]
        logits = np.eye(3)[chosen] * (2 + chosen[:, None])
        asked.append((logits + generator.normal(0, 0.1, logits.shape), chosen))
    assert np.bincount(asked[0][1]).tolist() == np.bincount(asked[1][1]).tolist()
    assert len(asked[0][1]) == min(most, 40 + 60 + 40)
    found = attack_membership(*asked, 0)
    for row in found["scores"].values():
        assert row["auc"]["low"] < 0.5 < row["auc"]["high"]
    with pytest.raises(DataError, match="no class in common"):
        chosen_alike(parts[0], parts[2], most, 5)


def test_a_network_that_treats_all_alike_is_not() -> None:
    found = attack_membership(sample(0, 1000, 3.0), sample(1, 1000, 3.0), 0)
    assert found["auc"]["low"] - 0.02 < 0.5 < found["auc"]["high"] + 0.02
    assert found["tpr_at"]["0.001"]["value"] < 0.02
    assert found["tpr_notes"] == {}


def test_the_scale_of_the_logits_does_not_matter() -> None:
    ins, outs = sample(0, 300, 4.0), sample(1, 300, 3.0)
    large = attack_membership((ins[0] * 5e6, ins[1]), (outs[0] * 5e6, outs[1]), 0)
    plain = attack_membership(ins, outs, 0)
    for name, row in plain["scores"].items():
        assert row["auc"]["value"] == pytest.approx(large["scores"][name]["auc"]["value"], abs=1e-4)


def test_too_few_images_are_said_to_be_too_few() -> None:
    found = attack_membership(sample(0, 700, 3.0), sample(1, 599, 3.0), 0)
    assert found["tpr_at"]["0.001"] is None
    assert found["tpr_at"]["0.01"] is not None
    assert "599 test images" in found["tpr_notes"]["0.001"]
    assert "1,000" in found["tpr_notes"]["0.001"]
    assert resolution_note(1000, 0.001) is None
