"""The shapes of a network, from whichever graph is at hand, also before training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from compiler.errors import ModelError, Problem
from compiler.ir.ann import AnnGraph, AvgPool2d, BatchNorm, Conv2d, Dense
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.geometry import ConvGeometry, Pair, Shape
from compiler.ir.snn import SnnGraph, SnnLayer

AnyGraph = Union[AnnGraph, SnnGraph, ChipGraph]


@dataclass(frozen=True)
class LayerShape:
    """What the chip's memory depends on; every weight of a kernel or a matrix is assumed stored.

    kind: `conv`, `dense` or `input` (neurons without synapses); shapes (C, H, W);
    largest_delay: steps a synapse holds a spike back; i_decay as in ChipLayer; worst_sum:
    largest magnitude that the weights arriving in one step can reach, None before training.
    """

    name: str
    kind: str
    input_shape: Shape
    shape: Shape
    kernel: Pair = (1, 1)
    geometry: ConvGeometry = field(default_factory=ConvGeometry)
    largest_delay: int = 0
    i_decay: int = 4096
    worst_sum: int | None = None

    @property
    def neurons(self) -> int:
        """Number of neurons."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def inputs(self) -> int:
        """Number of presynaptic neurons."""
        return self.input_shape[0] * self.input_shape[1] * self.input_shape[2]


@dataclass(frozen=True)
class NetworkShape:
    """A chain of layers that need cores. `timesteps` is None where not known."""

    name: str
    layers: tuple[LayerShape, ...]
    timesteps: int | None = None


def describe(graph: AnyGraph, timesteps: int | None = None) -> NetworkShape:
    """The shapes of a graph.

    An AnnGraph must have been lowered first: its pooling and batch-norm folded into
    conv and dense layers, else ModelError. `timesteps` serves where the graph has none.
    """
    if isinstance(graph, AnnGraph):
        return NetworkShape(graph.name, _of_ann(graph), timesteps)
    steps = graph.timesteps if graph.timesteps is not None else timesteps
    layers = [_of_layer(layer) for layer in graph.layers]
    if isinstance(graph, ChipGraph) and graph.input_neurons is not None:
        own = graph.input_neurons
        layers.insert(0, LayerShape(own.name, "input", own.shape, own.shape))
    return NetworkShape(graph.name, tuple(layers), steps)


def _of_layer(layer: ChipLayer | SnnLayer) -> LayerShape:
    from compiler.chip.execute import worst_sum

    delay = layer.delay if isinstance(layer, ChipLayer) else None
    conv = layer.kind == "conv"
    return LayerShape(
        layer.name,
        layer.kind,
        layer.input_shape,
        layer.shape,
        (int(layer.weight.shape[2]), int(layer.weight.shape[3])) if conv else (1, 1),
        layer.geometry,
        int(delay.max(initial=0)) if delay is not None else 0,
        layer.neuron.i_decay if isinstance(layer, ChipLayer) else layer.i_decay,
        worst_sum(layer) if isinstance(layer, ChipLayer) else None,
    )


def _of_ann(graph: AnnGraph) -> tuple[LayerShape, ...]:
    layers: list[LayerShape] = []
    problems: list[Problem] = []
    before = graph.input_shape
    for layer, shape in zip(graph.layers, graph.shapes, strict=True):
        if isinstance(layer, Conv2d):
            kernel = (int(layer.weight.shape[2]), int(layer.weight.shape[3]))
            layers.append(LayerShape(layer.name, "conv", before, shape, kernel, layer.geometry))
        elif isinstance(layer, Dense):
            layers.append(LayerShape(layer.name, "dense", before, shape))
        elif isinstance(layer, (AvgPool2d, BatchNorm)):
            kind = type(layer).__name__
            remedy = "run the passes of compiler.passes first; they fold it into its neighbour"
            problems.append(Problem(layer.name, kind, "conv and dense layers", remedy))
        before = shape
    if problems:
        raise ModelError("cores can be counted after the network has been lowered", problems)
    return tuple(layers)
