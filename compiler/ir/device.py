"""Where torch computes, and how exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def compute_device() -> torch.device:
    """The GPU where torch finds one, of several torchrun's for this process; else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def repeatable(tf32: bool = False) -> Iterator[None]:
    """The GPU's convolutions by the same algorithm at every run; rounded to TF32 if allowed.

    Nothing changes on the CPU, nor, afterwards, in the settings of who imports this package.
    """
    from torch.backends import cudnn

    with cudnn.flags(enabled=True, deterministic=True, allow_tf32=tf32):
        yield
