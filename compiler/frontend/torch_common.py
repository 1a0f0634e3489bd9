"""What the readers of torch modules and of torch calls share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from compiler.frontend.chain import ChainBuilder
from compiler.frontend.refusals import refuse
from compiler.ir.geometry import Array, Pair

# Where a traced node keeps the shape of its result (None for several tensors at once), its
# type, and the result itself where that is a number.
SHAPE = "shape_for_two_images"
DTYPE = "type_of_the_elements"
NUMBER = "number"

Ending = Callable[[torch.Tensor, int], torch.Tensor]


def array(tensor: torch.Tensor) -> Array:
    """Return a tensor's values as float64."""
    values: Array = tensor.detach().cpu().double().numpy()
    return values


def optional(tensor: torch.Tensor | None) -> Array | None:
    """Return a tensor's values as float64, None for None."""
    return None if tensor is None else array(tensor)


def pair(value: int | tuple[int, ...]) -> Pair:
    """Return (height, width) from one number or two."""
    if isinstance(value, int):
        return (value, value)
    return (int(value[0]), int(value[-1]))


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Return the shape of a tensor node for a batch of two, None for anything else."""
    shape: tuple[int, ...] | None = node.meta.get(SHAPE)
    return shape


def layer_name(node: fx.Node) -> str:
    """Return the module's path for a module, the traced name for a call."""
    return str(node.target) if node.op == "call_module" else node.name


def is_image(node: fx.Node) -> bool:
    """Whether a node's result is one tensor, and no parameter or buffer."""
    return shape_of(node) is not None and node.op != "get_attr"


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the inputs of a node that are computed from the image."""
    return [one for one in node.all_input_nodes if is_image(one)]


class Chain:
    """The walk through a traced module: where it stands and what it builds.

    ending: the soft-max behind the last layer, which the graph leaves out; takes logits
    (N, classes) and the axis.
    """

    def __init__(self, traced: fx.GraphModule, builder: ChainBuilder) -> None:
        self.traced = traced
        self.builder = builder
        self.current: fx.Node | None = None
        self.ending: Ending | None = None

    def operation(self, node: fx.Node) -> str:
        """Return the plain name of what a node does: class, function or method."""
        if node.op == "call_module":
            return type(self.traced.get_submodule(str(node.target))).__name__
        name = node.target if isinstance(node.target, str) else node.target.__name__
        return name if name.startswith("__") else name.strip("_")

    def problem(self, node: fx.Node, found: str, allowed: str, remedy: str) -> None:
        """Note a problem of `node`."""
        self.builder.problem(layer_name(node), found, allowed, remedy)

    def refuse(self, node: fx.Node, found: str | None = None, kind: str | None = None) -> None:
        """Note that `node` is not supported."""
        operation = found or self.operation(node)
        at_end = all(user.op == "output" for user in node.users)
        self.builder.problems.append(refuse(layer_name(node), operation, kind, at_end))

    def argument(self, node: fx.Node, place: int, name: str, default: Any = None) -> Any:
        """Return an argument of a call by place or name; constants are looked up."""
        value = node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
        return self.constant(value) if isinstance(value, fx.Node) else value

    def constant(self, node: fx.Node) -> Any:
        """Return the value of a get_attr node, or the node itself."""
        if node.op != "get_attr":
            return node
        value: Any = self.traced
        for step in str(node.target).split("."):
            value = getattr(value, step)
        return value

    def input_shape(self, node: fx.Node) -> tuple[int, ...]:
        """Return the shape of the image, or else of the constant, that `node` takes.

        It is for a batch of two.
        """
        inputs = tensor_inputs(node) or node.all_input_nodes
        return shape_of(inputs[0]) or ()

    def resync(self, node: fx.Node) -> None:
        """Follow the true shape after a layer that was refused, so that later ones are checked."""
        shape = shape_of(node)
        if self.builder.problems and shape is not None and len(shape) in (2, 4):
            channels, height, width = (*shape[1:], 1, 1)[:3]
            self.builder.resume((channels, height, width))

    def reshaped(self, node: fx.Node) -> None:
        """Read a change of shape: none at all, or a flatten."""
        before, after = self.input_shape(node), shape_of(node) or ()
        size = int(np.prod(before[1:]))
        if before == after or (*before, 1, 1)[:4] == (*after, 1, 1)[:4]:
            return
        if after == (before[0], size):
            self.builder.flatten(layer_name(node))
        elif len(after) != 4 or not self.builder.reshape_input((after[1], after[2], after[3])):
            self.problem(
                node,
                f"a change of shape from {before[1:]} to {after[1:]}",
                "flatten",
                "keep the image's shape up to the first dense layer",
            )
