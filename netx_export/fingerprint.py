"""A hash over what a group of an HDF5 file says, not over how the library laid it out."""

from __future__ import annotations

import hashlib

import h5py
import numpy as np

from compiler.ir.geometry import Array


def hash_group(group: h5py.Group) -> str:
    """SHA-256 in hex over every dataset's name, element type, shape and bytes, names sorted.

    Numbers count in little-endian order; text counts as its bytes.
    """
    digest = hashlib.sha256()
    for name, dataset in sorted(_datasets(group).items()):
        content, kind = _canonical(dataset)
        digest.update(f"{name}\n{kind}\n{dataset.shape}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _datasets(group: h5py.Group) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    group.visititems(visit)
    return found


def _canonical(dataset: h5py.Dataset) -> tuple[bytes, str]:
    """The bytes of a dataset and the name of its element type, the same on every machine."""
    value: Array = np.asarray(dataset[()])
    if value.dtype == object:
        parts = [item if isinstance(item, bytes) else str(item).encode() for item in value.flat]
        return b"".join(len(part).to_bytes(8, "little") + part for part in parts), "text"
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(little).tobytes(), little.dtype.str.replace("=", "<")
