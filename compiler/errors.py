"""One tree of errors. Each carries the problems found: layer, found, allowed, remedy."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

EXIT_OK = 0
EXIT_CANNOT_COMPILE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way, in words a user can act on."""

    layer: str
    found: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return (
            f"{self.layer}: found {self.found}; allowed: {self.allowed}. What to do: {self.remedy}"
        )


class CompilerError(Exception):
    """Base of every error that is the input's or the environment's fault, not a bug."""

    exit_status = EXIT_CANNOT_COMPILE

    def __init__(self, summary: str, problems: Sequence[Problem] = ()) -> None:
        self.summary = summary
        self.problems = tuple(problems)
        super().__init__(summary, self.problems)

    def __str__(self) -> str:
        lines = [self.summary, *(f"  - {problem}" for problem in self.problems)]
        return "\n".join(lines)


class ModelError(CompilerError):
    """The trained network cannot be read or cannot be compiled."""


class DataError(CompilerError):
    """Images or labels given for evaluation cannot be read."""


class ChipRangeError(CompilerError):
    """A value does not fit the field of the chip that has to hold it."""


class NetxFormatError(CompilerError):
    """A NetX file cannot be read, or what was read back is not what was written."""


class NirFormatError(CompilerError):
    """A NIR file cannot be read or written, or says what the chip cannot do."""


class AgreementError(CompilerError):
    """Two simulators that must agree on every spike do not."""


class AuditError(CompilerError):
    """The leakage audit's own check failed, so that its figures would mean nothing."""


class EnvironmentProblem(CompilerError):
    """Something outside the input is missing: a package, disk space, a writable folder."""


class UsageError(CompilerError):
    """The command line or the configuration asks for something that does not exist."""

    exit_status = EXIT_USAGE


_OF_MACHINE = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    )
)
_NO_MEMORY = ("can't allocate memory", "out of memory")
"""How torch says it."""


def machine_problem(error: Exception) -> CompilerError | None:
    """The error in words where the machine's memory, disk or rights are at fault; else None."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return one_problem(
            EnvironmentProblem,
            "the machine has not enough memory",
            "memory",
            (str(error) or "none left").splitlines()[0],
            "what is free",
            "ask for less: fewer images or time-steps, a smaller batch, a smaller "
            "encrypt.memory_gb; or use a machine with more",
        )
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        return one_problem(
            EnvironmentProblem,
            "a file cannot be read or written",
            str(error.filename or "a file"),
            str(error.strerror),
            "enough room, and the right to read and write",
            "make room, change the rights or name another folder; the same command then goes on",
        )
    return None


def one_problem(
    kind: type[CompilerError], summary: str, layer: str, found: str, allowed: str, remedy: str
) -> CompilerError:
    """Build an error of `kind` with a single problem."""
    return kind(summary, [Problem(layer, found, allowed, remedy)])
