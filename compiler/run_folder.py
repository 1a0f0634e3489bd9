"""DIR: where the files of a compile lie, and what its manifest says is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compiler.errors import (
    AgreementError,
    ChipRangeError,
    EnvironmentProblem,
    NetxFormatError,
    one_problem,
)
from compiler.store import write_bytes, write_json

MANIFEST_SCHEMA = 1
LOCK_SECONDS = 1


@dataclass(frozen=True)
class StageRecord:
    """A finished stage: key of its inputs, seconds, hashes of its files, results."""

    key: str
    seconds: float
    files: dict[str, str]
    results: dict[str, Any]


@dataclass
class RunFolder:
    """Paths inside DIR; `private` holds what must not leave the house."""

    path: Path
    records: dict[str, StageRecord] = field(default_factory=dict)

    @property
    def private(self) -> Path:
        """Folder of the ANN, the synthetic images and the stages' files."""
        return self.path / "private"

    @property
    def unproven(self) -> Path:
        """The network until its proof, after which the file gets its name."""
        return self.private / "unproven.net"

    @property
    def unproven_nir(self) -> Path:
        """The same for frameworks that read NIR, which waits for that proof."""
        return self.private / "unproven.nir"

    @property
    def model(self) -> Path:
        """The network, made to leave the house."""
        return self.path / "model.net"

    @property
    def rejected(self) -> Path:
        """The name that a network gets which failed its proof."""
        return self.path / "model.net.rejected"

    @property
    def model_nir(self) -> Path:
        """The same network for frameworks that read NIR."""
        return self.path / "model.nir"

    @property
    def host(self) -> Path:
        """The first layers of a network that was split, which stay at home."""
        return self.private / "host.net"

    @property
    def device(self) -> Path:
        """The other layers of a network that was split."""
        return self.path / "device.net"

    @property
    def manifest(self) -> Path:
        """Finished stages and the hashes of their files."""
        return self.path / "manifest.json"

    @property
    def settings(self) -> Path:
        """Everything that was asked for, as a file for --config."""
        return self.path / "config.toml"

    def stage_file(self, name: str) -> Path:
        """A stage's own file in `private`."""
        return self.private / name

    def take_up(self) -> None:
        """Read the manifest and remove what an interrupted run left half-written.

        Only with the folder's lock: what another run is writing looks the same.
        """
        for left in (*self.private.glob(".*.tmp"), *self.path.glob(".*.tmp")):
            left.unlink(missing_ok=True)
        self.records = _read_records(self.manifest)

    def finished(self, stage: str, key: str) -> bool:
        """Whether the stage was run with this key and its files are untouched."""
        return self.made_with(stage, key) and all(
            _matches(self.path / name, digest) for name, digest in self.records[stage].files.items()
        )

    def made_with(self, stage: str, key: str) -> bool:
        """Whether the stage was run with this key, whatever became of its files."""
        return stage in self.records and self.records[stage].key == key

    def record(
        self, stage: str, key: str, seconds: float, files: list[Path], results: dict[str, Any]
    ) -> None:
        """Note a stage as finished and write the manifest."""
        digests = {str(path.relative_to(self.path)): file_hash(path) for path in files}
        self.records[stage] = StageRecord(key, seconds, digests, results)
        self.write_manifest()

    def forget(self, stages: tuple[str, ...]) -> None:
        """Drop the records of stages that have to run again."""
        for stage in stages:
            self.records.pop(stage, None)
        self.write_manifest()

    def write_settings(self, text: str) -> None:
        """Write config.toml."""
        write_bytes(self.settings, text.encode())

    def write_manifest(self) -> None:
        """Write manifest.json."""
        stages = {name: asdict(record) for name, record in self.records.items()}
        write_json(self.manifest, {"schema_version": MANIFEST_SCHEMA, "stages": stages})


def make_run_folder(path: Path) -> RunFolder:
    """Make DIR if needed; `take_up` reads what is there, once nobody else is at work in it.

    Raises EnvironmentProblem if the folder cannot be written.
    """
    folder = RunFolder(path)
    try:
        folder.private.mkdir(parents=True, exist_ok=True)
        probe = folder.private / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise one_problem(
            EnvironmentProblem,
            "the output folder cannot be used",
            "--out",
            f"{path} ({problem.strerror})",
            "a folder that can be made and written",
            "choose another folder, or change its permissions",
        ) from None
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other programs out of DIR; EnvironmentProblem if one is at work in it."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(RunFolder(path).private / "lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise one_problem(
            EnvironmentProblem,
            "the folder is in use",
            str(path),
            "a compile or an audit at work in it",
            "one at a time in a folder",
            "wait for it to end, or choose another folder",
        ) from None


def _read_records(path: Path) -> dict[str, StageRecord]:
    try:
        content = json.loads(path.read_text())
        if content["schema_version"] != MANIFEST_SCHEMA:
            return {}
        return {name: _record(**record) for name, record in dict(content["stages"]).items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _record(
    key: str, seconds: float, files: dict[str, str], results: dict[str, Any]
) -> StageRecord:
    return StageRecord(key, seconds, dict(files), dict(results))


@contextmanager
def proving(folder: RunFolder) -> Iterator[None]:
    """Call the network rejected if what happens inside shows it to be wrong.

    A file that failed its proof must not lie there under the name of one that passed, nor the
    same network as NIR beside it.
    """
    try:
        yield
    except (AgreementError, ChipRangeError, NetxFormatError):
        for file in (folder.model, folder.unproven):
            if file.is_file():
                file.replace(folder.rejected)
        for file in (folder.model_nir, folder.unproven_nir):
            file.unlink(missing_ok=True)
        raise


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _matches(path: Path, digest: str) -> bool:
    return path.is_file() and file_hash(path) == digest


def key_of(*parts: Any) -> str:
    """SHA-256 of plain values, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
