"""SyntheticSet: images made from the ANN alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.ir.geometry import Array


@dataclass(frozen=True)
class SyntheticSet:
    """Synthetic images with what the ANN says of them.

    images_nchw: uint8, pixel = value / 255; soft_targets_nk: float32 Dirichlet samples
    that the images were made for; logits_nk: float32, the ANN's own answer. The last
    `held_out` images take no part in training.
    """

    images_nchw: Array
    soft_targets_nk: Array
    logits_nk: Array
    held_out: int

    @property
    def training(self) -> slice:
        """Indices of the images for balancing and training."""
        return slice(0, len(self.images_nchw) - self.held_out)

    @property
    def validation(self) -> slice:
        """Indices of the held-out images."""
        return slice(len(self.images_nchw) - self.held_out, len(self.images_nchw))

    def pixels(self, part: slice) -> Array:
        """Images of a part as float32 in [0, 1]."""
        return self.images_nchw[part].astype(np.float32) / np.float32(255)
