"""How near images come to real ones: nearest neighbours in pixels and in a judge's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.metrics.intervals import mean_estimate
from compiler.ir.geometry import Array

_CHUNK = 256
COPY_QUANTILE = 0.01
PERMUTATIONS = 1000


@dataclass(frozen=True)
class Neighbours:
    """For each of N queries its nearest point: Euclidean distance and place in the reference."""

    distance_n: Array
    index_n: Array


def nearest(queries_nd: Array, reference_md: Array) -> Neighbours:
    """Nearest reference point of every query; further axes are flattened.

    The search multiplies matrices, which loses digits near 0; the distance of the point found is
    then computed from the difference itself.
    """
    import torch

    queries = torch.tensor(_flat(queries_nd))
    reference = torch.tensor(_flat(reference_md))
    squares = reference.square().sum(1)
    found = [(squares - 2 * part @ reference.T).argmin(1) for part in torch.split(queries, _CHUNK)]
    index = torch.cat(found)
    distance = (queries.double() - reference[index].double()).square().sum(1).sqrt()
    return Neighbours(distance.numpy(), index.numpy())


def compare_distances(own_n: Array, real_n: Array, seed: int) -> dict[str, Any]:
    """Distances to the nearest training image: an attack's images against test images.

    median, real_median: of both; nearer_than_real: share of the images that come nearer to
    a training image than half of the test images do (test images themselves: 0.5);
    copies: share that come nearer than all but 1 % of the test images do (0.01).
    """
    return {
        "median": float(np.median(own_n)),
        "real_median": float(np.median(real_n)),
        "nearer_than_real": mean_estimate(own_n < np.median(real_n), seed).as_dict(),
        "copies": mean_estimate(own_n < np.quantile(real_n, COPY_QUANTILE), seed).as_dict(),
    }


def class_of_nearest(
    index_n: Array, classes_m: Array, labels_n: Array, seed: int
) -> dict[str, Any]:
    """Share of images whose nearest training image is of the class they were made for.

    A judge without weights: it knows training images alone, and likes no image that merely
    excites a network.
    """
    return mean_estimate(classes_m[index_n] == labels_n, seed).as_dict()


def nearer_to_members(
    images_nd: Array, members_md: Array, others_md: Array, labels_m: Array, seed: int
) -> dict[str, Any]:
    """Share of images whose nearest real image is a training image, among as many of either.

    members_md, others_md: training and test images; labels_m: the classes of both, the same in
    either, so that no image is near one part for its class alone.
    chance: the 95 % of the shares that arise when the words training and test are dealt out at
    random within each class; p: how often such a deal gives this share or a larger one.
    """
    generator = np.random.default_rng(seed)
    size = len(labels_m)
    index_n = nearest(images_nd, np.concatenate([members_md, others_md])).index_n
    near_n = index_n < size
    dealt = _dealt_shares(index_n, labels_m, generator)
    low, high = np.quantile(dealt, (0.025, 0.975))
    share = float(near_n.mean())
    return {
        **mean_estimate(near_n, seed).as_dict(),
        "chance": {"low": float(low), "high": float(high)},
        "p": float((1 + np.sum(dealt >= share)) / (1 + len(dealt))),
        "images": len(index_n),
        "real_images_each": size,
    }


def _dealt_shares(index_n: Array, labels_m: Array, generator: np.random.Generator) -> Array:
    """Shares of `near` when half of each class's places is called training at random."""
    places, counts = np.unique(index_n, return_counts=True)
    both = np.concatenate([labels_m, labels_m])
    blocks = [np.flatnonzero(both == label) for label in np.unique(labels_m)]
    deals = [np.arange(len(block)) < len(block) // 2 for block in blocks]
    called = np.empty(len(both), bool)
    shares = np.empty(PERMUTATIONS)
    for i in range(PERMUTATIONS):
        for block, deal in zip(blocks, deals, strict=True):
            called[block] = generator.permutation(deal)
        shares[i] = counts[called[places]].sum() / len(index_n)
    return shares


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32).reshape(len(array), -1)
