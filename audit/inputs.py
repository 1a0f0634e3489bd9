"""What an audit needs beside a finished compile: both parts of the data, and judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from audit.judges.judge import Judge, find_judges
from compiler.errors import DataError, one_problem
from compiler.finished_run import FinishedRun

if TYPE_CHECKING:
    from compiler.ir.ann import AnnGraph
    from compiler.ir.geometry import Shape
    from sim.datasets import Dataset

PRIVATE = Path("private") / "audit"
"""Where the images made by the attacks lie, inside RUN_DIR."""


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
    from sim.overlap import unseen

    training, part = load_both(spec, ann.input_shape, ann.classes)
    test, note = unseen(part, training)
    notes = (class_name_note(ann.class_names, part), note)
    names = ann.class_names or part.class_names
    return AuditData(spec, test, training, part, names, tuple(note for note in notes if note))


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
