"""Comparing two ChipGraphs field by field."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from compiler.ir.chip import ChipGraph, ChipLayer


def differences(first: ChipGraph, second: ChipGraph) -> tuple[str, ...]:
    """What differs, in words, one entry a field; empty where the graphs say the same."""
    found = [
        f"{field.name}: {getattr(first, field.name)} and {getattr(second, field.name)}"
        for field in fields(ChipGraph)
        if field.name != "layers" and getattr(first, field.name) != getattr(second, field.name)
    ]
    if len(first.layers) != len(second.layers):
        return (*found, f"number of layers: {len(first.layers)} and {len(second.layers)}")
    for one, other in zip(first.layers, second.layers, strict=True):
        found += _layer_differences(one, other)
    return tuple(found)


def _layer_differences(one: ChipLayer, other: ChipLayer) -> list[str]:
    found = []
    for field in fields(ChipLayer):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            if not np.array_equal(left, right):
                found.append(f"{one.name}: {field.name} {_where(left, right)}")
        elif not (left is right or _same(left, right)):
            found.append(f"{one.name}: {field.name} {left} and {right}")
    return found


def _same(left: object, right: object) -> bool:
    """Equality of values of which at most one is an array."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return False
    return left == right


def _where(left: np.ndarray, right: np.ndarray) -> str:  # type: ignore[type-arg]
    if left.shape != right.shape:
        return f"of shape {left.shape} and {right.shape}"
    index = tuple(int(axis) for axis in np.argwhere(left != right)[0])
    return f"at {index}: {left[index]} and {right[index]}"
