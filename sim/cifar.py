"""CIFAR-10 and CIFAR-100 as published in binary: the archive, or the folder that it holds.

Layout and MD5 sums are those of https://www.cs.toronto.edu/~kriz/cifar.html. A record is
one label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100; the fine one is used), then
3,072 pixels: three planes, red, green and blue, of 32 rows. The versions for Python are
pickles and are never opened.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from compiler.errors import DataError, Problem
from compiler.ir.geometry import Array, frozen
from sim.data_readers import ArrayImages, Part

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_PICKLED = {"meta", "batches.meta", "data_batch_1"}  # names in the versions for Python
_UNREADABLE = (OSError, EOFError, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class CifarFormat:
    """One of the two sets: its files, and how many classes its label bytes tell apart.

    md5: of the published archive, in hexadecimal. label_limits: number of values of each
    label byte; the last one is the class. names_file: one class a line.
    """

    title: str
    archive: str
    md5: str
    folder: str
    files: Mapping[Part, tuple[str, ...]]
    label_limits: tuple[int, ...]
    names_file: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.label_limits[-1]

    @property
    def record(self) -> int:
        """Bytes an image."""
        return len(self.label_limits) + _PIXELS


CIFAR10 = CifarFormat(
    title="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    files={
        "test": ("test_batch.bin",),
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    },
    label_limits=(10,),
    names_file="batches.meta.txt",
)
CIFAR100 = CifarFormat(
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    files={"test": ("test.bin",), "train": ("train.bin",)},
    label_limits=(20, 100),
    names_file="fine_label_names.txt",
)


def read_cifar(path: Path, part: Part, form: CifarFormat) -> ArrayImages:
    """Read one part from the published .tar.gz, its folder, or the folder that holds this.

    Archives must have the published MD5 sum; folders may hold any number of records.
    Raises DataError with all that is missing or damaged.
    """
    wanted = (*form.files[part], form.names_file)
    problems: list[Problem] = []
    source = _from_folder if path.is_dir() else _from_archive
    contents = source(path, wanted, form, problems)
    named = contents.get(form.names_file)
    class_names = () if named is None else _class_names(path, named, form, problems)
    records = [
        _records(path / name, contents[name], form, problems)
        for name in form.files[part]
        if name in contents
    ]
    if problems:
        raise DataError(f"{form.title} cannot be read from {path}", problems)
    together = np.concatenate(records)
    labels = len(form.label_limits)
    return ArrayImages(
        images_nchw=together[:, labels:].reshape(-1, *SHAPE),
        labels_n=frozen(together[:, labels - 1], np.int64),
        class_names=class_names,
    )


def _from_folder(
    path: Path, wanted: tuple[str, ...], form: CifarFormat, problems: list[Problem]
) -> dict[str, bytes]:
    """Contents of the files wanted; what is missing is added to `problems`."""
    folder = path / form.folder if (path / form.folder).is_dir() else path
    present = {entry.name for entry in folder.iterdir()}
    return _contents(folder, wanted, present, lambda name: (folder / name).read_bytes(), problems)


def _from_archive(
    path: Path, wanted: tuple[str, ...], form: CifarFormat, problems: list[Problem]
) -> dict[str, bytes]:
    """As `_from_folder`; nothing is unpacked to the disk."""
    if not path.is_file():
        allowed = f"{form.archive}, or the folder {form.folder} that it holds"
        problems.append(Problem(str(path), "nothing there", allowed, "check the path given"))
        return {}
    try:
        _check_sum(path, form, problems)
        with tarfile.open(path) as archive:
            members = {PurePosixPath(one.name).name: one for one in archive if one.isfile()}

            def read(name: str) -> bytes:
                opened = archive.extractfile(members[name])
                return b"" if opened is None else opened.read()

            return _contents(path, wanted, set(members), read, problems)
    except _UNREADABLE as error:
        problems.append(_damaged(path, str(error), f"a complete {form.archive}"))
        return {}


def _check_sum(path: Path, form: CifarFormat, problems: list[Problem]) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    if digest.hexdigest() != form.md5:
        problems.append(
            Problem(
                str(path),
                f"a file with the MD5 sum {digest.hexdigest()}",
                f"{form.archive} as published, {form.md5}",
                "fetch it again; images of your own in this layout are read from a folder",
            )
        )


def _contents(
    path: Path,
    wanted: tuple[str, ...],
    present: set[str],
    read: Callable[[str], bytes],
    problems: list[Problem],
) -> dict[str, bytes]:
    missing = [name for name in wanted if name not in present]
    if missing and present & _PICKLED:
        found = "the version for Python, a pickle, which could run any code and is not opened"
        problems.append(Problem(str(path), found, "the binary version", "fetch the binary version"))
        return {}
    for name in missing:
        problems.append(_damaged(path / name, "nothing there", "all files of the binary version"))
    return {name: read(name) for name in wanted if name in present}


def _class_names(
    path: Path, content: bytes, form: CifarFormat, problems: list[Problem]
) -> tuple[str, ...]:
    names = tuple(content.decode("utf-8", "replace").split())
    if len(names) != form.classes or len(set(names)) != form.classes:
        found = f"{len(names)} names, {len(set(names))} of them different"
        allowed = f"{form.classes} different class names, one a line"
        problems.append(_damaged(path / form.names_file, found, allowed))
    return names


def _records(file: Path, content: bytes, form: CifarFormat, problems: list[Problem]) -> Array:
    """The records (n, bytes) of one file; labels out of range are added to `problems`."""
    whole, rest = divmod(len(content), form.record)
    if rest or not whole:
        allowed = f"one or more records of {form.record} bytes"
        problems.append(_damaged(file, f"{len(content):,} bytes", allowed))
    records = np.frombuffer(content, np.uint8, whole * form.record).reshape(whole, form.record)
    for place, limit in enumerate(form.label_limits):
        highest = int(records[:, place].max(initial=0))
        if highest >= limit:
            found = f"a label {highest} in byte {place} of a record"
            problems.append(_damaged(file, found, f"0 to {limit - 1}"))
    return records


def _damaged(path: Path, found: str, allowed: str) -> Problem:
    return Problem(str(path), found, allowed, "copy or unpack it again from the published archive")
