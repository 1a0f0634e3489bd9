"""FID and KID between sets of images, in the features of a judge or of Inception.

torchmetrics does the arithmetic. FID is biased upwards for few images, the more the more
features there are; so every set of an audit has the same number of images, and the same number of
real images and of noise are the ends of the scale. KID has no such bias.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.ir.geometry import Array

SUBSETS = 50
MOST_IN_SUBSET = 200


@dataclass(frozen=True)
class SetDistance:
    """Distance of a set of images from the reference.

    fid: Frechet distance; kid: squared maximum mean discrepancy with the cubic kernel,
    mean over random subsets, and kid_std, its standard deviation over them.
    """

    fid: float
    kid: float
    kid_std: float


def set_distance(features_nf: Array, reference_mf: Array, seed: int) -> SetDistance:
    """Distance of features (N, F) from those of the reference (M, F); N, M >= 2."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    own, reference = (
        torch.from_numpy(np.asarray(x, np.float64)) for x in (features_nf, reference_mf)
    )
    size = min(MOST_IN_SUBSET, len(own), len(reference))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore", UserWarning)  # KID announces that it keeps the features
        torch.manual_seed(seed)
        frechet = FrechetInceptionDistance(_already(own.shape[1]))
        kernel = KernelInceptionDistance(_already(own.shape[1]), SUBSETS, size)
        for metric in (frechet, kernel):
            metric.update(reference, real=True)
            metric.update(own, real=False)
        mean, deviation = kernel.compute()
        return SetDistance(float(frechet.compute()), float(mean), float(deviation))


def _already(width: int) -> Any:
    """The feature network for what is a vector of features already."""
    from torch import nn

    module = nn.Identity()
    module.num_features = width  # type: ignore[assignment]
    return module
