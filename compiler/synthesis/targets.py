"""Soft targets from the similarity of the last layer's rows.

Zero-shot knowledge distillation (Nayak et al., ICML 2019), as PrivateSNN uses it.
"""

from __future__ import annotations

import numpy as np

from compiler.ir.geometry import Array

_CONCENTRATION_FLOOR = 1e-4
"""Keeps every concentration above 0, as ZSKD's own code does."""


def class_similarity(last_weight: Array) -> Array:
    """Cosine similarity of the rows of (classes, features), each row scaled to [0, 1]."""
    norms = np.linalg.norm(last_weight, axis=1, keepdims=True)
    unit = last_weight.astype(np.float64) / np.maximum(norms, 1e-12)
    similarity = unit @ unit.T
    low = similarity.min(1, keepdims=True)
    spread = similarity.max(1, keepdims=True) - low
    scaled: Array = (similarity - low) / np.maximum(spread, 1e-12)
    return scaled


def dirichlet_targets(
    similarity: Array, count: int, concentrations: tuple[float, ...], rng: np.random.Generator
) -> Array:
    """Float32 (count, classes) samples; classes and concentrations take turns evenly."""
    targets = np.empty((count, len(similarity)), np.float32)
    for index in range(count):
        scale = concentrations[index % len(concentrations)]
        row = similarity[(index // len(concentrations)) % len(similarity)]
        targets[index] = rng.dirichlet(scale * row + _CONCENTRATION_FLOOR)
    return targets
