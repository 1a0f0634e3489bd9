"""AnnGraph: the trained network in float, as a chain of named layers.

Shapes are (C, H, W); a flat vector of N features is (N, 1, 1). Arrays are float32 and
read-only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Union

from compiler.errors import ModelError, Problem
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape

INPUT = "input"
"""Name of the input beside those of the layers, none of which has it."""


@dataclass(frozen=True)
class InputAffine:
    """y = (x - mean) / std per channel; mean, std: (C,)."""

    name: str
    mean: Array
    std: Array


@dataclass(frozen=True)
class Conv2d:
    """y[o] = sum_i weight[o, i] * x[i] + bias[o].

    weight: (out, in / groups, kernel height, kernel width); bias: (out,) or, where a
    padded border made it differ from place to place, (out, H, W); None for none.
    """

    name: str
    weight: Array
    bias: Array | None
    geometry: ConvGeometry = field(default_factory=ConvGeometry)


@dataclass(frozen=True)
class Dense:
    """y = weight @ x + bias; x flattened in C, H, W order.

    weight: (out, in); bias: (out,) or None.
    """

    name: str
    weight: Array
    bias: Array | None


@dataclass(frozen=True)
class AvgPool2d:
    """y = mean of x over windows; kernel (height, width); the divisor counts padding if asked."""

    name: str
    kernel: Pair
    geometry: ConvGeometry
    count_include_pad: bool = True


@dataclass(frozen=True)
class BatchNorm:
    """y = scale * x + shift per channel (running statistics already folded in); both (C,)."""

    name: str
    scale: Array
    shift: Array
    running_mean: Array | None = None
    running_var: Array | None = None


@dataclass(frozen=True)
class Relu:
    """y = min(max(x, 0), maximum)."""

    name: str
    maximum: float | None = None


@dataclass(frozen=True)
class Flatten:
    """y = x in C, H, W order as a vector."""

    name: str


AnnLayer = Union[InputAffine, Conv2d, Dense, AvgPool2d, BatchNorm, Relu, Flatten]


@dataclass(frozen=True)
class AnnGraph:
    """A chain of layers from pixels in [0, 1] to logits.

    `input_shape` is (C, H, W). The constructor checks that every layer fits the shape
    before it and raises ModelError with all misfits.
    """

    name: str
    input_shape: Shape
    layers: tuple[AnnLayer, ...]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems: list[Problem] = []
        shape: Shape | None = self.input_shape
        for layer in self.layers:
            shape = _checked_output(layer, shape, problems) if shape else None
        if problems:
            raise ModelError(f"the layers of {self.name} do not fit together", problems)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, in order."""
        shapes: list[Shape] = []
        shape = self.input_shape
        for layer in self.layers:
            shape = output_shape(layer, shape)
            shapes.append(shape)
        return tuple(shapes)

    @property
    def classes(self) -> int:
        """Number of outputs."""
        shape = self.shapes[-1]
        return shape[0] * shape[1] * shape[2]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        total = 0
        for layer in self.layers:
            if isinstance(layer, (Conv2d, Dense)):
                total += layer.weight.size + (0 if layer.bias is None else layer.bias.size)
            elif isinstance(layer, BatchNorm):
                total += layer.scale.size + layer.shift.size
        return total

    def with_layers(self, layers: tuple[AnnLayer, ...]) -> AnnGraph:
        """The same network with other layers."""
        return replace(self, layers=layers)


def output_shape(layer: AnnLayer, shape: Shape) -> Shape:
    """Shape after `layer`; raises ValueError with found/allowed if it does not fit."""
    channels, height, width = shape
    if isinstance(layer, Conv2d):
        _expect(channels, layer.weight.shape[1] * layer.geometry.groups, "input channels")
        kernel = (layer.weight.shape[2], layer.weight.shape[3])
        rows, columns = layer.geometry.output_size((height, width), kernel)
        _expect_positive(rows, columns, shape)
        after = (layer.weight.shape[0], rows, columns)
        _expect_bias(layer.bias, after[:1], after)
        return after
    if isinstance(layer, Dense):
        _expect(channels * height * width, layer.weight.shape[1], "input features")
        _expect_bias(layer.bias, layer.weight.shape[:1])
        return (layer.weight.shape[0], 1, 1)
    if isinstance(layer, AvgPool2d):
        rows, columns = layer.geometry.output_size((height, width), layer.kernel)
        _expect_positive(rows, columns, shape)
        return (channels, rows, columns)
    if isinstance(layer, BatchNorm):
        _expect(channels, layer.scale.size, "channels")
        return shape
    if isinstance(layer, InputAffine):
        _expect(channels, layer.mean.size, "channels")
        return shape
    if isinstance(layer, Flatten):
        return (channels * height * width, 1, 1)
    return shape


def _expect(found: int, allowed: int, what: str) -> None:
    if found != allowed:
        raise ValueError(f"{found} {what}", f"{allowed} {what}")


def _expect_bias(bias: Array | None, *allowed: tuple[int, ...]) -> None:
    if bias is not None and bias.shape not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise ValueError(f"a bias of shape {bias.shape}", f"a bias of shape {shapes}")


def _expect_positive(rows: int, columns: int, shape: Shape) -> None:
    if rows < 1 or columns < 1:
        raise ValueError(f"an empty output from input {shape}", "at least one output position")


def _checked_output(layer: AnnLayer, shape: Shape, problems: list[Problem]) -> Shape | None:
    try:
        return output_shape(layer, shape)
    except ValueError as misfit:
        found, allowed = misfit.args
        problems.append(
            Problem(layer.name, found, allowed, "check the input shape and the weights' shapes")
        )
        return None
