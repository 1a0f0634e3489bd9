"""SnnGraph: the spiking network in float, on the scale of the chip's mantissas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from compiler.ir.ann import Conv2d
from compiler.ir.geometry import Array, ConvGeometry, Shape, frozen
from compiler.ir.stages import Stage

Code = Literal["rate", "poisson", "latency", "host"]
"""Input codes. `host`: spikes that another network computes (compiler.ir.splitting)."""

Reset = Literal["zero", "subtract"]
"""What a spike does to v: sets it to 0, as the chip does, or takes the threshold off."""

IMAGE_CODES = ("rate", "poisson", "latency")
"""Those that make spikes of images by a formula."""


@dataclass(frozen=True)
class Encoding:
    """How an image in [0, 1] becomes spikes; formulas in compiler.chip.encoding.

    `seed` is used by `poisson` alone, `x_min` by `latency` alone.
    """

    code: Code = "rate"
    seed: int = 0
    x_min: float = 0.0


@dataclass(frozen=True)
class SnnLayer:
    """u[t] = (1 - iDecay/4096) u[t-1] + weight * s_in[t]
    v[t] = (1 - vDecay/4096) v[t-1] + u[t] + bias
    s[t] = 1 and v[t] := 0 where v[t] > threshold; v[t] := v[t] - threshold with the reset
    `subtract`, which the chip has not: such a network runs in float alone.

    Weights, bias and threshold are float64 in units of one weight mantissa (the chip
    stores weights in -256..254). weight: (out, in / groups, kH, kW) for `conv`, (out, in)
    for `dense`; bias: (out,), (out, H, W) or None; shapes (C, H, W).
    A `readout` layer never spikes: its voltage after the last step is the logit.
    unit: float64 (out,), the ANN's activation that a firing rate of 1 stands for; for a
    read-out the logit that a mean voltage gain of one mantissa a step stands for.
    """

    name: str
    kind: Literal["conv", "dense"]
    input_shape: Shape
    shape: Shape
    weight: Array
    bias: Array | None
    threshold: float
    unit: Array
    i_decay: int = 4096
    v_decay: int = 0
    readout: bool = False
    geometry: ConvGeometry = field(default_factory=ConvGeometry)
    reset: Reset = "zero"


def snn_layer(
    stage: Stage,
    weight: Array,
    bias: Array | None,
    threshold: float,
    unit: Array,
    reset: Reset = "zero",
) -> SnnLayer:
    """The spiking layer in a stage's place; the arrays as in SnnLayer."""
    convolution = stage.synapse if isinstance(stage.synapse, Conv2d) else None
    return SnnLayer(
        stage.synapse.name,
        "conv" if convolution else "dense",
        stage.input_shape,
        stage.shape,
        frozen(weight, np.float64),
        None if bias is None else frozen(bias, np.float64),
        threshold,
        frozen(unit, np.float64),
        readout=stage.readout,
        geometry=convolution.geometry if convolution else ConvGeometry(),
        reset=reset,
    )


@dataclass(frozen=True)
class SnnGraph:
    """A chain of spiking layers run for `timesteps` steps on encoded images (C, H, W)."""

    name: str
    input_shape: Shape
    timesteps: int
    encoding: Encoding
    layers: tuple[SnnLayer, ...]
    class_names: tuple[str, ...] = ()

    @property
    def logit_per_voltage(self) -> float:
        """The ANN's logit that one mantissa of the read-out's last voltage stands for."""
        return float(self.layers[-1].unit[0]) / self.timesteps

    def with_layers(self, layers: tuple[SnnLayer, ...]) -> SnnGraph:
        """The same network with other layers."""
        return replace(self, layers=layers)
