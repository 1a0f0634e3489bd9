"""Judges: networks that never saw a subject of the audit and say what its images show.

A judge is a .safetensors file made by `python -m audit.judges.train`. Those for the presets' data
are kept with the package, in a folder each; for other data they are trained into a folder of the
user's. A judge belongs to the data whose test part has the SHA-256 that its file names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.errors import DataError, Problem
from compiler.ir.geometry import Array, Shape, in_parts

if TYPE_CHECKING:
    from torch import nn

    from audit.judges.networks import JudgeNetwork
    from sim.datasets import Dataset

KEPT = Path(__file__).parent / "weights"
"""One folder a data set whose judges are kept with the package."""

FEWEST = 3
"""An audit with fewer judges would rest on the errors of one or two networks."""

ABOUT = "about"
"""Key of a file's metadata: JSON with judge, input_shape, classes, data, fingerprint, accuracy."""

BATCH = 500


@dataclass(frozen=True)
class Judge:
    """A trained network that knows the classes of the data.

    network: takes (N, C, H, W) in [0, 1]; fingerprint: of the test images that the accuracy
    was measured on, in any order; accuracy: share of them that it knew when it was made.
    """

    name: str
    network: JudgeNetwork
    input_shape: Shape
    classes: int
    data: str
    fingerprint: str
    accuracy: float

    def probabilities(self, images_nchw: Array) -> Array:
        """Softmax of the logits, float64 (N, K)."""
        logits = _batched(self.network, images_nchw).astype(np.float64)
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        shares: Array = shifted / shifted.sum(1, keepdims=True)
        return shares

    def features(self, images_nchw: Array) -> Array:
        """What the last layer reads, float32 (N, F)."""
        return _batched(self.network.features, images_nchw)


def find_judges(
    data: Dataset, folder: Path | None = None, classes: int | None = None
) -> tuple[Judge, ...]:
    """The judges for `data` (its test part), from `folder` or from those kept with the package.

    classes: that they must know [those of the data]. Raises DataError where there are fewer than
    FEWEST, where one is there twice, or where they are for other data or other classes.
    """
    if folder is not None:
        judges = load_judges(folder)
        _check(judges, data, folder, classes)
        return judges
    fingerprint = data.fingerprint_of_set
    for kept in sorted(path for path in KEPT.iterdir() if path.is_dir()):
        judges = load_judges(kept)
        if judges[0].fingerprint == fingerprint:
            _check(judges, data, kept, classes)
            return judges
    known = ", ".join(sorted(path.name for path in KEPT.iterdir() if path.is_dir()))
    raise DataError(
        "there are no judges for these images",
        [
            Problem(
                data.name,
                "a test part that no judge kept with this package was made for",
                f"the test part of {known}, or judges of your own",
                how_to_train(data.name),
            )
        ],
    )


def how_to_train(data: str) -> str:
    """What to type to get judges for a data set."""
    return f"python -m audit.judges.train {data} --out DIR, then give the audit --judges DIR"


def load_judges(folder: Path) -> tuple[Judge, ...]:
    """Every judge in a folder, by name. Raises DataError for files that are none."""
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        raise DataError(
            "no judges found",
            [
                Problem(
                    str(folder),
                    "no .safetensors file",
                    f"a folder with at least {FEWEST} judges",
                    how_to_train("DATA"),
                )
            ],
        )
    return tuple(_load(file) for file in files)


def _load(file: Path) -> Judge:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from audit.judges.networks import ARCHITECTURES

    try:
        about = _metadata(file)
        shape = tuple(int(size) for size in about["input_shape"].split(","))
        classes = int(about["classes"])
        network = ARCHITECTURES[about["judge"]](shape, classes)  # type: ignore[arg-type]
        tensors = load(file.read_bytes())
        network.load_state_dict(
            {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
        )
        known = {key: about[key] for key in ("data", "fingerprint")}
        accuracy = float(about["accuracy"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = Problem(
            str(file), found, "a file written by audit.judges.train", how_to_train("DATA")
        )
        raise DataError("a judge cannot be read", [problem]) from error
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    if not all(bool(torch.isfinite(part).all()) for part in network.parameters()):
        problem = Problem(str(file), "weights that are not finite", "numbers", "train it again")
        raise DataError("a judge cannot be used", [problem])
    return Judge(
        about["judge"], network.eval(), shape, classes, accuracy=accuracy, **known  # type: ignore[arg-type]
    )  # fmt: skip


def _metadata(file: Path) -> Mapping[str, str]:
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        about: dict[str, str] = json.loads((opened.metadata() or {})[ABOUT])
    return about


def _check(judges: tuple[Judge, ...], data: Dataset, folder: Path, classes: int | None) -> None:
    expected, fingerprint = classes or len(data.class_names), data.fingerprint_of_set
    names = [judge.name for judge in judges]
    problems = [
        Problem(
            str(folder),
            f"{names.count(name)} files of judge {name}",
            "one file a judge: copies would be counted as others",
            "remove all but one",
        )
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    if len(judges) < FEWEST:
        problems.append(
            Problem(
                str(folder), f"{len(judges)} judges", f"at least {FEWEST}", how_to_train(data.name)
            )
        )
    for judge in judges:
        if judge.fingerprint != fingerprint:
            problems.append(
                Problem(
                    f"judge {judge.name}",
                    f"made for the test part {judge.fingerprint[:12]}... of {judge.data}",
                    f"made for the test part {fingerprint[:12]}... of {data.name}",
                    "name the data that the judges were trained for, or train them for this data",
                )
            )
        if judge.classes != expected:
            problems.append(
                Problem(
                    f"judge {judge.name}",
                    f"{judge.classes} classes",
                    f"the {expected} classes of the network under audit",
                    "name the data that the network was trained for, with all of its classes",
                )
            )
    if problems:
        raise DataError("the judges do not fit", problems)


def _batched(module: nn.Module, images_nchw: Array) -> Array:
    import torch

    parts: list[Any] = []
    with torch.inference_mode():
        for _, some in in_parts(images_nchw, BATCH):
            parts.append(module(torch.tensor(some, dtype=torch.float32)))
        joined: Array = torch.cat(parts).numpy()
    return joined
