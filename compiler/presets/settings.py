"""How an ANN is trained: every choice, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from compiler.errors import Problem, UsageError

MOST_SEED = 2**63 - 1
"""Largest seed of a training: torch takes signed numbers of 64 bits."""


Optimizer = Literal["adamw", "nesterov", "sgd"]
Norm = Literal["none", "batch", "scale"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; every random choice follows from `seed`.

    optimizer: `adamw` or `nesterov` (SGD with Nesterov's momentum 0.9), both with one cycle of the
    learning rate (its peak is learning_rate), or `sgd` with momentum 0.9 whose rate falls to a
    tenth after the `milestones`, fractions of all epochs. dropout: share of the inputs of every
    dense layer left out. flip: mirror half of the images. shift: largest random shift, in pixels,
    in each direction. erase: side, in pixels, of a square at a random place of each image that is
    set to 0 (Cutout: DeVries and Taylor 2017). average: decay of the running average of the weights
    that is returned; 0 for none. norm: what stands behind every convolution in training and is
    folded into its weights at the end: `batch`-norm, which leaves a bias, or `scale`, which leaves
    none (compiler.presets.scale_norm). precision: of the products in training; sums, the weights
    kept and everything outside training are float32.
    """

    epochs: int = 20
    batch: int = 128
    optimizer: Optimizer = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    milestones: tuple[float, ...] = ()
    label_smoothing: float = 0.0
    dropout: float = 0.0
    flip: bool = False
    shift: int = 0
    erase: int = 0
    average: float = 0.0
    norm: Norm = "none"
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """UsageError with every setting that no training can have."""
        problems = [
            Problem(name, str(getattr(self, name)), allowed, f"give another {name}")
            for name, (holds, allowed) in self._rules().items()
            if not holds
        ]
        if problems:
            raise UsageError("the settings of the training do not fit", problems)

    def _rules(self) -> dict[str, tuple[bool, str]]:
        """Whether a setting holds, and what it may be."""
        share = "0 or more, below 1"
        named = {"optimizer": Optimizer, "norm": Norm, "precision": Precision}
        return {
            name: (getattr(self, name) in get_args(kind), "one of " + ", ".join(get_args(kind)))
            for name, kind in named.items()
        } | {
            "epochs": (self.epochs >= 1, "1 or more"),
            "batch": (self.batch >= 1, "1 or more"),
            "learning_rate": (0 < self.learning_rate < math.inf, "a number above 0"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "a number, 0 or more"),
            "milestones": (all(0 < part < 1 for part in self.milestones), "shares in 0..1"),
            "label_smoothing": (0 <= self.label_smoothing < 1, share),
            "dropout": (0 <= self.dropout < 1, share),
            "shift": (self.shift >= 0, "0 or more"),
            "erase": (self.erase >= 0, "0 or more"),
            "average": (0 <= self.average < 1, share),
            "seed": (0 <= self.seed <= MOST_SEED, f"0..{MOST_SEED}"),
        }


ONE_CYCLE_SGD = TrainingSettings(
    batch=128,
    optimizer="nesterov",
    learning_rate=0.1,
    weight_decay=5e-4,
    label_smoothing=0.1,
    flip=True,
    average=0.999,
)
"""For photographs and networks with batch-norm; epochs and shift are the user's to set."""
