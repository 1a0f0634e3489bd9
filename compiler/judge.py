"""The images that a network is judged by: real ones where there are some, else synthetic ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann
from compiler.ir.synthetic import SyntheticSet
from sim.data_readers import ArrayImages

if TYPE_CHECKING:
    from sim.datasets import Dataset


@dataclass(frozen=True)
class Judge:
    """Images with the ANN's answers.

    labels_n: None for synthetic images, which have none; teacher_nk: the ANN's logits;
    data: the specification of the images, None for synthetic ones; class_names: one a
    class; fingerprint: SHA-256 of images and labels; note: what a reader of the figures
    should know, for instance why there are no real images.
    """

    images_nchw: Array
    labels_n: Array | None
    teacher_nk: Array
    data: str | None = None
    class_names: tuple[str, ...] = ()
    fingerprint: str | None = None
    note: str = ""

    def row(self, name: str, predictions_n: Array, timesteps: int | None) -> dict[str, Any]:
        """One entry of the report's `stages`; accuracy is None without labels."""
        count = len(predictions_n)
        return {
            "name": name,
            "accuracy": self.accuracy(predictions_n),
            "ann_agreement": self.ann_agreement(predictions_n),
            "samples": count,
            "timesteps": timesteps,
            "images": self.images,
        }

    @property
    def images(self) -> str:
        """`real`, or `synthetic` for want of real ones."""
        return "synthetic" if self.labels_n is None else "real"

    def accuracy(self, predictions_n: Array) -> float | None:
        """Share of right answers over the first images; None without labels."""
        if self.labels_n is None:
            return None
        return float(np.mean(predictions_n == self.labels_n[: len(predictions_n)]))

    def ann_agreement(self, predictions_n: Array) -> float:
        """Share of answers that are the ANN's, over the first images."""
        return float(np.mean(predictions_n == self.teacher_nk[: len(predictions_n)].argmax(1)))

    def describe(self) -> dict[str, Any]:
        """The report's `evaluation`."""
        return {
            "data": self.data,
            "images": self.images,
            "samples": len(self.images_nchw),
            "sha256": self.fingerprint,
            "note": self.note or None,
        }


def judge_by_data(
    graph: AnnGraph, spec: str | ArrayImages, samples: int | None, seed: int
) -> Judge:
    """Labelled images of `spec`, a specification of sim.datasets or the images themselves.

    Raises DataError where they are missing or do not fit the network.
    """
    from sim.datasets import class_name_note

    data = _images(graph, spec, samples, seed)
    return Judge(
        data.images_nchw,
        data.labels,
        run_ann(graph, data.images_nchw),
        data.name,
        graph.class_names or data.class_names,
        data.fingerprint,
        class_name_note(graph.class_names, data) or "",
    )


def fingerprint(graph: AnnGraph, spec: str | ArrayImages, samples: int | None, seed: int) -> str:
    """SHA-256 of the images and labels that judge_by_data takes."""
    return _images(graph, spec, samples, seed).fingerprint


def _images(graph: AnnGraph, spec: str | ArrayImages, samples: int | None, seed: int) -> Dataset:
    from sim.datasets import load_dataset

    return load_dataset(spec, graph.input_shape, samples, seed, classes=graph.classes)


def judge_by_synthetic(synthetic: SyntheticSet, reason: str) -> Judge:
    """The synthetic images that took no part in training; `reason` says why no real ones."""
    part = synthetic.validation
    logits_nk = synthetic.logits_nk[part]
    return Judge(synthetic.pixels(part), None, logits_nk, note=reason)
