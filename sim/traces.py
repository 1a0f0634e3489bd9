"""Spikes and states of a run, step by step, whichever backend ran it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.ann import INPUT
from compiler.ir.geometry import Array

__all__ = ["INPUT", "LayerTrace", "NetworkTrace"]


@dataclass(frozen=True)
class LayerTrace:
    """One layer's run; axes (T, N, C, H, W).

    spikes_tnchw: uint8; u_tnchw, v_tnchw: int32 after every step (v after the reset), or None
    where states were not asked for.
    """

    name: str
    spikes_tnchw: Array
    u_tnchw: Array | None = None
    v_tnchw: Array | None = None


@dataclass(frozen=True)
class NetworkTrace:
    """A whole run.

    input: what entered the first layer (input spikes, or the input neurons' run); layers: in
    order; voltage_nk: int64, v of the last layer after the last step, in C, H, W order.
    """

    backend: str
    input: LayerTrace
    layers: tuple[LayerTrace, ...]
    voltage_nk: Array

    @property
    def spikes(self) -> dict[str, Array]:
        """Spikes of every layer by name, the input first."""
        return {trace.name: trace.spikes_tnchw for trace in (self.input, *self.layers)}

    @property
    def timesteps(self) -> int:
        """Steps a sample."""
        return int(self.input.spikes_tnchw.shape[0])

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.input.spikes_tnchw.shape[1])
