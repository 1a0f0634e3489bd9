"""The training's state between two runs of the command. Read as tensors alone, never unpickled."""

from __future__ import annotations

import io
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from compiler.encryption.train import Epoch, TrainingState
from compiler.store import write_bytes

_DAMAGE = (EOFError, KeyError, OSError, RuntimeError, ValueError, pickle.UnpicklingError)
"""What torch raises for a file that is not, or not wholly, its own."""


class Checkpoints:
    """One file with the last state of the training, valid for one key of settings alone."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def write(self, state: TrainingState) -> None:
        """Write the state under a temporary name, then rename it."""
        buffer = io.BytesIO()
        content = {
            "key": self.key,
            "network": state.network,
            "optimizer": state.optimizer,
            "best": state.best,
            "epochs": [asdict(epoch) for epoch in state.epochs],
            "steps": state.steps,
        }
        torch.save(content, buffer)
        write_bytes(self.path, buffer.getvalue())

    def read(self) -> TrainingState | None:
        """The state, or None if there is none for this key, or a damaged one."""
        if not self.path.is_file():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            return _state(content) if content["key"] == self.key else None
        except _DAMAGE:
            return None


def _state(content: dict[str, Any]) -> TrainingState:
    return TrainingState(
        network=content["network"],
        optimizer=content["optimizer"],
        best=content["best"],
        epochs=[Epoch(**epoch) for epoch in content["epochs"]],
        steps=content["steps"],
    )
