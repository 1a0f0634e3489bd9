"""How many of an attack's images the judges take for the class under attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.judges.judge import Judge
from audit.metrics.intervals import Estimate, mean_estimate
from compiler.ir.geometry import Array


@dataclass(frozen=True)
class Recognition:
    """What each of J judges says of N images.

    hits_jn: whether the judge's largest logit is the image's class; confidence_jn: the
    probability it gives that class; labels_n: the classes.
    """

    judges: tuple[str, ...]
    hits_jn: Array
    confidence_jn: Array
    labels_n: Array

    @property
    def shares_n(self) -> Array:
        """Share of the judges that recognise each image; its mean is the recognition rate."""
        shares: Array = self.hits_jn.mean(0)
        return shares

    def rate(self, seed: int) -> Estimate:
        """The recognition rate: mean over judges and images, images resampled."""
        return mean_estimate(self.shares_n, seed)

    def as_dict(self, class_names: Sequence[str], seed: int) -> dict[str, Any]:
        """The fields of an attack in audit.json that the judges decide."""
        judges = range(len(self.judges))
        return {
            "images": len(self.labels_n),
            "recognition": self.rate(seed).as_dict(),
            "judge_accuracy": {
                self.judges[j]: mean_estimate(self.hits_jn[j], seed).as_dict() for j in judges
            },
            "judge_confidence": {
                self.judges[j]: mean_estimate(self.confidence_jn[j], seed).as_dict() for j in judges
            },
            "all_judges_agree": mean_estimate(self.hits_jn.all(0), seed).as_dict(),
            "classes": self._by_class(class_names, seed),
        }

    def _by_class(self, class_names: Sequence[str], seed: int) -> dict[str, Any]:
        shares, confidence = self.shares_n, self.confidence_jn.mean(0)
        rows = {}
        for label, name in enumerate(class_names):
            members = self.labels_n == label
            if members.any():
                rows[name] = {
                    "images": int(members.sum()),
                    **mean_estimate(shares[members], seed).as_dict(),
                    "confidence": float(confidence[members].mean()),
                }
        return rows


def recognise(judges: Sequence[Judge], images_nchw: Array, labels_n: Array) -> Recognition:
    """Ask every judge about images (N, C, H, W) in [0, 1] made for the classes `labels_n`."""
    place = np.arange(len(labels_n))
    hits, confidences = [], []
    for judge in judges:
        shares_nk = judge.probabilities(images_nchw)
        hits.append(shares_nk.argmax(1) == labels_n)
        confidences.append(shares_nk[place, labels_n])
    names = tuple(judge.name for judge in judges)
    return Recognition(names, np.stack(hits), np.stack(confidences), np.asarray(labels_n))
