"""Labelled images for evaluation, from files on this machine. Nothing is ever downloaded.

A data set is named by a specification:

    digits              scikit-learn's 8x8 digits; the test part is every third image
    fashion-mnist       Debian's package, or a folder fashion-mnist in the data folder
    cifar10             cifar10.zip or a folder cifar10 in the data folder, in one folder a
                        class, or CIFAR-10's binary archive or its folder there
    cifar100            the same of CIFAR-100, with its fine labels
    tinyimagenet        tiny-imagenet-200.zip or its folder in the data folder
    cifar10:PATH        CIFAR-10's binary archive, or the folder that it holds
    cifar100:PATH       CIFAR-100's, with its fine labels
    tinyimagenet:PATH   TinyImageNet-200's folder or .zip; its validation part is the test part
    idx:DIR             IDX files as MNIST's, compressed by gzip or not
    imagefolder:PATH    a folder or .zip with one folder a class (PNG, JPEG or WebP)
    npz:FILE            a NumPy archive with images and labels

Images already in memory take the place of a specification as sim.data_readers.ArrayImages.

The data folder is named by the environment variable PRIVATE_SNN_DATA.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Union

import numpy as np

from compiler.errors import DataError, Problem, UsageError, one_problem
from compiler.ir.geometry import Array, Shape, frozen
from sim import tiny_imagenet
from sim.cifar import CIFAR10, CIFAR100, CifarFormat, read_cifar
from sim.data_readers import (
    ArrayImages,
    LabelledImages,
    Part,
    check_npz,
    read_idx,
    read_npz,
)
from sim.image_folders import read_image_folder

IN_MEMORY = "arrays"
"""Name of data given as arrays."""
DATA_FOLDER_VARIABLE = "PRIVATE_SNN_DATA"
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Dataset:
    """Labelled images in their original order.

    images_nchw: float32 (N, C, H, W) in [0, 1]; labels: int64 (N,), index into
    class_names; index_n: int64 (N,), place of each image in the full part.
    """

    name: str
    images_nchw: Array
    labels: Array
    class_names: tuple[str, ...]
    index_n: Array

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of images (8 bits a pixel), labels and shape, in hexadecimal."""
        digest = hashlib.sha256(repr(self.images_nchw.shape).encode())
        digest.update(self._bytes().tobytes())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def fingerprint_of_set(self) -> str:
        """As `fingerprint`, but the same for the same labelled images in any order."""
        pairs = zip(self._bytes(), self.labels.astype("<i8"), strict=True)
        each = sorted(hashlib.sha256(a.tobytes() + b.tobytes()).digest() for a, b in pairs)
        start = repr(self.images_nchw.shape).encode()
        return hashlib.sha256(start + b"".join(each)).hexdigest()

    def within(self, other: Dataset) -> Array:
        """Which images `other` has too, at 8 bits a pixel and whatever their labels; bool (N,)."""
        known = set(other._digests())
        return np.array([digest in known for digest in self._digests()], bool)

    def only(self, index_n: Array) -> Dataset:
        """Those at the places `index_n`."""
        return replace(
            self,
            images_nchw=self.images_nchw[index_n],
            labels=self.labels[index_n],
            index_n=self.index_n[index_n],
        )

    def _bytes(self) -> Array:
        return _eight_bits(self.images_nchw)

    def _digests(self) -> Iterator[bytes]:
        """SHA-256 of each image, made one by one: all of them in bytes may be gigabytes."""
        return (hashlib.sha256(_eight_bits(image).tobytes()).digest() for image in self.images_nchw)


def _eight_bits(images: Array) -> Array:
    found: Array = np.rint(images * 255).astype(np.uint8)
    return found


