"""Files of a compile, none of which is ever unpickled.

Graphs and synthetic sets are .safetensors, arrays beside a JSON description; the states of
trainings are read as tensors alone.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from compiler import ir
from compiler.files import written_whole
from compiler.ir.geometry import frozen
from compiler.ir.synthetic import SyntheticSet

T = TypeVar("T")

_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        ir.AnnGraph,
        ir.AvgPool2d,
        ir.BatchNorm,
        ir.ChipGraph,
        ir.ChipInput,
        ir.ChipLayer,
        ir.Conv2d,
        ir.ConvGeometry,
        ir.CubaFields,
        ir.Dense,
        ir.Encoding,
        ir.Flatten,
        ir.InputAffine,
        ir.Relu,
        ir.SnnGraph,
        ir.SnnLayer,
        SyntheticSet,
    )
}
_DESCRIPTION = "description"

KEEP_SECONDS = 300.0
"""A training's state is written at least so often: an epoch of a large network takes hours."""

DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""What reading and taking apart a file raises that is not, or not wholly, a state."""


def save(value: Any, path: Path) -> None:
    """Write a graph or a synthetic set; under a temporary name first, then renamed."""
    write_bytes(path, content_of(value))


def content_of(value: Any) -> bytes:
    """What `save` writes: the same bytes for the same graph or synthetic set."""
    from safetensors.numpy import save as to_bytes

    arrays: dict[str, Any] = {}
    description = _describe(value, arrays)
    content: bytes = to_bytes(
        arrays, metadata={_DESCRIPTION: json.dumps(description, sort_keys=True)}
    )
    return content


def load(kind: type[T], path: Path) -> T:
    """Read what `save` wrote; raises TypeError if it is of another kind."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()[_DESCRIPTION])
        value = _build(description, file)
    if not isinstance(value, kind):
        raise TypeError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name beside it, then rename it."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, keys in their order, under a temporary name first."""
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, texts, lists and dictionaries, under a temporary name first."""
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_bytes(path, buffer.getvalue())


def read_state(path: Path) -> Any:
    """What `write_state` wrote, on the CPU; raises one of DAMAGE for another file."""
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _describe(value: Any, arrays: dict[str, Any]) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value).__name__
        if kind not in _TYPES:
            raise TypeError(f"{kind} cannot be stored")
        content = {
            entry.name: _describe(getattr(value, entry.name), arrays) for entry in fields(value)
        }
        return {"kind": kind, "fields": content}
    if isinstance(value, np.ndarray):
        key = f"array{len(arrays):05d}"
        arrays[key] = np.ascontiguousarray(value)
        return {"kind": "array", "key": key}
    if isinstance(value, tuple):
        return {"kind": "tuple", "items": [_describe(item, arrays) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _build(description: Any, file: Any) -> Any:
    if not isinstance(description, dict):
        return description
    kind = description["kind"]
    if kind == "array":
        array = file.get_tensor(description["key"])
        return frozen(array, array.dtype)
    if kind == "tuple":
        return tuple(_build(item, file) for item in description["items"])
    content = {name: _build(item, file) for name, item in description["fields"].items()}
    return _TYPES[kind](**content)
