"""What an audit made already, so that an interrupted one goes on: arrays with the key of their
inputs, as .safetensors below RUN_DIR/private/audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

import audit
import compiler
from audit.attacks import AttackImages
from compiler.ir.geometry import Array
from compiler.report import plain
from compiler.run_folder import key_of
from compiler.store import DAMAGE, load, save, write_bytes
from compiler.versions import tool_versions
from sim import datasets, reference

T = TypeVar("T")

_KEY = "about"
_KEY_LETTERS = 16
"""Of a key in a file's name."""


JUDGING = ("judges", "metrics", "privatesnn")
JUDGING_FILES = (
    "assess",
    "fields",
    "inputs",
    "leakage",
    "measure",
    "membership",
    "plan",
    "sheets",
    "show",
    "summary",
)
"""Parts of the audit that make no images for it: they look at images and answers, or are
programs of their own."""


MAKING = ("chip", "conversion", "ir", "quantization", "synthesis", "config.py")
"""Parts of the compile that attacks and subjects are made with."""

_SOURCES = (".py", ".cpp", ".hpp")


def code_key(program: str | None = None) -> str:
    """Hash of the versions and of the source that makes images: other code, other images.

    program: the package below `audit`, if any, that makes images of its own.
    """
    return key_of(tool_versions(), [path.read_text("utf-8") for path in sources(program)])


def sources(program: str | None = None) -> list[Path]:
    """Files of the program that decide what networks and images come out."""
    folder, others = Path(audit.__file__).parent, Path(compiler.__file__).parent
    apart = {*JUDGING} - {program}
    paths = [
        path
        for path in sorted(folder.rglob("*.py"))
        if path.relative_to(folder).parts[0] not in apart and path.stem not in JUDGING_FILES
    ]
    for part in MAKING:
        found = [others / part, *(others / part).rglob("*")]
        paths += sorted(path for path in found if path.suffix in _SOURCES)
    return paths + [Path(str(module.__file__)) for module in (reference, datasets)]


@dataclass(frozen=True)
class Cache:
    """Arrays by name; one counts only if it was stored under the same key."""

    folder: Path

    def arrays(
        self, name: str, key: str, make: Callable[[], tuple[dict[str, Array], dict[str, Any]]]
    ) -> tuple[dict[str, Array], dict[str, Any], bool]:
        """Arrays and plain facts of that name; made and stored first if need be.

        The last value says whether they were there already.
        """
        path = self.folder / f"{name}.safetensors"
        stored = _read(path, key)
        if stored is not None:
            return *stored, True
        arrays, facts = make()
        _write(path, key, arrays, facts)
        return arrays, facts, False

    def value(self, kind: type[T], name: str, key: str, make: Callable[[], T]) -> T:
        """A graph, or a tuple of what can be stored; made and stored first if need be."""
        path = self.folder / f"{name}-{key[:_KEY_LETTERS]}.safetensors"
        try:
            return load(kind, path)
        except (*DAMAGE, SafetensorError):  # none there, or half of one
            for other in self.folder.glob(f"{name}-*.safetensors"):
                other.unlink()
        made = make()
        save(made, path)
        return made

    def images(
        self, name: str, key: str, make: Callable[[], AttackImages]
    ) -> tuple[AttackImages, bool]:
        """An attack's images, and whether they were there already."""

        def fresh() -> tuple[dict[str, Array], dict[str, Any]]:
            made = checked(make())
            facts = {part.name: getattr(made, part.name) for part in fields(made)}
            arrays = {part: facts.pop(part) for part in ("images_nchw", "labels_n")}
            return arrays, plain(facts)

        arrays, facts, known = self.arrays(name, key, fresh)
        return AttackImages(**cast(dict[str, Any], {**arrays, **facts})), known


def checked(made: AttackImages) -> AttackImages:
    """The same images; ValueError unless they are images, for a metric would not notice."""
    images, labels = made.images_nchw, made.labels_n
    if images.ndim != 4 or len(images) != len(labels) or not len(images):
        raise ValueError(f"{made.attack}: images {images.shape} for labels {labels.shape}")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise ValueError(f"{made.attack}: pixels beyond 0 to 1")
    return made


def _read(path: Path, key: str) -> tuple[dict[str, Array], dict[str, Any]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()[_KEY])
            if about["key"] != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}, about["facts"]  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def _write(path: Path, key: str, arrays: dict[str, Array], facts: dict[str, Any]) -> None:
    about = json.dumps({"key": key, "facts": facts}, sort_keys=True)
    write_bytes(
        path, to_bytes({k: np.ascontiguousarray(v) for k, v in arrays.items()}, {_KEY: about})
    )