def load_dataset(
    spec: str | ArrayImages,
    input_shape: Shape | None = None,
    samples: int | None = None,
    seed: int = 0,
    part: Literal["test", "train"] = "test",
    classes: int | None = None,
    at_most: int | None = None,
) -> Dataset:
    """Read the images that `spec` names (see this module's docstring).

    input_shape: (C, H, W) that the images must have, or None for any; (K, 1, 1) is a network of
    vectors, for which images of K numbers are flattened in C, H, W order. samples: that many
    images, evenly over the classes, chosen by `seed`; None for all, or for `at_most` of
    them. classes: number of classes that labels must stay below, or None for what the data
    set itself says.
    Raises DataError with a remedy where the images are missing, damaged or do not fit,
    UsageError where `spec` names no kind of data.
    """
    name = IN_MEMORY if isinstance(spec, ArrayImages) else spec
    vector = input_shape is not None and input_shape[1:] == (1, 1)
    wanted = None if vector else input_shape
    source = spec if isinstance(spec, ArrayImages) else _reader(spec)(part, wanted)
    _check_labels(name, source, classes)
    if samples is None and at_most is not None:
        samples = min(at_most, len(source.labels_n))
    if samples is None:
        index_n = np.arange(len(source.labels_n))
    else:
        index_n = choose_evenly(source.labels_n, samples, seed, name)
    images_nchw = source.read(index_n)
    if input_shape is not None and vector and images_nchw[0].size == input_shape[0]:
        images_nchw = images_nchw.reshape(-1, *input_shape)
    _check_shape(name, images_nchw, input_shape)
    images_nchw.setflags(write=False)
    return Dataset(
        name=name,
        images_nchw=images_nchw,
        labels=frozen(source.labels_n[index_n], np.int64),
        class_names=source.class_names,
        index_n=frozen(index_n, np.int64),
    )


def class_name_note(class_names: tuple[str, ...], data: Dataset) -> str | None:
    """What to say where a network's classes and the data's are named or ordered differently."""
    if not class_names or class_names == data.class_names:
        return None
    return (
        f"the classes of {data.name} have other names than the network's, or another order "
        f"({_few(data.class_names)} against {_few(class_names)}): accuracies hold only if "
        "class k is the same in both"
    )


