"""What the subjects answer on training and test images: for accuracies and for membership."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.cache import Cache
from audit.inputs import AuditData
from audit.metrics.intervals import mean_estimate
from compiler.ir.geometry import Array
from compiler.run_folder import key_of

if TYPE_CHECKING:
    from audit.subjects import Subject

QUICK_IMAGES = 1_000
FULL_IMAGES = 5_000
"""Training images, and as many test images, at most, that a subject is asked about."""

VIEWS = ("relu", "clipped_relu")
BATCH = 250


@dataclass(frozen=True)
class Answers:
    """A subject's logits on training images (members) and on test images (others).

    members, others: (logits_nk, labels_n); views: for each re-converted network its right
    answers on the same test images, bool (N,).
    """

    members: tuple[Array, Array]
    others: tuple[Array, Array]
    views: dict[str, Array]

    @property
    def right_n(self) -> Array:
        """Right answers on test images."""
        right: Array = self.others[0].argmax(1) == self.others[1]
        return right

    @property
    def accuracy(self) -> float:
        """Share of right answers on test images."""
        return float(self.right_n.mean())

    def fields(self, seed: int) -> dict[str, Any]:
        """accuracy and reconverted, with intervals, in audit.json."""
        training = self.members[0].argmax(1) == self.members[1]
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": mean_estimate(self.right_n, seed).as_dict(),
            "accuracy_on_training_images": float(training.mean()),
            "test_images": len(self.right_n),
            "reconverted": {view: float(right.mean()) for view, right in self.views.items()},
        }


def ask_subjects(
    subjects: Sequence[Subject],
    data: AuditData,
    quick: bool,
    seed: int,
    cache: Cache,
    key: str,
    progress: Callable[[int, int], None],
) -> dict[str, Answers]:
    """Ask every subject about the same training and test images; kept in the cache."""
    from sim.datasets import choose_evenly

    most = QUICK_IMAGES if quick else FULL_IMAGES
    chosen = []
    for part in (data.training, data.test):
        index = choose_evenly(part.labels, min(most, len(part)), seed)
        chosen.append((part.images_nchw[index], part.labels[index]))
    shown = [data.training.fingerprint, data.test.fingerprint, most]
    answers = {}
    for done, subject in enumerate(subjects):
        progress(done, len(subjects))
        own = key_of(key, subject.name, shown)
        arrays, _, _ = cache.arrays(f"{subject.name}.answers", own, partial(_ask, subject, chosen))
        (_, member_labels), (_, other_labels) = chosen
        answers[subject.name] = Answers(
            (arrays["members"], member_labels),
            (arrays["others"], other_labels),
            {view: arrays[view].argmax(1) == other_labels for view in VIEWS},
        )
    return answers


def _ask(
    subject: Subject, chosen: list[tuple[Array, Array]]
) -> tuple[dict[str, Array], dict[str, Any]]:
    (members, _), (others, _) = chosen
    arrays = {
        "members": np.asarray(subject.logits(members), np.float64),
        "others": np.asarray(subject.logits(others), np.float64),
    }
    return arrays | {view: _run(subject.module(view), others) for view in VIEWS}, {}


def _run(module: Any, images_nchw: Array) -> Array:
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(images_nchw), BATCH):
            parts.append(module(torch.tensor(images_nchw[start : start + BATCH])).numpy())
    return np.concatenate(parts)
