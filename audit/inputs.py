"""What an audit needs before it starts: a finished compile, both parts of the data, judges.

Everything that is missing is said at once, with a remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audit.judges.judge import Judge, find_judges
from compiler.errors import (
    CompilerError,
    DataError,
    EnvironmentProblem,
    ModelError,
    Problem,
    one_problem,
)
from compiler.files import read_object

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.geometry import Shape
    from sim.datasets import Dataset

FILES = (
    "model.net",
    "manifest.json",
    "report.json",
    "resources.json",
    *(
        f"private/{name}.safetensors"
        for name in ("ann", "matched", "synthetic", "converted", "encrypted", "chip")
    ),
)
"""Files of a finished compile that the audit, or the page with its results, reads."""

PRIVATE = Path("private") / "audit"
"""Where the images made by the attacks lie, inside RUN_DIR."""

LOCK_SECONDS = 1

MOST_SEEN = 0.5
"""Largest share of the test images that may be training images."""


@dataclass(frozen=True)
class FinishedRun:
    """A compile's folder: its report, the SHA-256 of its model.net and of all files read."""

    path: Path
    report: dict[str, Any]
    model_hash: str
    hashes: dict[str, str]

    @property
    def private(self) -> Path:
        """Folder of the audit's own private files; made when first asked for."""
        folder = self.path / PRIVATE
        folder.mkdir(exist_ok=True)
        return folder


@dataclass(frozen=True)
class AuditData:
    """Real images, and how the classes are called.

    test: images of the test part that the training part has not; training: the training part;
    test_part: the whole test part, which the judges were measured on.
    """

    spec: str
    test: Dataset
    training: Dataset
    test_part: Dataset
    class_names: tuple[str, ...]
    notes: tuple[str, ...]


def open_finished_run(path: Path) -> FinishedRun:
    """Read the folder of a finished compile.

    Raises ModelError listing every file that is missing, or where model.net is not the
    file that the compile wrote.
    """
    from compiler.run_folder import file_hash

    if not path.is_dir():
        raise one_problem(
            ModelError,
            "there is no compile to audit",
            str(path),
            "no such folder",
            "the folder that a compile wrote (--out)",
            "compile a network first: python -m compiler.export --out DIR",
        )
    problems = list(_missing_files(path))
    if not problems:
        read = (name for name in FILES if not name.endswith(".json"))
        hashes = {name: file_hash(path / name) for name in read}
        problems = list(_changed_files(path, hashes))
    if problems:
        raise ModelError("the compile cannot be audited", problems)
    report = _read_json(path / "report.json")
    return FinishedRun(path, report, hashes["model.net"], hashes)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, found: str) -> CompilerError:
    return one_problem(
        ModelError,
        "the compile cannot be audited",
        str(path),
        found,
        "the file that the compile wrote",
        "compile again into this folder: stages that are still whole are read again",
    )


def _missing_files(path: Path) -> Iterator[Problem]:
    if not (path / "private").is_dir():
        yield Problem(
            str(path / "private"),
            "no such folder",
            "the folder of the trained network and the synthetic images, beside model.net",
            "audit where the compile was made; model.net alone does not say what to compare with",
        )
        return
    for name in FILES:
        if not (path / name).is_file():
            yield Problem(
                str(path / name),
                "no such file",
                "every file of a finished compile",
                "let the compile finish: the same command goes on where it stopped",
            )


def _changed_files(path: Path, hashes: dict[str, str]) -> Iterator[Problem]:
    """Files whose bytes are not those that the manifest noted."""
    content = _read_json(path / "manifest.json")
    noted: dict[str, str] = {}
    try:
        for stage in content["stages"].values():
            noted |= stage["files"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path / "manifest.json", f"no stages with their files ({error!r})") from error
    for name, digest in hashes.items():
        if noted.get(name) != digest:
            yield Problem(
                str(path / name),
                f"SHA-256 {digest[:12]}..., where the compile wrote "
                f"{noted.get(name, 'nothing')[:12]}",
                "the file that the compile wrote",
                "compile again into this folder, or restore the file",
            )


@contextmanager
def locked(run: FinishedRun) -> Iterator[None]:
    """Keep compiles and other audits out of the folder; EnvironmentProblem if one is at work."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(run.path / "private" / "lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise one_problem(
            EnvironmentProblem,
            "the folder is in use",
            str(run.path),
            "a compile or an audit at work in it",
            "one at a time in a folder",
            "wait for it to end",
        ) from None


def load_parts(run: FinishedRun, ann: AnnGraph, spec: str | None) -> AuditData:
    """The test and the training part of the data that the ANN was made for.

    spec: as for --data; None for the data that the compile was evaluated on.
    Raises DataError where there is none, where it does not fit, or has no training part.
    """
    name = spec or (run.report.get("evaluation") or {}).get("data")
    if not name:
        raise one_problem(
            DataError,
            "an audit needs real images to compare with",
            "--data",
            "a compile that was not evaluated on data, and no --data",
            "a data set with a training and a test part",
            "name the data that the network was trained on: --data DATA",
        )
    return audit_data(name, ann)


def audit_data(spec: str, ann: AnnGraph) -> AuditData:
    """Both parts of the data `spec`, which the ANN was made for; DataError as load_parts."""
    from sim.datasets import class_name_note

    training, part = load_both(spec, ann.input_shape, ann.classes)
    test, note = unseen(part, training)
    notes = (class_name_note(ann.class_names, part), note)
    names = ann.class_names or part.class_names
    return AuditData(spec, test, training, part, names, tuple(note for note in notes if note))


def unseen(test: Dataset, training: Dataset) -> tuple[Dataset, str | None]:
    """The test images that are no training images, and a note where that is not all of them.

    Raises DataError where most test images are training images.
    """
    seen = test.within(training)
    if not seen.any():
        return test, None
    found = f"{int(seen.sum()):,} of {len(seen):,} test images are training images too"
    if seen.mean() > MOST_SEEN:
        raise one_problem(
            DataError,
            "the two parts of the data are not apart",
            test.name,
            found,
            f"at most {MOST_SEEN:.0%} of them, which are then left out",
            "name data with training images that the network saw and test images that it did not "
            "(npz: x_train and x_test; imagefolder: train/ and test/)",
        )
    return test.only(np.flatnonzero(~seen)), f"{found}; they were left out."


def load_both(
    spec: str, shape: Shape | None = None, classes: int | None = None
) -> tuple[Dataset, Dataset]:
    """Training and test part, the latter in the shape of the former unless `shape` is given."""
    from sim.datasets import load_dataset

    training = load_dataset(spec, shape, part="train", classes=classes)
    _, channels, height, width = training.images_nchw.shape
    known = classes or len(training.class_names)
    return training, load_dataset(spec, (channels, height, width), classes=known)


def load_judges_for(data: AuditData, ann: AnnGraph, folder: Path | None) -> tuple[Judge, ...]:
    """The judges of the data for the ANN's classes; see audit.judges.judge.find_judges."""
    return find_judges(data.test_part, folder, ann.classes)
