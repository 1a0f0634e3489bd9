"""Float mantissas to the chip's integers."""

from __future__ import annotations

import numpy as np

from compiler.chip.fields import BIAS_MANT, HIDDEN_V_TH_MANT, READOUT_V_TH_MANT, WEIGHT
from compiler.chip.fixed_point import (
    quantize_bias,
    quantize_threshold,
    quantize_weight,
    round_to_even_integer,
)
from compiler.errors import ChipRangeError, Problem
from compiler.ir.chip import ChipGraph, ChipLayer, CubaFields
from compiler.ir.geometry import frozen
from compiler.ir.snn import SnnGraph, SnnLayer


def quantize(graph: SnnGraph) -> ChipGraph:
    """Round weights and biases to even mantissas and thresholds to odd ones.

    Training already sees weights and biases rounded and clipped this way, so nothing is
    lost here. Raises ChipRangeError listing every layer whose threshold does not fit, whose weights
    or biases are not finite, or whose weights all round to zero.
    """
    problems = [problem for layer in graph.layers for problem in _problems(layer)]
    if problems:
        raise ChipRangeError("the spiking network does not fit the chip's integers", problems)
    return ChipGraph(
        graph.name,
        graph.input_shape,
        tuple(quantize_layer(layer) for layer in graph.layers),
        graph.timesteps,
        graph.encoding,
        None,
        graph.class_names,
    )


def quantize_layer(layer: SnnLayer) -> ChipLayer:
    """One layer in integers."""
    threshold = READOUT_V_TH_MANT if layer.readout else quantize_threshold(layer.threshold)
    bias = None
    if layer.bias is not None and np.any(quantize_bias(layer.bias)):
        bias = frozen(quantize_bias(layer.bias), np.int32)
    return ChipLayer(
        layer.name,
        layer.kind,
        layer.input_shape,
        layer.shape,
        frozen(quantize_weight(layer.weight), np.int32),
        bias,
        CubaFields(threshold, layer.i_decay, layer.v_decay),
        layer.geometry,
        None,
        layer.readout,
    )


def clipped_share(layer: SnnLayer) -> tuple[float, float]:
    """Shares of the weights and of the biases that rounding has to clip to their field."""
    bias = np.zeros(1) if layer.bias is None else layer.bias
    shares = []
    for values, field in ((layer.weight, WEIGHT), (bias, BIAS_MANT)):
        rounded = round_to_even_integer(values)
        shares.append(float(np.mean((rounded < field.low) | (rounded > field.high))))
    return (shares[0], shares[1])


def _problems(layer: SnnLayer) -> list[Problem]:
    remedy = "train with a smaller learning rate, or report the network that leads here"
    values = {"weights": layer.weight, "biases": layer.bias}
    problems = [
        Problem(layer.name, f"{what} that are not finite", f"finite {what}", remedy)
        for what, array in values.items()
        if array is not None and not np.isfinite(array).all()
    ]
    if problems:
        return problems
    if layer.reset != "zero":
        found, allowed = f"the reset `{layer.reset}`", "`zero`, which is all that Loihi has"
        problems.append(Problem(layer.name, found, allowed, "run this network in float"))
    if not np.any(quantize_weight(layer.weight)):
        problems.append(
            Problem(
                layer.name,
                "weights that all round to zero",
                "at least one weight of magnitude 2 or more",
                "prune this layer from the network, or check that it was trained",
            )
        )
    field = HIDDEN_V_TH_MANT
    if not layer.readout and not field.low <= layer.threshold <= field.high:
        problems.append(
            Problem(layer.name, f"vThMant {layer.threshold:.1f}", field.describe(), remedy)
        )
    return problems
