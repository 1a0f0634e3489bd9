"""One set of images judged: recognition, distances between sets, the nearest training images.

Every set is measured against the same real images, which are prepared once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audit.inputs import AuditData
from audit.judges.judge import Judge
from audit.metrics.distances import set_distance
from audit.metrics.nearest import class_of_nearest, compare_distances, nearest
from audit.metrics.recognition import Recognition, recognise
from compiler.ir.geometry import Array
from sim.datasets import Dataset, choose_evenly

REFERENCE_IMAGES = 10_000
"""Training images, at most, that FID and KID compare with."""

REAL_QUERIES = 2_000
"""Test images, at most, whose distance to the nearest training image is the scale."""

Features = Callable[[Array], Array]


@dataclass(frozen=True)
class Space:
    """A space to measure distances in: pixels, or a judge's features.

    training_mf, classes_m: the training images in it and their classes; real_n: the distance
    of test images to the nearest of them.
    """

    name: str
    features: Features
    training_mf: Array
    classes_m: Array
    real_n: Array


@dataclass(frozen=True)
class Assessor:
    """Judges and real images, ready to measure a set of images.

    judges[0] is the one whose features FID, KID and the second space of distances use;
    set_size: images of each set that FID and KID take; frechet: name of a feature network
    -> (features, those of the reference).
    """

    judges: tuple[Judge, ...]
    class_names: tuple[str, ...]
    spaces: tuple[Space, ...]
    frechet: dict[str, tuple[Features, Array]]
    set_size: int
    seed: int

    def judged(self, images_nchw: Array, labels_n: Array) -> Recognition:
        """What the judges say of the images."""
        return recognise(self.judges, images_nchw, labels_n)

    def fields(self, images_nchw: Array, labels_n: Array, judged: Recognition) -> dict[str, Any]:
        """The entry of a set of images in audit.json: what judges say, distances, neighbours."""
        return {
            **judged.as_dict(self.class_names, self.seed),
            **self.distances(images_nchw, labels_n),
            "nearest": self.nearest(images_nchw, labels_n),
        }

    def distances(self, images_nchw: Array, labels_n: Array) -> dict[str, Any]:
        """fid, kid, kid_std in a judge's features, and under `inception` where it is there."""
        count = min(self.set_size, len(labels_n))
        images = images_nchw[choose_evenly(labels_n, count, self.seed)]
        rows = {
            name: asdict(set_distance(features(images), reference, self.seed))
            for name, (features, reference) in self.frechet.items()
        }
        return {**rows.pop(JUDGE), **rows, "fid_images": count}

    def nearest(self, images_nchw: Array, labels_n: Array) -> dict[str, Any]:
        """Distances to the nearest training image beside those of test images, by space."""
        rows = {}
        for space in self.spaces:
            found = nearest(space.features(images_nchw), space.training_mf)
            rows[space.name] = {
                **compare_distances(found.distance_n, space.real_n, self.seed),
                "same_class": class_of_nearest(found.index_n, space.classes_m, labels_n, self.seed),
            }
        return rows


JUDGE, INCEPTION = "judge", "inception"


def make_assessor(
    data: AuditData,
    judges: Sequence[Judge],
    set_size: int,
    seed: int,
    inception: Features | None = None,
) -> Assessor:
    """Prepare the real images; `set_size` is what an attack makes of images in all."""
    feature_judge = judges[0]
    queries = _some(data.test.images_nchw, data.test.labels, REAL_QUERIES, seed)
    training = data.training.images_nchw
    kept = choose_evenly(data.training.labels, min(REFERENCE_IMAGES, len(training)), seed)
    networks = {JUDGE: feature_judge.features} | ({INCEPTION: inception} if inception else {})
    return Assessor(
        judges=tuple(judges),
        class_names=data.class_names,
        spaces=tuple(
            _space(name, features, data.training, queries)
            for name, features in (("pixels", _pixels), ("features", feature_judge.features))
        ),
        frechet={name: (network, network(training[kept])) for name, network in networks.items()},
        set_size=min(set_size, len(data.test)),
        seed=seed,
    )


def _pixels(images_nchw: Array) -> Array:
    return images_nchw.reshape(len(images_nchw), -1)


def _space(name: str, features: Features, training: Dataset, queries: Array) -> Space:
    reference = features(training.images_nchw)
    real = nearest(features(queries), reference).distance_n
    return Space(name, features, reference, training.labels, real)


def _some(images: Array, labels: Array, most: int, seed: int) -> Array:
    chosen: Array = images[choose_evenly(labels, min(most, len(labels)), seed)]
    return chosen


def noise_images(
    shape: tuple[int, ...], count: int, classes: int, seed: int
) -> tuple[Array, Array]:
    """Uniform noise in [0, 1], dealt to the classes in turn: the bottom of every scale."""
    generator = np.random.default_rng([seed, 1])
    images = generator.random((count, *shape), np.float32)
    return images, np.arange(count) % classes


def real_images(data: AuditData, count: int, seed: int) -> tuple[Array, Array]:
    """Test images, evenly over the classes: the top of every scale."""
    chosen = choose_evenly(data.test.labels, min(count, len(data.test)), seed)
    return data.test.images_nchw[chosen], data.test.labels[chosen]
