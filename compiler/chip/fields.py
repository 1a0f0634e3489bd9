"""Every number that the chip or the NetX format limits, once, with its source.

LNC is lava-nc 0.10.0 (`lava/`), LDL lava-dl 0.6.0 (`lava/lib/dl/`), NGL nengo-loihi
(commit e564f66), B2L brian2_loihi (commit 9ac5842).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.errors import Problem
from compiler.ir.geometry import Array, ConvGeometry, Pair


@dataclass(frozen=True)
class Field:
    """An integer field: low <= value <= high in steps of `step` from `low`."""

    name: str
    low: int
    high: int
    step: int
    source: str

    def violations(self, values: Array) -> Array:
        """Boolean array: where `values` do not fit."""
        values = np.asarray(values)
        outside = (values < self.low) | (values > self.high)
        between: Array = (values - self.low) % self.step != 0
        return outside | between

    def describe(self) -> str:
        """The range in words."""
        steps = "" if self.step == 1 else f" in steps of {self.step}"
        return f"{self.name} {self.low}..{self.high}{steps}"

    def problems(self, layer: str, values: Array, remedy: str) -> list[Problem]:
        """At most one Problem, naming the count and the extreme of the values that do not fit."""
        values = np.asarray(values)
        wrong = self.violations(values)
        if not wrong.any():
            return []
        bad = values[wrong]
        worst = bad.flat[int(np.abs(bad).argmax())]
        found = f"{int(wrong.sum())} values of {self.name} out of range, for instance {worst}"
        return [Problem(layer, found, self.describe(), remedy)]


WEIGHT = Field(
    "weight",
    -256,
    254,
    2,
    "mixed-sign 8-bit weights: NGL block.py:523-525; LDL slayer/neuron/base.py:168-198; "
    "odd values beyond 127 need 9 bits, LNC utils/weightutils.py",
)
BIAS_MANT = Field(
    "bias mantissa",
    -4096,
    4094,
    2,
    "13-bit signed: LNC proc/lif/models.py:84; even so that an odd threshold is never met exactly",
)
BIAS_MANT_ANY = Field("bias mantissa", -4096, 4095, 1, "13-bit signed: LNC proc/lif/models.py:84")
V_TH_MANT = Field(
    "vThMant", 1, 131071, 1, "17-bit mantissa: NGL discretize.py:10-12; LNC proc/lif/models.py:257"
)
HIDDEN_V_TH_MANT = Field(
    "vThMant of a spiking layer",
    1,
    4095,
    2,
    "odd: SLAYER's `>=` and its CUDA kernel differ from Lava's `>` at equality; below 4096: "
    "SLAYER's 0.01 epsilon vanishes in float32 above it (LDL slayer/neuron/cuba.py:129-134)",
)
DECAY_ONE = 4096
"""Decays are shares of this a step: LNC proc/lif/models.py:105."""

I_DECAY = Field("iDecay", 1, 4096, 1, "12 bits plus ds_offset 1: LNC proc/lif/models.py:89-94")
V_DECAY = Field("vDecay", 0, 4095, 1, "12 bits: LNC proc/lif/models.py:83")

DECAY_BITS = 12
"""Decays are fractions of 2**12: LNC proc/lif/models.py:104."""

STATE_SHIFT = 6
"""Activations, bias and threshold are shifted left by 6 bits: LNC proc/lif/models.py:107-108."""

STATE_LIMIT = 1 << 23
"""u and v are 24-bit signed: LNC proc/lif/models.py:101-102; u wraps, v clips at +-(2**23 - 1)."""

ACCUMULATOR_LIMIT = 1 << 15
"""Loihi 1: the weights arriving in one step must sum to within +-32768, else the 16-bit sum
wraps: NGL discretize.py:18-19, emulator/interface.py:280-317. Lava's CPU model does not wrap."""

READOUT_V_TH_MANT = V_TH_MANT.high
"""Threshold of a read-out neuron: the largest, so that it does not fire (LDL's tutorials)."""

TIMESTEP_CHOICES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""reset_interval must be a power of two on Loihi 2: lava-dl tutorials netx/mnist/run.ipynb."""

LAVA_CONV_LIMIT = 127
"""Kernel size, stride, padding, dilation and groups are int8 in Lava's Conv
(lava/proc/conv/models.py:25-29); larger values wrap without a word."""


def lava_conv_problems(layer: str, kernel: Pair, geometry: ConvGeometry) -> list[Problem]:
    """Every number of a convolution that Lava's Conv cannot hold."""
    numbers = {
        "kernel": max(kernel),
        "stride": max(geometry.stride),
        "padding": max(max(pair) for pair in geometry.padding),
        "dilation": max(geometry.dilation),
        "groups": geometry.groups,
    }
    return [
        Problem(
            layer,
            f"{what} {value}",
            f"at most {LAVA_CONV_LIMIT} (Lava keeps it in 8 bits)",
            "split the layer or change its geometry",
        )
        for what, value in numbers.items()
        if value > LAVA_CONV_LIMIT
    ]
