"""What a graph must look like after the last pass."""

from __future__ import annotations

from compiler.chip.fields import lava_conv_problems
from compiler.errors import Problem
from compiler.ir.ann import AnnGraph, AnnLayer, AvgPool2d, Conv2d, Dense, Flatten, Relu

_SUPPORTED = "conv or dense layers, each but the last followed by a ReLU"


def lowered_problems(graph: AnnGraph) -> list[Problem]:
    """Return everything that keeps `graph` from being a chain of layers that the chip can hold."""
    problems = [_leftover(layer) for layer in graph.layers if not isinstance(layer, _LOWERED)]
    chain = [layer for layer in graph.layers if not isinstance(layer, Flatten)]
    for before, layer in zip([None, *chain[:-1]], chain, strict=True):
        if isinstance(layer, Relu) and not isinstance(before, (Conv2d, Dense)):
            problems.append(_relu_alone(layer))
        if isinstance(layer, (Conv2d, Dense)) and isinstance(before, (Conv2d, Dense)):
            problems.append(
                _problem(layer, f"no ReLU between it and {before.name}, and they cannot be merged")
            )
    if not any(isinstance(layer, (Conv2d, Dense)) for layer in chain):
        problems.append(
            Problem(graph.name, "no conv or dense layer", _SUPPORTED, "check the model")
        )
    elif isinstance(chain[-1], Relu):
        problems.append(_last_relu(chain[-1]))
    convs = (layer for layer in chain if isinstance(layer, Conv2d))
    return problems + [problem for conv in convs for problem in _conv_problems(conv)]


_LOWERED = (Conv2d, Dense, Relu, Flatten)


def _conv_problems(conv: Conv2d) -> list[Problem]:
    rows, columns = conv.weight.shape[2:]
    return lava_conv_problems(conv.name, (rows, columns), conv.geometry)


def _leftover(layer: AnnLayer) -> Problem:
    if isinstance(layer, AvgPool2d):
        return Problem(
            layer.name,
            "average pooling whose windows have different divisors (count_include_pad=False with "
            "padding, or ceil_mode)",
            "pooling without padding, or with count_include_pad=True",
            "choose a window that divides the image, or count_include_pad=True, and train again",
        )
    return _problem(layer, type(layer).__name__)


def _problem(layer: AnnLayer, found: str) -> Problem:
    return Problem(layer.name, found, _SUPPORTED, "put a ReLU behind every layer but the last")


def _relu_alone(layer: AnnLayer) -> Problem:
    return Problem(
        layer.name,
        "a ReLU without a conv or dense layer before it",
        _SUPPORTED,
        "leave it out, or put a conv or dense layer before it",
    )


def _last_relu(layer: AnnLayer) -> Problem:
    return Problem(
        layer.name,
        "a ReLU at the very end, which cuts off negative logits",
        "a conv or dense layer at the end",
        "export the network without its last ReLU",
    )
