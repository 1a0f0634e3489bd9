"""How the C library gives out memory."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), as malloc.h numbers them."""

_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next array, unless the environment says otherwise.

    Else every array above 32 MB is asked of the system anew, page by page, and given back: a
    fifth of the time of balancing thresholds, a tenth of that of training.
    """
    if not sys.platform.startswith("linux") or any(
        name.startswith("MALLOC_") for name in os.environ
    ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
