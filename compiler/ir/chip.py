"""ChipGraph: the integers that the chip holds. Nothing here is a float."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape
from compiler.ir.snn import Encoding


@dataclass(frozen=True)
class CubaFields:
    """The neuron registers of one layer, as stored: vThMant, iDecay (1..4096), vDecay (0..4095)."""

    v_th_mant: int
    i_decay: int = 4096
    v_decay: int = 0


@dataclass(frozen=True)
class ChipInput:
    """Neurons that turn a graded input into spikes (files of others; ours have none).

    bias_mant = trunc(x * weight) + bias, both on a scale of 64; then the neuron of ChipLayer.
    """

    name: str
    shape: Shape
    neuron: CubaFields
    weight: int = 64
    bias: int = 0


@dataclass(frozen=True)
class ChipLayer:
    """u[t] = toward0(u[t-1] * (4096 - iDecay) / 4096) + 64 * sum(weight * s_in[t])
    v[t] = toward0(v[t-1] * (4096 - vDecay) / 4096) + u[t] + 64 * bias
    s[t] = 1 and v[t] := 0 where v[t] > 64 * vThMant.
    u wraps at 24 bits, v clips there.

    weight: int32, (out, in / groups, kH, kW) for conv, (out, in) for dense, in C, H, W
    order of the input; bias: int32 mantissas (out,), (out, H, W) or None; shapes (C, H, W);
    delay: int32 (out, in) steps that a synapse holds a spike back, or None.
    A `readout` layer is read through v after the last step instead of through its spikes.
    """

    name: str
    kind: str
    input_shape: Shape
    shape: Shape
    weight: Array
    bias: Array | None
    neuron: CubaFields
    geometry: ConvGeometry = field(default_factory=ConvGeometry)
    delay: Array | None = None
    readout: bool = False

    @property
    def kernel(self) -> Pair:
        """Kernel (height, width) of a conv layer."""
        return (int(self.weight.shape[2]), int(self.weight.shape[3]))

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class ChipGraph:
    """A chain of integer layers.

    `timesteps` and `encoding` are None for a file that carries no deployment group.
    """

    name: str
    input_shape: Shape
    layers: tuple[ChipLayer, ...]
    timesteps: int | None = None
    encoding: Encoding | None = None
    input_neurons: ChipInput | None = None
    class_names: tuple[str, ...] = ()
