"""Walking through an ONNX program: what every wire carries, and how the chain stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from compiler.frontend.chain import ChainBuilder
from compiler.frontend.onnx_file import OnnxNode, OnnxProgram
from compiler.frontend.refusals import refuse
from compiler.ir.geometry import Array, Shape


@dataclass(frozen=True)
class Activation:
    """A tensor computed from the image.

    shape: (C, H, W) in the AnnGraph. index: int64 of the tensor's own shape in ONNX; every
    element is its place in the flat (N, C, H, W) tensor. Transposes and reshapes change
    nothing but the index, so any chain of them is followed exactly. version: number of
    layers before it, by which a second branch is noticed.
    """

    shape: Shape
    index: Array
    version: int = 0

    @property
    def size(self) -> int:
        """Number of elements an image."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def batch(self) -> int:
        """Number of images."""
        return int(self.index.size) // self.size

    @property
    def places(self) -> Array:
        """Place in the flat (C, H, W) tensor of every element of one image, in ONNX order."""
        flat: Array = self.index[0].reshape(-1)
        return flat

    def keeps_images_apart(self) -> bool:
        """Whether the first axis is still the batch."""
        if self.index.ndim < 2 or self.index.shape[0] != self.batch:
            return False
        images = self.index.reshape(self.batch, -1) // self.size
        return bool(np.all(images == np.arange(self.batch)[:, None]))

    def axes(self) -> tuple[int, ...] | None:
        """Return which of C, H, W (0, 1, 2) each axis behind the batch is, None if mixed."""
        if self.index.ndim != 4:
            return None
        image = np.arange(self.size).reshape(self.shape)
        for order in permutations(range(3)):
            if np.array_equal(image.transpose(order), self.index[0]):
                return order
        return None


def laid_out(shape: Shape, batch: int) -> Array:
    """Return the index of an ordinary (N, C, H, W) tensor."""
    size = shape[0] * shape[1] * shape[2]
    return np.arange(batch * size).reshape(batch, *shape)


Value = Activation | Array | None


class Walk:
    """The values of the wires, the chain built so far and the problems met.

    A wire carries an Activation, a constant array, or None behind something that was
    refused and whose shape is not known.
    """

    def __init__(self, program: OnnxProgram, builder: ChainBuilder) -> None:
        self.program = program
        self.builder = builder
        self.values: dict[str, Value] = dict(program.constants)
        self.version = 0
        self.tail = _tail(program)
        self.refused: set[str] = set()
        self.lost: set[str] = set()  # constants that could not be computed, which was told

    def refuse(self, node: OnnxNode, found: str | None = None, kind: str | None = None) -> None:
        """Note that `node` is not supported."""
        self.refused.update(node.outputs)
        at_end = node.outputs[0] in self.tail
        self.builder.problems.append(refuse(node.name, found or node.operation, kind, at_end))

    def problem(self, node: OnnxNode, found: str, allowed: str, remedy: str) -> None:
        """Note a problem of `node`."""
        self.builder.problem(node.name, found, allowed, remedy)

    def constant(self, node: OnnxNode, place: int, name: str = "") -> Any:
        """Return a constant input, else the attribute `name` of older operator sets, else None."""
        if len(node.inputs) > place and node.inputs[place]:
            value = self.values.get(node.inputs[place])
            return value if isinstance(value, np.ndarray) else None
        return node.attributes.get(name)

    def next(self, before: Activation, shape: Shape, index: Array) -> Activation:
        """Return the value behind a layer just appended."""
        self.version += 1
        return Activation(shape, index, self.version)

    def same(self, before: Activation) -> Activation:
        """Return the value behind a layer that keeps shape and order."""
        self.version += 1
        return replace(before, version=self.version)

    def image(self, node: OnnxNode, x: Activation) -> Activation | None:
        """Return `x` if it is an ordinary (N, C, H, W) tensor, else None with a problem noted.

        An input given as a vector becomes an image here, by declaring the input anew.
        """
        if x.index.ndim != 4:
            self.refuse(node, f"{node.operation} of {x.index.ndim - 2}-D images", "axes")
            return None
        _, channels, height, width = x.index.shape
        shape = (channels, height, width)
        if x.shape == shape and np.array_equal(x.index, laid_out(shape, x.batch)):
            return x
        if x.shape[1:] == (1, 1) and self._known_order(x) and self.builder.reshape_input(shape):
            return replace(x, shape=shape, index=laid_out(shape, x.batch))
        self.problem(
            node,
            f"a tensor {x.index.shape[1:]} whose axes are not channels, rows, columns of the "
            f"layer before {x.shape}",
            "channels, rows, columns (--layout tells the order of the input's axes)",
            "check --layout; give the image's size where the input is a vector "
            "(--input-shape C,H,W); keep the image's shape up to the first dense layer",
        )
        return None

    def _known_order(self, x: Activation) -> bool:
        """Whether a vector holds the image in C, H, W or in H, W, C order."""
        _, channels, height, width = x.index.shape
        plain = np.arange(x.size)
        rows_first = plain.reshape(height, width, channels).transpose(2, 0, 1)
        return np.array_equal(x.index[0].reshape(-1), plain) or np.array_equal(
            x.index[0], rows_first
        )


def _tail(program: OnnxProgram) -> frozenset[str]:
    """Return the wires behind the nodes at the end that keep the order of the classes."""
    harmless = (
        "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Reshape", "Flatten", "Squeeze", "Cast",
    )  # fmt: skip
    maker = {output: node for node in program.nodes for output in node.outputs}
    tail, wire = set(), program.output_name
    while wire in maker and maker[wire].operation in harmless:
        tail.add(wire)
        wire = maker[wire].inputs[0]
    return frozenset(tail)
