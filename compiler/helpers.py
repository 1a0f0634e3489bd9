"""What the processes beside the main one do in a compile: they help to train.

The main process runs every stage. Where it comes to one that can be shared, it tells the others
what to compute, data included, so that they need no file of its.
"""

from __future__ import annotations

from typing import Any

from compiler.distributed import World
from compiler.encryption.train import Encryption, encrypt


def encrypt_together(world: World, main_only: dict[str, Any], **arguments: Any) -> Encryption:
    """`compiler.encryption.train.encrypt` in all processes; called by the main one.

    arguments: those that all processes need; main_only: progress and checkpoint.
    """
    world.tell(arguments)
    return encrypt(**arguments, **main_only, team=world)


def help_along(world: World) -> None:
    """Take part in what the main process shares, until it says that it has ended."""
    while True:
        arguments = world.tell()
        if arguments is None:
            return
        encrypt(**arguments, team=world)
