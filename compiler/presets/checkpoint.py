"""The state of an ANN's training between two runs of its command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.errors import UsageError, one_problem
from compiler.ir.geometry import Array
from compiler.store import DAMAGE, read_state, write_state

if TYPE_CHECKING:
    from compiler.presets.settings import TrainingSettings


def training_key(
    settings: TrainingSettings,
    shapes: Mapping[str, tuple[int, ...]],
    held: Sequence[str],
    images: Array,
    labels: Array,
) -> str:
    """Return a hash of all that a training follows from: settings, network and images.

    shapes: of the network's tensors, by name; held: names of the parameters that are not trained;
    images: (N, C, H, W); labels: (N,).
    """
    network = [asdict(settings), shapes, sorted(held)]
    digest = hashlib.sha256(json.dumps(network, sort_keys=True).encode())
    for array in (images, labels):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_checkpoint(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write a state of the training whose `training_key` is `key`."""
    write_state(path, {"key": key, "state": dict(state)})


def read_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state that `write_checkpoint` wrote, or None where there is no file.

    Raises UsageError for a damaged file and for one of another training.
    """
    if not path.exists():
        return None
    try:
        content = read_state(path)
        found, state = content["key"], dict(content["state"])
    except DAMAGE as error:
        raise _not_usable(path, f"a damaged file ({type(error).__name__})") from error
    if found != key:
        raise _not_usable(path, "the state of a training with other settings, biases or images")
    return state


def _not_usable(path: Path, found: str) -> Exception:
    return one_problem(
        UsageError,
        "the training cannot go on from here",
        f"--checkpoint {path}",
        found,
        "the state of the very training that is asked for, or no file",
        "name another file, or remove this one to begin anew",
    )
