"""Reading single values out of an HDF5 group without stopping at the first bad one."""

from __future__ import annotations

from dataclasses import dataclass, field

import h5py
import numpy as np

from compiler.errors import Problem
from compiler.ir.geometry import Array, Pair

MAX_ELEMENTS = 1 << 28
"""Larger datasets are refused before they are read: no network for this chip needs them."""

_READ_ERRORS = (OSError, RuntimeError, ValueError, TypeError, UnicodeDecodeError)


@dataclass
class Entry:
    """One layer's group. What cannot be read goes to `problems`, what Lava ignores or alters
    to `oddities`; a reading that failed is None.
    """

    name: str
    group: h5py.Group
    problems: list[Problem] = field(default_factory=list)
    oddities: list[Problem] = field(default_factory=list)

    def __contains__(self, key: str) -> bool:
        return key in self.group

    def problem(self, found: str, allowed: str, remedy: str) -> None:
        """Note something that makes the layer unreadable."""
        self.problems.append(Problem(self.name, found, allowed, remedy))

    def oddity(self, found: str, allowed: str, remedy: str) -> None:
        """Note something that can be read but not kept on the chip."""
        self.oddities.append(Problem(self.name, found, allowed, remedy))

    def raw(self, key: str) -> Array | None:
        """The value of a dataset, as it is."""
        if key not in self.group:
            self.problem(f"no entry {key!r}", "an entry of that name", "write the file again")
            return None
        dataset = self.group[key]
        if not isinstance(dataset, h5py.Dataset) or dataset.size is None:
            self.problem(f"{key!r} holds no values", "a dataset", "write the file again")
            return None
        if dataset.size > MAX_ELEMENTS:
            self.problem(f"{key!r} has {dataset.size} values", f"{MAX_ELEMENTS}", "split the layer")
            return None
        try:
            return np.asarray(dataset[()])
        except _READ_ERRORS as error:
            self.problem(f"{key!r} cannot be read ({error})", "readable data", "get the file anew")
            return None

    def text(self, key: str) -> str | None:
        """Text, stored as one string or as an array of one."""
        value = self.raw(key)
        if value is None:
            return None
        first = value.reshape(-1)[0] if value.size else b""
        try:
            text = first.decode("ascii") if isinstance(first, bytes) else str(first)
        except UnicodeDecodeError:
            text = ""
        if not text or value.dtype.kind not in "SO":
            self.problem(f"{key!r} is no text", "ASCII text", "write the file again")
            return None
        return text

    def integers(self, key: str) -> Array | None:
        """Whole numbers as int32; fractions are cut off, as lava-dl does, and noted."""
        value = self.raw(key)
        if value is None:
            return None
        if value.dtype.kind not in "iufb" or not value.size:
            self.problem(f"{key!r} holds no numbers", "numbers", "write the file again")
            return None
        if not np.all(np.isfinite(value)) or value.max() >= 1 << 31 or value.min() < -(1 << 31):
            self.problem(f"{key!r} goes beyond 32 bits", "integers", "write the file again")
            return None
        whole: Array = value.astype(np.int64)
        if np.any(whole != value):
            self.oddity(f"fractions in {key!r}", "integers", "they are cut off, as lava-dl does")
        return whole.astype(np.int32)

    def integer(self, key: str, default: int | None = None) -> int | None:
        """One whole number, stored as a scalar or as equal values a channel."""
        if default is not None and key not in self.group:
            return default
        values = self.integers(key)
        if values is None:
            return None
        if np.any(values != values.flat[0]):
            self.problem(
                f"{key!r} differs from channel to channel", "one value a layer", "share it"
            )
            return None
        return int(values.flat[0])

    def pair(self, key: str) -> Pair | None:
        """(height, width), stored as two numbers or as one for both."""
        values = self.integers(key)
        if values is None:
            return None
        if values.ndim > 1 or values.size not in (1, 2) or values.min() < 0:
            self.problem(f"{key!r} = {values.tolist()}", "one or two numbers", "correct it")
            return None
        flat = [int(value) for value in values.reshape(-1)]
        return (flat[0], flat[-1])
