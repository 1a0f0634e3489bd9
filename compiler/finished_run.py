"""The folder of a finished compile, for the programs that go on from it.

Everything that is missing or changed is said at once, with a remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.errors import CompilerError, ModelError, Problem, one_problem
from compiler.files import read_object
from compiler.run_folder import file_hash

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
"""Files of a finished compile that the audit, the page with its results, and the split read."""

UNUSABLE = "this is no finished compile to go on from"


@dataclass(frozen=True)
class FinishedRun:
    """A compile's folder: its report, the SHA-256 of its model.net and of all files read."""

    path: Path
    report: dict[str, Any]
    model_hash: str
    hashes: dict[str, str]


def open_finished_run(path: Path) -> FinishedRun:
    """Read the folder of a finished compile.

    Raises ModelError listing every file that is missing, or where model.net is not the
    file that the compile wrote.
    """
    if not path.is_dir():
        raise one_problem(
            ModelError,
            "there is no finished compile",
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
        raise ModelError(UNUSABLE, problems)
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
        UNUSABLE,
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
            "work where the compile was made; model.net alone does not say what to compare with",
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
