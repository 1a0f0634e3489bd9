"""One reader for each supported ONNX operation that moves or drops, but computes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compiler.frontend.onnx_file import FLOAT_TYPES, OnnxNode
from compiler.frontend.onnx_layers import Reader
from compiler.frontend.onnx_walk import Activation, Walk, laid_out
from compiler.ir.geometry import Array

ONE_AXIS = 13  # the first operator set in which a soft-max is over one axis


def transpose(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Transpose; the batch has to stay first."""
    backwards = tuple(range(x.index.ndim))[::-1]
    return _moved(walk, node, x, x.index.transpose(node.attributes.get("perm", backwards)))


def reshape(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Reshape to a constant shape; 0 keeps an axis, -1 takes the rest."""
    wanted = walk.constant(node, 1, "shape")
    if wanted is None:
        walk.refuse(node, "Reshape to a computed shape", "dynamic")
        return None
    sizes = [int(size) for size in wanted]
    if not node.attributes.get("allowzero", 0):
        sizes = [
            x.index.shape[axis] if size == 0 and axis < x.index.ndim else size
            for axis, size in enumerate(sizes)
        ]
    return _reshaped(walk, node, x, tuple(sizes))


def flatten(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Flatten."""
    axis = node.attributes.get("axis", 1)
    rows = int(np.prod(x.index.shape[:axis])) if axis else 1
    return _reshaped(walk, node, x, (rows, -1))


def squeeze(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Squeeze, of the axes named or of all of size 1 but the batch."""
    axes = walk.constant(node, 1, "axes")
    rank = x.index.ndim
    gone = (
        {axis for axis in range(1, rank) if x.index.shape[axis] == 1}
        if axes is None
        else {int(axis) % rank for axis in axes}
    )
    sizes = tuple(size for axis, size in enumerate(x.index.shape) if axis not in gone)
    return _reshaped(walk, node, x, sizes)


def unsqueeze(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Unsqueeze."""
    axes = walk.constant(node, 1, "axes")
    rank = x.index.ndim + len(axes)
    index = x.index
    for axis in sorted(int(axis) % rank for axis in axes):
        index = np.expand_dims(index, axis)
    return _moved(walk, node, x, index)


def _reshaped(
    walk: Walk, node: OnnxNode, x: Activation, sizes: tuple[int, ...]
) -> Activation | None:
    try:
        index = x.index.reshape(sizes)
    except ValueError:
        walk.problem(
            node,
            f"a reshape of {x.index.shape} to {sizes}",
            "shapes of one size for any batch",
            "export with a free batch dimension, or check the input's shape",
        )
        return None
    return _moved(walk, node, x, index)


def _moved(walk: Walk, node: OnnxNode, x: Activation, index: Array) -> Activation | None:
    moved = replace(x, index=index)
    if moved.keeps_images_apart():
        return moved
    walk.problem(
        node,
        f"{node.operation} of {x.index.shape} to {index.shape}, which mixes images",
        "the batch as the first axis",
        "export with a free batch dimension, and keep it first",
    )
    return None


def pad(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Pad with a constant, of rows and columns alone."""
    pads, value, axes = (
        walk.constant(node, 1, "pads"),
        walk.constant(node, 2, "value"),
        walk.constant(node, 3),
    )
    order, rank = x.axes(), x.index.ndim
    mode = node.attributes.get("mode", "constant")
    if pads is None or mode != "constant" or order is None:
        walk.refuse(node, f"Pad with mode {mode!r} of {x.index.shape[1:]}")
        return None
    chosen = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = int(pads[place]), int(pads[place + len(chosen)])
    place_of = {order[axis - 1]: axis for axis in range(1, rank)}
    if before[0] or after[0] or before[place_of[0]] or after[place_of[0]]:
        walk.refuse(node, f"Pad of batch or channels, {[int(size) for size in pads]}")
        return None
    rows, columns = ((before[place_of[one]], after[place_of[one]]) for one in (1, 2))
    walk.builder.pad(node.name, (rows, columns), 0.0 if value is None else float(value))
    shape = walk.builder.shape
    if shape is None:
        return None
    index = laid_out(shape, x.batch).transpose(0, *(1 + axis for axis in order))
    return walk.next(x, shape, index)


def softmax(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Drop a soft-max at the end, which leaves the order of the classes; refuse any other."""
    if node.outputs[0] not in walk.tail:
        walk.refuse(node, f"{node.operation} inside the network", "activation")
    elif not _over_the_classes(walk, node, x):
        walk.problem(
            node,
            f"{node.operation} over other axes of {x.index.shape} than that of the classes",
            "the axis of the classes",
            "export with the axis of the classes, or leave the soft-max out",
        )
    return x


def _over_the_classes(walk: Walk, node: OnnxNode, x: Activation) -> bool:
    """Whether a soft-max takes together all elements of an image, and no others.

    Up to operator set 12 it takes the axis named and all behind it, then that axis alone.
    """
    alone = walk.program.opset >= ONE_AXIS
    axis = int(node.attributes.get("axis", -1 if alone else 1)) % x.index.ndim
    together = x.index.shape[axis : axis + 1] if alone else x.index.shape[axis:]
    return axis > 0 and int(np.prod(together)) == x.size


def cast(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Drop Cast to a float type."""
    if node.attributes["to"] not in FLOAT_TYPES:
        walk.refuse(node, "Cast to something other than float")
    return x


def dropout(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Drop Dropout; refuse one that is told to be in training."""
    if in_training(walk, node):
        walk.problem(
            node,
            "Dropout in training mode",
            "training_mode 0, or none",
            "export the network in evaluation mode (model.eval())",
        )
    return x


def in_training(walk: Walk, node: OnnxNode) -> bool:
    """Whether a Dropout has a constant training mode that is on."""
    return bool(np.any(walk.constant(node, 2)))


def nothing(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Drop what does nothing."""
    return x


SHAPES: dict[str, Reader] = {
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Pad": pad,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "Cast": cast,
    "Identity": nothing,
    "Dropout": dropout,
}
