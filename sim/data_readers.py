"""Readers of IDX files and NumPy archives."""

from __future__ import annotations

import gzip
import hashlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from compiler.errors import DataError, one_problem
from compiler.ir.geometry import Array, Shape

Part = Literal["test", "train"]

IDX_UNSIGNED_BYTE = 0x08
IDX_PREFIXES: dict[Part, str] = {"test": "t10k", "train": "train"}
NPZ_IMAGES: dict[Part, tuple[str, ...]] = {
    "test": ("x_test", "test_images", "images", "x", "X"),
    "train": ("x_train", "train_images", "images", "x", "X"),
}
NPZ_LABELS: dict[Part, tuple[str, ...]] = {
    "test": ("y_test", "test_labels", "labels", "y", "Y"),
    "train": ("y_train", "train_labels", "labels", "y", "Y"),
}
ZIP_PREFIX = b"PK"
SAVE_AS = "save it with numpy.savez(FILE, images=images, labels=labels)"
AXES = "(N, H, W), (N, C, H, W) or (N, H, W, C)"


class LabelledImages(Protocol):
    """Labels at hand, pixels on demand."""

    @property
    def labels_n(self) -> Array:
        """Labels, int64 (N,)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of every class, in the order of the labels."""

    def read(self, index_n: Array) -> Array:
        """Return the images (n, C, H, W) at these places, float32 in [0, 1]."""


