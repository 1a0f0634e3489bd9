"""Answers over the evaluation images, kept until the evaluation has finished.

A large network takes hours for them; an evaluation that was interrupted, or whose run in Lava
failed, goes on with what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compiler.files import read_object
from compiler.ir.geometry import Array
from compiler.store import write_json


class KeptAnswers:
    """Answers (N,) of each network by name, in a file that counts for one key alone."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self._found = _read(path, key)

    def answers(self, name: str, make: Callable[[], Array]) -> Array:
        """Those of `name`, made and kept first if need be."""
        if name not in self._found:
            self._found[name] = [int(answer) for answer in make()]
            write_json(self.path, {"key": self.key, "answers": self._found})
        return np.array(self._found[name], np.int64)


def _read(path: Path, key: str) -> dict[str, Any]:
    """What is there, nothing where that is damaged or of another key."""
    try:
        content = read_object(path)
        return dict(content["answers"]) if content["key"] == key else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
