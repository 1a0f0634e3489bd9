"""Images that bring out mistakes when two forms of one network are compared."""

from __future__ import annotations

import numpy as np

from compiler.ir.geometry import Array, Shape


def probe_images(shape: Shape, seed: int = 0) -> Array:
    """Return images (n, C, H, W) in [0, 1] that bring out mistakes, at borders above all."""
    generator = np.random.default_rng(seed)
    random = generator.random((4, *shape))
    sparse = (generator.random((2, *shape)) < 0.1).astype(float)
    frame = np.ones((1, *shape))
    frame[:, :, 1:-1, 1:-1] = 0
    corners = np.zeros((4, *shape))
    for place, (row, column) in enumerate(((0, 0), (0, -1), (-1, 0), (-1, -1))):
        corners[place, :, row, column] = 1
    plain = [np.zeros((1, *shape)), np.ones((1, *shape))]
    return np.concatenate([random, sparse, frame, 1 - frame, corners, random[:1] * frame, *plain])