def _few(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def choose_evenly(labels_n: Array, samples: int, seed: int, name: str = "data") -> Array:
    """Return `samples` sorted indices spread evenly over the classes present, chosen by `seed`.

    Classes are served in turns, in random order, so that numbers differ by at most one
    unless a class runs out of images. Raises DataError beyond the images there are.
    """
    if not 1 <= samples <= len(labels_n):
        raise one_problem(
            DataError,
            f"cannot draw {samples} images",
            name,
            f"{len(labels_n)} images",
            f"1 to {len(labels_n)} samples",
            "ask for fewer samples, or leave --samples out to take all",
        )
    generator = np.random.default_rng(seed)
    turn = np.empty(len(labels_n), dtype=np.int64)
    for label in np.unique(labels_n):
        members = np.flatnonzero(labels_n == label)
        turn[generator.permutation(members)] = np.arange(len(members))
    tie_break = generator.permutation(int(labels_n.max()) + 1)[labels_n]
    order = np.lexsort((tie_break, turn))
    chosen: Array = np.sort(order[:samples])
    return chosen


def check_spec(spec: str) -> None:
    """Check a specification without reading images, before a long run rather than at its end.

    Raises UsageError where `spec` names no kind of data, DataError where its path is missing
    or, of `npz`, no archive.
    """
    _reader(spec)
    kind, colon, path = spec.partition(":")
    if colon and not Path(path).exists():
        raise one_problem(
            DataError, "no such data", spec, "nothing there", "a path", "check the path given"
        )
    if colon and kind == "npz":
        check_npz(Path(path))


_Reader = Callable[[Part, Union[Shape, None]], LabelledImages]


def _reader(spec: str) -> _Reader:
    """What reads the images that `spec` names."""
    kind, colon, rest = spec.partition(":")
    if not colon and spec in NAMED:
        return lambda part, _: NAMED[spec](part)
    if rest and kind in BY_PATH:
        return lambda part, shape: BY_PATH[kind](Path(rest), part, shape)
    raise one_problem(
        UsageError,
        "no such data set",
        "--data/--eval",
        repr(spec),
        ", ".join([*NAMED, *(f"{kind}:{WHERE.get(kind, 'PATH')}" for kind in BY_PATH)]),
        "name one of these",
    )


def _digits(part: Part) -> LabelledImages:
    """Scikit-learn's digits: image i is held out for testing iff i % 3 == 2 (599 of 1,797)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    held_out = np.arange(len(digits.target)) % 3 == 2
    chosen = held_out if part == "test" else ~held_out
    return ArrayImages(
        images_nchw=(digits.images[chosen] / 16.0).astype(np.float32)[:, None],
        labels_n=digits.target[chosen].astype(np.int64),
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _fashion_mnist(part: Part) -> LabelledImages:
    folder = _first_existing([*_data_folder("fashion-mnist"), DEBIAN_FASHION_MNIST])
    if folder is None:
        raise one_problem(
            DataError,
            "the Fashion-MNIST images are not on this machine",
            "fashion-mnist",
            f"no folder {DEBIAN_FASHION_MNIST}",
            "Debian's package dataset-fashion-mnist, or its four IDX files anywhere",
            "apt-get install dataset-fashion-mnist, or name a folder with the IDX files: idx:DIR",
        )
    images = read_idx(folder, part, (1, 28, 28))
    return ArrayImages(images.images_nchw, images.labels_n, FASHION_MNIST_CLASSES)


def _cifar(part: Part, name: str, form: CifarFormat) -> LabelledImages:
    folders = [*_data_folder(f"{name}.zip"), *_data_folder(name)]
    published = [*_data_folder(form.archive), *_data_folder(form.folder)]
    path = _first_existing([*folders, *published])
    if path is None:
        content = (
            "a zip or folder with test/CLASS/IMAGE.webp (or .png, .jpg), or the binary archive"
        )
        raise _not_here(name, form.title, f"{name}.zip, {name}/ or {form.archive}", content)
    return read_cifar(path, part, form) if path in published else read_image_folder(path, part)


def _tiny_imagenet(part: Part) -> LabelledImages:
    path = _first_existing(
        [*_data_folder(tiny_imagenet.ARCHIVE), *_data_folder(tiny_imagenet.FOLDER)]
    )
    if path is None:
        title, wanted = "TinyImageNet-200", f"{tiny_imagenet.ARCHIVE} or {tiny_imagenet.FOLDER}/"
        raise _not_here("tinyimagenet", title, wanted, "the published archive or its folder")
    return tiny_imagenet.read_tiny_imagenet(path, part)


def _not_here(name: str, title: str, wanted: str, content: str) -> Exception:
    configured = os.environ.get(DATA_FOLDER_VARIABLE)
    return one_problem(
        DataError,
        f"the {title} images are not on this machine",
        name,
        f"{DATA_FOLDER_VARIABLE}={configured or '(not set)'} without {wanted}",
        content,
        f"set {DATA_FOLDER_VARIABLE} to the folder that holds it, or name it: "
        + (f"{name}:PATH" if name == "tinyimagenet" else f"imagefolder:PATH or {name}:PATH"),
    )


NAMED: Mapping[str, Callable[[Part], LabelledImages]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "cifar10": lambda part: _cifar(part, "cifar10", CIFAR10),
    "cifar100": lambda part: _cifar(part, "cifar100", CIFAR100),
    "tinyimagenet": _tiny_imagenet,
}
"""Readers of the sets known by name."""
BY_PATH: Mapping[str, Callable[[Path, Part, Union[Shape, None]], LabelledImages]] = {
    "imagefolder": lambda path, part, _: read_image_folder(path, part),
    "idx": read_idx,
    "npz": read_npz,
    "cifar10": lambda path, part, _: read_cifar(path, part, CIFAR10),
    "cifar100": lambda path, part, _: read_cifar(path, part, CIFAR100),
    "tinyimagenet": lambda path, part, _: tiny_imagenet.read_tiny_imagenet(path, part),
}
"""Readers of KIND:PATH, by kind."""

WHERE = {"imagefolder": "DIR-or-ZIP", "idx": "DIR", "npz": "FILE"}
"""What PATH is, where it is of one kind."""


def _data_folder(name: str) -> list[Path]:
    configured = os.environ.get(DATA_FOLDER_VARIABLE)
    return [Path(configured).expanduser() / name] if configured else []


def _first_existing(paths: list[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)


def _check_labels(spec: str, source: LabelledImages, classes: int | None) -> None:
    if len(source.labels_n) == 0:
        raise one_problem(
            DataError, "no images", spec, "0 images", "at least one", "check the path given"
        )
    allowed = len(source.class_names) if classes is None else classes
    low, high = int(source.labels_n.min()), int(source.labels_n.max())
    if low < 0 or high >= allowed:
        raise DataError(
            "labels out of range",
            [
                Problem(
                    spec,
                    f"labels {low} to {high}",
                    f"0 to {allowed - 1}, one for each of the network's outputs",
                    "check that data and network belong together and that labels count from 0",
                )
            ],
        )


def _check_shape(spec: str, images_nchw: Array, input_shape: Shape | None) -> None:
    found = tuple(int(size) for size in images_nchw.shape[1:])
    if input_shape is None or found == tuple(input_shape):
        return
    raise one_problem(
        DataError,
        "the images do not fit the network's input",
        spec,
        f"{found[0]} channel(s) of {found[1]} x {found[2]} pixels",
        f"{input_shape[0]} channel(s) of {input_shape[1]} x {input_shape[2]} pixels",
        "name the data that the network was trained for, or convert the images beforehand",
    )
