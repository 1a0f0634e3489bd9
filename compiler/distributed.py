"""Several processes, on one machine or more, that work on the same command line.

    torchrun --nproc-per-node 2 -m sim.run MODEL.net --data DATA
    torchrun --nproc-per-node 2 -m compiler.export --preset digits

torchrun sets the variables that are read here; without them there is one process. torch is
imported only where there are more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(days=7)
"""How long a process waits for another: the others have nothing to do in most stages."""


@dataclass(frozen=True)
class World:
    """This process among all: rank 0..size - 1. The process of rank 0 is the main one."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process speaks and writes files."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` things; parts differ by one thing at most."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        flat = torch.cat([tensor.detach().flatten().cpu() for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes in order of their ranks; [] in all but the main one."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] | None = [None] * self.size if self.main else None
        distributed.gather_object(value, found)
        return found or []

    def tell(self, value: Any = None) -> Any:
        """The main process's `value`, in every process."""
        if self.size == 1:
            return value
        from torch import distributed

        box = [value]
        distributed.broadcast_object_list(box)
        return box[0]


def is_main_process() -> bool:
    """Whether this process is alone or has rank 0, by what torchrun says."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def open_world() -> Iterator[World]:
    """All processes that torchrun has started, connected as long as the context lasts."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    from torch import distributed

    with _without_a_word():
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _without_a_word() -> Iterator[None]:
    """Standard output to nowhere, below Python: Gloo reports its connections there."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
