"""How the C library gives out memory."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3), as malloc.h numbers them."""

_KEPT_BYTES = 1 << 30
_MOST_MAPPED = 32 << 20
"""Half a heap on 64 bits: the largest threshold that older versions of glibc take."""


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next array, unless the environment says otherwise.

    Else every array above 32 MB is asked of the system anew, page by page, and given back: a
    fifth of the time of balancing thresholds, a tenth of that of training.
    """
    if not sys.platform.startswith("linux") or _chosen_already():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # the second fixes the first where it is: 128 kB, if a C library refused what was asked
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_KEPT_BYTES, _MOST_MAPPED)):
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _chosen_already() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ)
