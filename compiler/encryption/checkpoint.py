"""The state of the training in the spiking domain between two runs of the command."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from compiler.encryption.train import Epoch, TrainingState
from compiler.store import DAMAGE, read_state, write_state


class Checkpoints:
    """One file with the last state of the training, valid for one key of settings alone."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def write(self, state: TrainingState) -> None:
        """Write the state under a temporary name, then rename it."""
        content = {
            "key": self.key,
            "network": state.network,
            "optimizer": state.optimizer,
            "best": state.best,
            "epochs": [asdict(epoch) for epoch in state.epochs],
            "steps": state.steps,
        }
        write_state(self.path, content)

    def read(self) -> TrainingState | None:
        """The state, or None if there is none for this key, or a damaged one."""
        if not self.path.is_file():
            return None
        try:
            content = read_state(self.path)
            return _state(content) if content["key"] == self.key else None
        except DAMAGE:
            return None


def _state(content: dict[str, Any]) -> TrainingState:
    return TrainingState(
        network=content["network"],
        optimizer=content["optimizer"],
        best=content["best"],
        epochs=[Epoch(**epoch) for epoch in content["epochs"]],
        steps=content["steps"],
    )
