"""A child process at the head of a group of its own, which ends with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO

_GRACE_SECONDS = 2.0
_POLL_SECONDS = 0.05
_TELL_SECONDS = 0.5


def start_child(
    command: list[str], environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a child at the head of a group of its own, its noise going to a file."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def wait_for(
    child: subprocess.Popen[bytes],
    time_limit: float,
    tell: Callable[[], None] | None,
) -> int:
    """Wait for the child's end, calling `tell` now and then; TimeoutExpired at the limit.

    time_limit: in seconds. Returns the exit status.
    """
    deadline = time.monotonic() + time_limit
    while tell is not None and time.monotonic() + _TELL_SECONDS < deadline:
        try:
            return child.wait(timeout=_TELL_SECONDS)
        except subprocess.TimeoutExpired:
            tell()
    return child.wait(timeout=max(deadline - time.monotonic(), 0))


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End the child and every process that Lava started.

    Python's resource tracker, which frees Lava's shared memory, ignores SIGTERM and ends by
    itself; so SIGTERM comes first.
    """
    for kind in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            os.killpg(child.pid, kind)
            while time.monotonic() < deadline:
                child.poll()
                os.killpg(child.pid, 0)
                time.sleep(_POLL_SECONDS)
        except ProcessLookupError:
            break
    child.wait()
