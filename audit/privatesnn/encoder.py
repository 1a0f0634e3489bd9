"""Signed Poisson code: pixels in [0, 1] to spikes of -1, 0 and 1.

x = (pixel - 0.5) / 0.5 lies in [-1, 1]; at every step a pixel spikes with probability |x|, and
the spike has the sign of x (the code's PoissonGenerator). Noise is fresh at every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.privatesnn.settings import MEAN, STD


class SignedPoisson:
    """Draws spikes from numpy's Philox generator with `seed` for its key.

    Images that follow draw on, in the order (image, step, C, H, W): what an image gets does not
    depend on how many are asked for together.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed))

    @property
    def state(self) -> dict[str, Any]:
        """Where the noise has come to, in plain lists and numbers."""
        state = dict(self._generator.bit_generator.state)
        state["state"] = {name: value.tolist() for name, value in state["state"].items()}
        return state | {"buffer": state["buffer"].tolist()}

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Draw what would have come next when `state` was read."""
        arrays = {name: np.array(value, np.uint64) for name, value in state["state"].items()}
        buffer = np.array(state["buffer"], np.uint64)
        self._generator.bit_generator.state = state | {"state": arrays, "buffer": buffer}

    def spikes(self, images_nchw: Tensor, timesteps: int) -> Tensor:
        """Float32 (T, N, C, H, W); the gradient goes straight through, from all steps added up.

        images_nchw: pixels; those beyond [0, 1], which an attack's noise makes, enter as 0 or 1.
        """
        signed = signed_pixels(images_nchw)
        count, *shape = signed.shape
        drawn = self._generator.random((count, timesteps, *shape), np.float32)
        noise = torch.from_numpy(drawn).to(signed.device).transpose(0, 1)
        with torch.no_grad():
            spikes = (noise < signed.abs()).float() * signed.sign()
        return spikes if not signed.requires_grad else _straight_through(signed, spikes)


def signed_pixels(images_nchw: Tensor) -> Tensor:
    """(pixel - 0.5) / 0.5; beyond [-1, 1] clipped, where the gradient still goes through."""
    signed = (images_nchw - MEAN) / STD
    return signed + (signed.clamp(-1, 1) - signed).detach()


class _StraightThrough(torch.autograd.Function):
    """The spikes forward; backward the expected spike of every step is the signed pixel."""

    @staticmethod
    def forward(ctx: Any, signed: Tensor, spikes: Tensor) -> Tensor:
        return spikes

    @staticmethod
    def backward(ctx: Any, grad_tnchw: Tensor) -> tuple[Tensor, None]:
        return grad_tnchw.sum(0), None


def _straight_through(signed: Tensor, spikes: Tensor) -> Tensor:
    through: Tensor = _StraightThrough.apply(signed, spikes)  # type: ignore[no-untyped-call]
    return through
