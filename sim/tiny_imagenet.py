"""TinyImageNet-200 in its own layout, as a folder or as the .zip that it is published in.

    wnids.txt                             one class a line: the name of its synset
    words.txt                             synset, tabulator, names divided by commas
    train/SYNSET/images/*.JPEG            the training part
    val/images/*.JPEG                     the test part: the published test has no labels,
    val/val_annotations.txt               so the validation part stands in for it

Classes are numbered in the order of their synsets sorted, as an ImageFolder of the training
part numbers them, not in the order of wnids.txt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from compiler.errors import DataError, Problem
from compiler.ir.geometry import frozen
from sim.data_readers import Part
from sim.image_folders import FolderImages, image_names, opened

FOLDER = "tiny-imagenet-200"
ARCHIVE = "tiny-imagenet-200.zip"
CLASS_FILE, WORD_FILE, LABEL_FILE = "wnids.txt", "words.txt", "val/val_annotations.txt"
MAX_NAMED = 5


def read_tiny_imagenet(path: Path, part: Part) -> FolderImages:
    """Find the images of one part, their labels and class names; pixels are read on demand.

    path: the folder, the folder that holds it, or the .zip. Grey images are read as RGB.
    Raises DataError with all that is missing or does not belong together.
    """
    problems: list[Problem] = []
    prefix, names = _found(path, problems)
    text_files = (CLASS_FILE, WORD_FILE, *((LABEL_FILE,) if part == "test" else ()))
    texts = _texts(path, prefix, text_files, problems) if names else {}
    synsets = sorted(set(texts.get(CLASS_FILE, "").split()))
    class_names = _class_names(path, synsets, texts, problems)
    if CLASS_FILE in texts and not problems:
        labelled = (
            _test_labels(path, names, texts[LABEL_FILE], problems)
            if part == "test"
            else _train_labels(names)
        )
        _check_synsets(path, part, labelled, synsets, problems)
    if problems:
        raise DataError(f"TinyImageNet-200 cannot be read from {path}", problems)
    number = {synset: index for index, synset in enumerate(synsets)}
    ordered = sorted(labelled, key=lambda name: (labelled[name], name))
    labels = frozen([number[labelled[name]] for name in ordered], np.int64)
    return FolderImages(path, tuple(prefix + name for name in ordered), labels, class_names, "RGB")


def _found(path: Path, problems: list[Problem]) -> tuple[str, list[str]]:
    """The folder's prefix inside `path`, "" or its name and a slash, and the images below it."""
    if not path.exists():
        allowed = f"the folder {FOLDER}, or {ARCHIVE}"
        problems.append(Problem(str(path), "nothing there", allowed, "check the path given"))
        return "", []
    names = image_names(path)
    prefix = f"{FOLDER}/"
    if not any(name.startswith(prefix) for name in names):
        prefix = ""
    below = [name[len(prefix) :] for name in names if name.startswith(prefix)]
    if not any(name.startswith(("train/", "val/")) for name in below):
        allowed = "train/SYNSET/images/*.JPEG and val/images/*.JPEG"
        remedy = "name the folder itself; one folder a class is read by imagefolder:PATH"
        problems.append(Problem(str(path), "no such images", allowed, remedy))
        return prefix, []
    return prefix, below


def _texts(
    path: Path, prefix: str, files: Sequence[str], problems: list[Problem]
) -> dict[str, str]:
    texts: dict[str, str] = {}
    with opened(path) as read:
        for file in files:
            try:
                texts[file] = read(prefix + file).decode("utf-8")
            except (OSError, KeyError, UnicodeDecodeError) as error:
                problems.append(_damaged(path, file, type(error).__name__, "a readable text file"))
    return texts


def _class_names(
    path: Path, synsets: Sequence[str], texts: Mapping[str, str], problems: list[Problem]
) -> tuple[str, ...]:
    """The first word of every synset, all of its words where others have the same first one."""
    if CLASS_FILE in texts and not synsets:
        problems.append(_damaged(path, CLASS_FILE, "no classes", "one class a line"))
    lines = (line.split("\t") for line in texts.get(WORD_FILE, "").splitlines())
    words = {line[0]: line[1].strip() for line in lines if len(line) == 2}
    unnamed = [synset for synset in synsets if not words.get(synset)]
    if WORD_FILE in texts and unnamed:
        problems.append(_damaged(path, WORD_FILE, f"no names for {_few(unnamed)}", "all classes"))
    full = [words.get(synset, synset) for synset in synsets]
    first = [name.split(",")[0] for name in full]
    seen = Counter(first)
    return tuple(
        short if seen[short] == 1 else long for short, long in zip(first, full, strict=True)
    )


def _train_labels(names: Sequence[str]) -> dict[str, str]:
    """Image -> synset of the training part."""
    parts = {name: PurePosixPath(name).parts for name in names}
    return {
        name: steps[1]
        for name, steps in parts.items()
        if len(steps) == 4 and steps[0] == "train" and steps[2] == "images"
    }


def _test_labels(
    path: Path, names: Sequence[str], text: str, problems: list[Problem]
) -> dict[str, str]:
    """Image -> synset of the validation part; what does not fit is added to `problems`."""
    present = {name for name in names if name.startswith("val/images/")}
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if any(len(row) < 2 for row in rows):
        found = "a line without a tabulator"
        problems.append(_damaged(path, LABEL_FILE, found, "image, tabulator, synset, ..."))
    labelled = {f"val/images/{row[0]}": row[1] for row in rows if len(row) >= 2}
    if unlabelled := sorted(present - set(labelled)):
        found = f"no label for {_few(unlabelled)}"
        problems.append(_damaged(path, LABEL_FILE, found, "a line for every image"))
    if missing := sorted(set(labelled) - present):
        found = f"labels without an image: {_few(missing)}"
        problems.append(_damaged(path, LABEL_FILE, found, "images that are there"))
    return labelled


def _check_synsets(
    path: Path,
    part: Part,
    labelled: Mapping[str, str],
    synsets: Sequence[str],
    problems: list[Problem],
) -> None:
    used, known = set(labelled.values()), set(synsets)
    if unknown := sorted(used - known):
        found = f"{_few(unknown)} in the part {part}"
        problems.append(_damaged(path, CLASS_FILE, found, "classes that this file names"))
    if part == "train" and (empty := sorted(known - used)):
        found = f"no images of {_few(empty)}"
        problems.append(_damaged(path, "train", found, "images of every class"))


def _few(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _damaged(path: Path, file: str, found: str, allowed: str) -> Problem:
    return Problem(str(path / file), found, allowed, f"copy or unpack it again from {ARCHIVE}")
