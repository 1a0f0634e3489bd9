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
    images_nd: Array, members_md: Array, others_md: Array, seed: int
) -> dict[str, Any]:
    """Share of images whose nearest real image is a training image, among as many of either.

    members_md, others_md: training and test images; the larger set is cut by a random draw.
    chance: the 95 % of the shares that arise when the words training and test are dealt out at
    random over the same real images; p: how often such a deal gives this share or a larger one.
    """
    generator = np.random.default_rng(seed)
    size = min(len(members_md), len(others_md))
    drawn = [part[_draw(generator, len(part), size)] for part in (members_md, others_md)]
    index_n = nearest(images_nd, np.concatenate(drawn)).index_n
    near_n = index_n < size
    dealt = _dealt_shares(index_n, size, generator)
    low, high = np.quantile(dealt, (0.025, 0.975))
    share = float(near_n.mean())
    return {
        **mean_estimate(near_n, seed).as_dict(),
        "chance": {"low": float(low), "high": float(high)},
        "p": float((1 + np.sum(dealt >= share)) / (1 + len(dealt))),
        "images": len(index_n),
        "real_images_each": size,
    }


def _dealt_shares(index_n: Array, size: int, generator: np.random.Generator) -> Array:
    """Shares of `near` when half of the 2 * size places are called training at random."""
    places, counts = np.unique(index_n, return_counts=True)
    shares = np.empty(PERMUTATIONS)
    for i in range(PERMUTATIONS):
        called = generator.permutation(2 * size)[places] < size
        shares[i] = counts[called].sum() / len(index_n)
    return shares


def _draw(generator: np.random.Generator, count: int, size: int) -> Array:
    chosen: Array = np.sort(generator.permutation(count)[:size])
    return chosen


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32).reshape(len(array), -1)
