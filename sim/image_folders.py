"""Images in one folder a class, read in place from a folder or a zip archive."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from compiler.errors import DataError, Problem, one_problem
from compiler.ir.geometry import Array, frozen
from sim.data_readers import Part

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PARTS: dict[Part, tuple[str, ...]] = {
    "test": ("test", "val", "valid", "validation"),
    "train": ("train", "training"),
}
PART_FOLDERS = frozenset(name for names in PARTS.values() for name in names)
MAX_PROBLEMS = 10
# zipfile raises RuntimeError for encrypted entries, Pillow SyntaxError for some broken PNGs.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,
    zlib.error,
    zipfile.BadZipFile,
)


class Opener(Protocol):
    """Reads the file called `name`."""

    def __call__(self, name: str) -> bytes:
        """Return the content."""


@dataclass(frozen=True)
class FolderImages:
    """Image files below `root`, opened when read; names are in order of class, then file.

    mode: Pillow's name of the mode that all are converted to; None for what each file holds.
    """

    root: Path
    names: tuple[str, ...]
    labels_n: Array
    class_names: tuple[str, ...]
    mode: str | None = None

    def read(self, index_n: Array) -> Array:
        """Return the images (n, C, H, W) at these places, float32 in [0, 1].

        Raises DataError listing files that are damaged or of another size than the first.
        """
        names = [self.names[int(index)] for index in index_n]
        with opened(self.root) as read_bytes:
            return _decode_all(self.root, names, read_bytes, self.mode)


def read_image_folder(root: Path, part: Part) -> FolderImages:
    """Find the images of one part below a folder or in a .zip.

    Both PART/CLASS/IMAGE and CLASS/IMAGE are understood; the first is preferred. Classes
    are numbered over all parts, in the order of their names, with those that the training
    part lacks at the end. The parts are those below `root`, or beside it where `root` is
    itself the folder of one. Raises DataError where there is no image.
    """
    if not root.exists():
        raise one_problem(
            DataError,
            "no such data",
            str(root),
            "nothing there",
            "a folder or .zip with one folder a class",
            "check the path given",
        )
    everything = image_names(root)
    names = _of_part(everything, part)
    if not names:
        raise one_problem(
            DataError,
            "no images found",
            str(root),
            "no PNG, JPEG or WebP in a folder a class",
            f"{part}/CLASS/IMAGE or CLASS/IMAGE",
            "arrange the images so",
        )
    classes = _classes(root, everything)
    ordered = sorted(names, key=lambda name: (_class(name), name))
    number = {name: index for index, name in enumerate(classes)}
    labels = [number[_class(name)] for name in ordered]
    return FolderImages(root, tuple(ordered), frozen(labels, np.int64), tuple(classes))


def image_names(root: Path) -> list[str]:
    """Return the images below a folder or in a .zip, hidden ones left out, in no order."""
    if root.is_dir():
        files = (path for path in root.rglob("*") if path.is_file())
        names = [path.relative_to(root).as_posix() for path in files]
    else:
        with _archive(root) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    return [name for name in names if _is_image(name)]


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and len(path.parts) >= 2 and not hidden


def _of_part(names: Sequence[str], part: Part) -> list[str]:
    """Keep the images below a folder named like the part; all, if no part has a folder."""
    for wanted in PARTS[part]:
        below = [name for name in names if _part_folder(name) == wanted]
        if below:
            return below
    return [] if any(map(_part_folder, names)) else list(names)


def _part_folder(name: str) -> str:
    """The folder above the class's, where it is named like a part; else empty."""
    above = PurePosixPath(name).parent.parent.name
    return above if above in PART_FOLDERS else ""


def _class(name: str) -> str:
    return PurePosixPath(name).parent.name


def _classes(root: Path, names: Sequence[str]) -> list[str]:
    """The classes of all parts by their names, those of the training part before others."""
    below = {(_part_folder(name), _class(name)) for name in names}
    found = {(folder, name) for folder, name in below if folder}
    if not found:
        here = root.absolute()
        found = {(here.name, name) for _, name in below} | _classes_beside(here)
    trained = {name for folder, name in found if folder in PARTS["train"]}
    return sorted({name for _, name in found}, key=lambda name: (name not in trained, name))


def _classes_beside(root: Path) -> set[tuple[str, str]]:
    """Folder and class of the other parts, where `root` is the folder of a part itself."""
    if not root.is_dir() or root.name not in PART_FOLDERS:
        return set()
    others = PART_FOLDERS - {root.name}
    folders = ((other, folder) for other in others for folder in (root.parent / other).glob("*"))
    return {
        (other, folder.name)
        for other, folder in folders
        if any(_is_image(f"{folder.name}/{file.name}") for file in folder.glob("*"))
    }


@contextmanager
def _archive(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(root) as archive:
            yield archive
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
        raise one_problem(
            DataError,
            "the archive cannot be read",
            str(root),
            str(error),
            "a folder, or a complete .zip",
            "copy or fetch the archive again; it may be cut off",
        ) from error


@contextmanager
def opened(root: Path) -> Iterator[Opener]:
    """Open a folder or a .zip: what reads a file of it by its name, as bytes."""
    if root.is_dir():
        yield lambda name: (root / name).read_bytes()
    else:
        with _archive(root) as archive:
            yield archive.read


def _decode_all(root: Path, names: Sequence[str], read_bytes: Opener, mode: str | None) -> Array:
    problems: list[Problem] = []
    images: Array | None = None
    for place, name in enumerate(names):
        try:
            image = _decode(read_bytes(name), mode)
        except _UNREADABLE as error:
            # Pillow names the buffer in memory where it knows no format
            found = str(error).partition("<_io")[0].strip() or type(error).__name__
            problems.append(_damaged_image(name, found))
            continue
        if images is None:
            images = np.empty((len(names), *image.shape), dtype=np.float32)
        if image.shape == images.shape[1:]:
            images[place] = image
        else:
            problems.append(_odd_image(name, image.shape, images.shape[1:]))
    if problems:
        more = len(problems) - MAX_PROBLEMS
        note = f" (and {more} more)" if more > 0 else ""
        summary = f"{len(problems)} images of {root} cannot be used{note}"
        raise DataError(summary, problems[:MAX_PROBLEMS])
    return np.empty((0, 0, 0, 0), np.float32) if images is None else images


def _decode(data: bytes, wanted: str | None) -> Array:
    """Return one image as float32 (C, H, W) in [0, 1].

    wanted: Pillow's mode to convert to; None for the channels that the file holds.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data)) as file:
        mode = wanted or {"P": "RGB", "1": "L"}.get(file.mode, file.mode)
        scale = np.float32(65535 if mode.startswith("I;16") else 255)
        pixels = np.asarray(file if mode == file.mode else file.convert(mode))
    pixels = pixels.astype(np.float32) / scale
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _damaged_image(name: str, found: str) -> Problem:
    return Problem(name, found, "a complete image file", "copy or fetch the image again")


def _odd_image(name: str, found: tuple[int, ...], allowed: tuple[int, ...]) -> Problem:
    return Problem(
        name,
        f"channels, height, width {found}",
        f"{allowed}, as the first image has",
        "convert all images to one size and one number of channels",
    )
