"""The layers that NetX can hold: padding is the same on opposite sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.ir.chip import ChipLayer
from compiler.ir.geometry import frozen
from compiler.ir.padding import symmetric


def symmetric_padding(layer: ChipLayer) -> ChipLayer:
    """The same layer with equal padding on opposite sides; see compiler.ir.padding.symmetric.

    A layer that needs no change is returned as it is.
    """
    if layer.kind != "conv" or layer.geometry.symmetric:
        return layer
    weight, geometry = symmetric(np.asarray(layer.weight), layer.geometry, layer.input_shape[1:])
    return replace(layer, weight=frozen(weight, np.int32), geometry=geometry)