@dataclass(frozen=True)
class ArrayImages:
    """Images already in memory: uint8 of 0..255 or float32 in [0, 1], (N, C, H, W)."""

    images_nchw: Array
    labels_n: Array
    class_names: tuple[str, ...]

    def read(self, index_n: Array) -> Array:
        """Return the images at these places, float32 in [0, 1]."""
        return to_unit_range(self.images_nchw[index_n])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels and names, in hexadecimal."""
        described = (self.images_nchw.dtype.str, self.images_nchw.shape, self.class_names)
        digest = hashlib.sha256(repr(described).encode())
        for array in (self.images_nchw, self.labels_n):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def labelled_arrays(
    images_nchw: object, labels_n: object, class_names: tuple[str, ...] = ()
) -> ArrayImages:
    """Labelled images that a caller already holds.

    images_nchw: (N, C, H, W), uint8 or floats in [0, 1]; labels_n: (N,) integers from 0; both
    anything that numpy takes, such as a tensor. class_names: numbers where not given.
    Raises DataError for another shape, type or range, and for bytes that are all 0 or 1. The
    arrays are not copied if they fit.
    """
    images, labels = np.asarray(images_nchw), np.asarray(labels_n)
    if images.ndim != 4 or not len(images):
        raise _wrong_axes(
            "images",
            images,
            "(N, C, H, W) with at least one image",
            "add the channel's axis with [:, None], or move it with .transpose(0, 3, 1, 2)",
        )
    labels = _integer_labels("labels", labels, len(images))
    return ArrayImages(_unit_pixels("images", images), labels, class_names or _names(labels))


def to_unit_range(images: Array) -> Array:
    """Return images as float32 in [0, 1]; uint8 is divided by 255."""
    if images.dtype == np.uint8:
        scaled: Array = images.astype(np.float32) / np.float32(255)
        return scaled
    return images.astype(np.float32)


def read_idx(folder: Path, part: Part, input_shape: Shape | None = None) -> ArrayImages:
    """Read MNIST's pair of IDX files, (N, H, W) or (N, C, H, W) or (N, H, W, C) unsigned bytes.

    Files are looked for as PREFIX-images* and PREFIX-labels* with PREFIX t10k or train,
    .gz or not. Raises DataError where a file is missing, cut off or of another type.
    """
    images = _read_idx_file(_find_idx(folder, part, "images"))
    labels_n = _read_idx_file(_find_idx(folder, part, "labels")).astype(np.int64)
    if labels_n.ndim != 1 or len(labels_n) != len(images):
        raise _damaged(folder, f"{len(images)} images and labels {labels_n.shape}")
    images_nchw = _to_nchw(folder, images, input_shape)
    names = tuple(str(label) for label in range(int(labels_n.max(initial=-1)) + 1))
    return ArrayImages(images_nchw, labels_n, names)


def read_npz(file: Path, part: Part, input_shape: Shape | None = None) -> ArrayImages:
    """Read a NumPy archive with images (uint8, or floats in [0, 1]) and integer labels.

    Names: x_test and y_test (x_train, y_train for the other part) or images and labels;
    optional class_names, (K,). Nothing in the archive is ever unpickled. Raises DataError
    where an array is missing or has other axes, another type or another range.
    """
    check_npz(file)
    try:
        with np.load(file, allow_pickle=False) as archive:
            images = _member(file, archive, NPZ_IMAGES[part])
            labels_n = _member(file, archive, NPZ_LABELS[part])
            names = _class_names(file, archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(file, str(error)) from error
    if images.ndim not in (3, 4):
        raise _wrong_axes(f"{file}, images", images, AXES, SAVE_AS)
    labels_n = _integer_labels(file, labels_n, len(images))
    images_nchw = _to_nchw(file, _unit_pixels(file, images), input_shape)
    return ArrayImages(images_nchw, labels_n, names or _names(labels_n))


def check_npz(file: Path) -> None:
    """Raise DataError unless the file is there and an archive, without reading its arrays."""
    if not file.exists():
        raise _missing(file, "a file written by numpy.savez")
    if file.is_dir():
        raise _no_archive(file, "a folder")
    if zipfile.is_zipfile(file):
        return
    try:
        with file.open("rb") as opened:
            begin = opened.read(len(np.lib.format.MAGIC_PREFIX))
    except OSError as error:
        raise _damaged(file, str(error)) from error
    if begin.startswith(ZIP_PREFIX):
        raise _damaged(file, "the beginning of an archive without its end")
    one = begin == np.lib.format.MAGIC_PREFIX
    found = "one array without labels" if one else f"a file that begins with {_bytes(begin)}"
    raise _no_archive(file, found)


def _no_archive(file: Path, found: str) -> Exception:
    return one_problem(
        DataError,
        "the data are no NumPy archive",
        str(file),
        found,
        "an archive of images and labels",
        SAVE_AS,
    )


def _find_idx(folder: Path, part: Part, what: str) -> Path:
    if not folder.is_dir():
        raise _missing(folder, "a folder with IDX files")
    prefix = IDX_PREFIXES[part]
    found = sorted(path for path in folder.iterdir() if path.name.startswith(f"{prefix}-{what}"))
    if not found:
        raise _missing(folder / f"{prefix}-{what}-idx*-ubyte[.gz]", "MNIST's file names")
    return found[0]


def _read_idx_file(path: Path) -> Array:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    axes = raw[3] if raw[:3] == bytes([0, 0, IDX_UNSIGNED_BYTE]) and len(raw) > 3 else 0
    header = 4 + 4 * axes
    if axes not in (1, 3, 4) or len(raw) < header:
        raise _damaged(path, f"a file that begins with {_bytes(raw[:4])}")
    sizes = [int(size) for size in np.frombuffer(raw, ">u4", axes, 4)]
    if len(raw) != header + math.prod(sizes):
        raise _damaged(path, f"{len(raw)} bytes where its header tells {header + math.prod(sizes)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(sizes)


def _to_nchw(path: Path, images: Array, input_shape: Shape | None) -> Array:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise _damaged(path, f"images with {images.ndim} axes")
    if input_shape is None:
        last = images.shape[1] not in (1, 3) and images.shape[3] in (1, 3)
    else:
        fits_nchw = images.shape[1:] == tuple(input_shape)
        channels, height, width = input_shape
        last = not fits_nchw and images.shape[1:] == (height, width, channels)
    return images.transpose(0, 3, 1, 2) if last else images


def _member(file: Path, archive: np.lib.npyio.NpzFile, names: tuple[str, ...]) -> Array:
    for name in names:
        if name in archive:
            return _array(file, archive, name)
    raise one_problem(
        DataError,
        "an array is missing from the archive",
        str(file),
        ", ".join(archive.files) or "an empty archive",
        f"one of {', '.join(names)}",
        SAVE_AS,
    )


def _array(file: Path, archive: np.lib.npyio.NpzFile, name: str) -> Array:
    try:
        array: Array = archive[name]
    except ValueError as error:
        raise one_problem(
            DataError,
            "an array of the archive cannot be read",
            f"{file}, {name}",
            str(error),
            "an array of plain numbers, or of texts for class_names",
            SAVE_AS,
        ) from error
    return array


def _class_names(file: Path, archive: np.lib.npyio.NpzFile) -> tuple[str, ...]:
    """The names in the archive; empty where it has none."""
    if "class_names" not in archive:
        return ()
    named = _array(file, archive, "class_names")
    if named.ndim != 1:
        raise one_problem(
            DataError,
            "the class names are no list",
            f"{file}, class_names",
            f"an array of shape {named.shape}",
            "(K,), one name a class",
            "save a list of names, or leave class_names out",
        )
    return tuple(str(name) for name in named)


def _integer_labels(file: Path | str, labels_n: Array, images: int) -> Array:
    if labels_n.ndim == 2 and labels_n.shape[1] == 1:
        labels_n = labels_n[:, 0]
    if labels_n.dtype.kind not in "iu" or labels_n.shape != (images,):
        raise one_problem(
            DataError,
            "the labels do not fit the images",
            str(file),
            f"labels {labels_n.dtype} {labels_n.shape} for {images} images",
            f"integers of shape ({images},)",
            "save one class number an image",
        )
    return labels_n.astype(np.int64)


def _unit_pixels(file: Path | str, images: Array) -> Array:
    if images.dtype == np.uint8:
        _check_not_binary(file, images)
        return images
    if images.dtype.kind == "f" and images.size:
        low, high = float(images.min()), float(images.max())
        if low >= 0.0 and high <= 1.0:
            return images.astype(np.float32)
        found = f"{images.dtype} from {low:g} to {high:g}"
    else:
        found = f"{images.dtype} images of shape {images.shape}"
    raise one_problem(
        DataError,
        "the pixels are not on a known scale",
        str(file),
        found,
        "uint8 (0 to 255), or floats from 0 to 1",
        "save plain pixels; the network's own mean and std belong into --mean and --std",
    )


def _check_not_binary(file: Path | str, images: Array) -> None:
    """Raise DataError where bytes are 0 or 1 throughout: divided by 255 they would be black."""
    if images.size and images.max() == 1:
        raise one_problem(
            DataError,
            "the pixels are not on a known scale",
            str(file),
            "uint8 images without a value above 1, of the 255 that stand for white",
            "uint8 (0 to 255), or floats from 0 to 1",
            "save images of two values as floats, images.astype('float32'), or as 0 and 255",
        )


def _wrong_axes(where: str, images: Array, allowed: str, remedy: str) -> Exception:
    summary, found = "the images do not have the expected axes", f"an array of shape {images.shape}"
    return one_problem(DataError, summary, where, found, allowed, remedy)


def _names(labels_n: Array) -> tuple[str, ...]:
    return tuple(str(label) for label in range(int(labels_n.max(initial=-1)) + 1))


def _bytes(begin: bytes) -> str:
    return f"bytes {begin.hex(' ') or '(none)'}"


def _missing(path: Path, allowed: str) -> Exception:
    return one_problem(
        DataError, "no such data", str(path), "nothing there", allowed, "check the path given"
    )


def _damaged(path: Path, found: str) -> Exception:
    return one_problem(
        DataError,
        "the data cannot be read",
        str(path),
        found,
        "a complete file of the kind named",
        "copy or fetch the file again; it may be cut off",
    )
