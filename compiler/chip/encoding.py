"""Images in [0, 1] to spikes, by formulas that anyone can repeat with integers."""

from __future__ import annotations

import numpy as np

from compiler.ir.geometry import Array
from compiler.ir.snn import Encoding


def encode(images_nchw: Array, timesteps: int, encoding: Encoding, first_index: int = 0) -> Array:
    """Encode images as binary spikes.

    images_nchw: float in [0, 1]. `first_index` is the index of the first image in its data
    set; `poisson` draws its numbers from it. Returns uint8 spikes_tnchw, values 0 and 1.
    """
    if encoding.code == "poisson":
        return _poisson(images_nchw, timesteps, encoding.seed, first_index)
    codes, table = train_codes(images_nchw, timesteps, encoding)
    return np.ascontiguousarray(np.moveaxis(table[codes], -1, 0))


def train_codes(images_nchw: Array, timesteps: int, encoding: Encoding) -> tuple[Array, Array]:
    """Which of a few spike trains each pixel sends, for the codes that have only a few.

    images_nchw: float in [0, 1]. Returns uint16 codes_nchw and uint8 (codes, timesteps), the
    train of every code. Raises ValueError for `poisson`, whose trains all differ.
    """
    if encoding.code == "rate":
        counts = np.rint(images_nchw * images_nchw.dtype.type(timesteps))
        return counts.astype(np.uint16), rate_table(timesteps)
    if encoding.code == "latency":
        return _latency(images_nchw, timesteps, encoding.x_min)
    raise ValueError(f"the trains of the {encoding.code} code cannot be listed")


def rate_table(timesteps: int) -> Array:
    """uint8 (timesteps + 1, timesteps): the spike train of every count k = 0..T.

    k = round-half-even(x T); a spike at step t iff floor((t+1) k / T) > floor(t k / T).
    """
    k = np.arange(timesteps + 1, dtype=np.int64)[:, None]
    t = np.arange(timesteps, dtype=np.int64)[None, :]
    return ((t + 1) * k // timesteps > t * k // timesteps).astype(np.uint8)


def _poisson(images: Array, timesteps: int, seed: int, first_index: int) -> Array:
    """A spike iff u < x, u from Philox with key (seed, sample index), drawn in t, C, H, W order."""
    spikes = np.empty((timesteps, *images.shape), np.uint8)
    for offset, image in enumerate(images):
        key = np.array([seed, first_index + offset], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        spikes[:, offset] = generator.random((timesteps, *image.shape)) < image
    return spikes


def _latency(images: Array, timesteps: int, x_min: float) -> tuple[Array, Array]:
    """One spike at t = round-half-even((1 - x)(T - 1)) where x > x_min; code T is silence."""
    when = np.rint((1 - images.astype(np.float64)) * (timesteps - 1)).astype(np.uint16)
    table = np.eye(timesteps + 1, timesteps, dtype=np.uint8)
    return np.where(images > x_min, when, np.uint16(timesteps)), table
