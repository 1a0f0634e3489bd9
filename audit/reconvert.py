"""The spiking network turned back into an ordinary network: the attacker's first move.

From the integers of the file alone. A neuron that integrates and fires at threshold theta
has, over many steps, a firing rate near max(0, drive) / theta, at most 1. A current that
decays by iDecay of 4096 a step brings 4096 / iDecay times a spike's weight in the end. So each
layer becomes y = max(0, 4096 / iDecay W x + b) / theta, clipped at 1 or not, with W, b and theta
as stored. Leak (vDecay) is left to `audit.reconversion` and to the attacks that fit curves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from compiler.chip.fields import DECAY_ONE
from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d, Dense, Flatten, Relu
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.geometry import Array, frozen
from compiler.ir.run_ann import run_ann

Activation = Literal["relu", "clipped_relu"]

_PROBES = 256
_LOGIT_SPREAD = 4.0
"""Spread of the logits for which the temperatures of the synthesis are meant."""


def reconvert(graph: ChipGraph, activation: Activation) -> AnnGraph:
    """An AnnGraph with the file's weights over its thresholds and plain or clipped ReLU."""
    layers: list[AnnLayer] = []
    flat = False
    for layer in graph.layers:
        if layer.kind == "dense" and not flat:
            layers.append(Flatten(f"{layer.name}.flatten"))
            flat = True
        layers.append(_synapse(layer))
        if not layer.readout:
            maximum = 1.0 if activation == "clipped_relu" else None
            layers.append(Relu(f"{layer.name}.relu", maximum))
    return AnnGraph(f"{graph.name}-{activation}", graph.input_shape, tuple(layers))


def _synapse(layer: ChipLayer) -> Conv2d | Dense:
    theta = float(layer.neuron.v_th_mant)
    gain = DECAY_ONE / layer.neuron.i_decay
    weight = frozen(layer.weight * gain / theta, np.float32)
    bias = None if layer.bias is None else frozen(layer.bias / theta, np.float32)
    if layer.kind == "conv":
        return Conv2d(layer.name, weight, bias, layer.geometry)
    return Dense(layer.name, weight, bias)


def with_unit_logits(graph: AnnGraph) -> AnnGraph:
    """The same network with its last layer scaled so that logits are of an ANN's usual size."""
    import torch

    from compiler.synthesis.start import start_images

    generator = torch.Generator().manual_seed(0)
    answers = run_ann(graph, start_images(_PROBES, graph.input_shape, generator).numpy())
    spread = float((answers - answers.mean(1, keepdims=True)).std(ddof=1))
    last = graph.layers[-1]
    if not isinstance(last, (Conv2d, Dense)):
        raise ValueError(f"{graph.name} does not end in a synapse")
    gains = np.full(len(last.weight), _LOGIT_SPREAD / max(spread, 1e-12))
    return graph.with_layers((*graph.layers[:-1], with_gains(last, gains)))


def with_gains(layer: Conv2d | Dense, gains: Array) -> Conv2d | Dense:
    """The layer with each output channel multiplied by its gain, (C,)."""

    def scaled(values: Array) -> Array:
        return frozen(values * gains.reshape(-1, *([1] * (values.ndim - 1))), np.float32)

    bias = None if layer.bias is None else scaled(layer.bias)
    return replace(layer, weight=scaled(layer.weight), bias=bias)
