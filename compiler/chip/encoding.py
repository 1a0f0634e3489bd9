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
    if encoding.code == "rate":
        return _rate(images_nchw, timesteps)
    if encoding.code == "poisson":
        return _poisson(images_nchw, timesteps, encoding.seed, first_index)
    return _latency(images_nchw, timesteps, encoding.x_min)


def _rate(images: Array, timesteps: int) -> Array:
    """k = round-half-even(x T); a spike at step t iff floor((t+1) k / T) > floor(t k / T)."""
    counts = np.rint(images * images.dtype.type(timesteps)).astype(np.int32)
    table = rate_table(timesteps)
    return np.ascontiguousarray(np.moveaxis(table[counts], -1, 0))


def rate_table(timesteps: int) -> Array:
    """uint8 (timesteps + 1, timesteps): the spike train of every count k = 0..T."""
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


def _latency(images: Array, timesteps: int, x_min: float) -> Array:
    """One spike at t = round-half-even((1 - x)(T - 1)) where x > x_min."""
    when = np.rint((1 - images.astype(np.float64)) * (timesteps - 1)).astype(np.int64)
    steps = np.arange(timesteps, dtype=np.int64).reshape(-1, 1, 1, 1, 1)
    spikes: Array = ((steps == when[None]) & (images > x_min)[None]).astype(np.uint8)
    return spikes
