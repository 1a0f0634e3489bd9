"""Membership inference: can a training image be told from a test image by the network's answer?

Every score is larger for an image that looks more like a member. The attacker knows the image and
its class and sees the logits. Confidence, loss and entropies depend on the scale of the logits,
which a spiking network does not share with the ANN; all of them are therefore brought to one scale
first. Margin and largest logit do not depend on it.

Sources: largest confidence, Salem et al. 2019; loss, Yeom et al. 2018; modified entropy, Song and
Mittal 2021; margin and rates at few false positives, Carlini et al. 2022.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from audit.metrics.intervals import two_sample_estimate
from compiler.ir.geometry import Array

FALSE_POSITIVE_RATES = (0.001, 0.01)
LOGIT_SPREAD = 3.0
"""Mean standard deviation of an image's logits over the classes after scaling; those of the kept
ANNs are near it, and a softmax of it is neither flat nor saturated."""


def membership_scores(logits_nk: Array, labels_n: Array, scale: float) -> dict[str, Array]:
    """Name of each score -> one number an image, larger for what looks like a member.

    scale: what the logits are multiplied by first, the same for members and others.
    """
    logits = np.asarray(logits_nk, np.float64) * scale
    place = np.arange(len(logits))
    log_p = logits - _log_sum_exp(logits)
    p = np.exp(log_p)
    own, others = logits[place, labels_n], logits.copy()
    others[place, labels_n] = -np.inf
    return {
        "max_logit": logits.max(1),
        "confidence": log_p.max(1),
        "entropy": (p * log_p).sum(1),
        "loss": log_p[place, labels_n],
        "modified_entropy": -_modified_entropy(p, labels_n),
        "margin": own - others.max(1),
    }


def attack_membership(
    members: tuple[Array, Array], others: tuple[Array, Array], seed: int
) -> dict[str, Any]:
    """How well each score tells members from others.

    members, others: (logits_nk, labels_n), as many of a class in either. Returns `best`, the
    score with the largest AUC, that `auc`, for each false-positive rate under `tpr_at` the
    largest true-positive rate with its score, and all `scores`. A rate that so few images cannot
    show is None, with the reason in `tpr_notes`.
    """
    scale = _scale(np.concatenate([members[0], others[0]]))
    ins, outs = membership_scores(*members, scale), membership_scores(*others, scale)
    notes = {}
    for rate in FALSE_POSITIVE_RATES:
        if (note := resolution_note(len(others[1]), rate)) is not None:
            notes[str(rate)] = note
    rows = {name: _one_score(ins[name], outs[name], seed) for name in ins}
    best = max(rows, key=lambda name: rows[name]["auc"]["value"])
    return {
        "members": len(members[1]),
        "others": len(others[1]),
        "best": best,
        "auc": rows[best]["auc"],
        "tpr_at": {str(rate): _best_rate(rows, str(rate)) for rate in FALSE_POSITIVE_RATES},
        "tpr_notes": notes,
        "scores": rows,
    }


def _best_rate(rows: dict[str, Any], rate: str) -> dict[str, Any] | None:
    found = {name: row["tpr_at"][rate] for name, row in rows.items()}
    if None in found.values():
        return None
    score = max(found, key=lambda name: float(found[name]["value"]))
    return {"score": score, **found[score]}


def resolution_note(others: int, rate: float) -> str | None:
    """Why a true-positive rate at this false-positive rate cannot be measured, None if it can."""
    if others * rate >= 1:
        return None
    return (
        f"{others} test images show no false-positive rate below {1 / others:.2%}; "
        f"{rate:.1%} needs at least {round(1 / rate):,}"
    )


def _one_score(ins: Array, outs: Array, seed: int) -> dict[str, Any]:
    return {
        "auc": two_sample_estimate(ins, outs, auc, seed).as_dict(),
        "tpr_at": {
            str(rate): None
            if resolution_note(len(outs), rate)
            else two_sample_estimate(ins, outs, _tpr_at(rate), seed).as_dict()
            for rate in FALSE_POSITIVE_RATES
        },
    }


def auc(ins: Array, outs: Array, axis: int = -1) -> Any:
    """Area under the ROC curve along the last axis: chance that a member scores higher; ties half.

    By ranks (Mann and Whitney), since the bootstrap asks for it a thousand times; it is
    sklearn.metrics.roc_auc_score, to which a test compares it.
    """
    from scipy.stats import rankdata

    n, m = ins.shape[-1], outs.shape[-1]
    ranks = rankdata(np.concatenate([ins, outs], axis=-1), axis=-1)[..., :n]
    return (ranks.sum(-1) - n * (n + 1) / 2) / (n * m)


def true_positive_rate(ins: Array, outs: Array, rate: float) -> Any:
    """Share of members above the threshold that at most `rate` of the others exceed.

    The largest true-positive rate of sklearn.metrics.roc_curve at that rate, along the last axis.
    """
    allowed = int(np.floor(rate * outs.shape[-1] + 1e-9))
    kth = outs.shape[-1] - 1 - allowed
    threshold = np.partition(outs, kth, axis=-1)[..., kth, None]
    return (ins > threshold).mean(-1)


def _tpr_at(rate: float) -> Any:
    def statistic(ins: Array, outs: Array, axis: int = -1) -> Any:
        return true_positive_rate(ins, outs, rate)

    return statistic


def _scale(logits_nk: Array) -> float:
    spread = float(np.asarray(logits_nk, np.float64).std(1).mean())
    return LOGIT_SPREAD / spread if spread else 1.0


def _log_sum_exp(logits: Array) -> Array:
    from scipy.special import logsumexp

    total: Array = logsumexp(logits, axis=1, keepdims=True)
    return total


def _modified_entropy(p_nk: Array, labels_n: Array) -> Array:
    """-(1 - p_y) log p_y - sum over the other classes of p_i log(1 - p_i)."""
    tiny = 1e-300
    place = np.arange(len(p_nk))
    own = p_nk[place, labels_n]
    terms = p_nk * np.log(np.maximum(1 - p_nk, tiny))
    terms[place, labels_n] = 0.0
    entropy: Array = -(1 - own) * np.log(np.maximum(own, tiny)) - terms.sum(1)
    return entropy
