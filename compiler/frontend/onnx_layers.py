"""One reader for each supported ONNX operation that computes something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from compiler.frontend.onnx_file import OnnxNode
from compiler.frontend.onnx_walk import Activation, Walk, laid_out
from compiler.frontend.pooling import pool_geometry
from compiler.ir.geometry import Array, ConvGeometry, Pair, Shape

Reader = Callable[[Walk, OnnxNode, Activation], "Activation | None"]
_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
UNLIMITED = 3e38  # exporters write the largest float32 for "no limit"


def conv(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Conv with constant weights."""
    weight, bias = walk.constant(node, 1), walk.constant(node, 2)
    if weight is None or (bias is None and len(node.inputs) > 2 and node.inputs[2]):
        walk.refuse(node, "Conv with computed weights")
        return None
    image = walk.image(node, x)
    if image is None:
        return None
    kernel = (weight.shape[2], weight.shape[3])
    walk.builder.conv(node.name, weight, bias, _geometry(node, image.shape, kernel))
    return _behind(walk, image)


def average_pool(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read AveragePool."""
    image = walk.image(node, x)
    if image is None:
        return None
    rows, columns = node.attributes["kernel_shape"]
    geometry = _geometry(node, image.shape, (rows, columns))
    found = pool_geometry(
        image.shape[1:],
        (rows, columns),
        geometry,
        bool(node.attributes.get("ceil_mode", 0)),
        bool(node.attributes.get("count_include_pad", 0)),
    )
    if found is None:
        walk.problem(
            node,
            "average pooling with ceil_mode, pads and count_include_pad together",
            "ceil_mode without pads, or with count_include_pad=0",
            "export without ceil_mode",
        )
        return None
    walk.builder.pool(node.name, (rows, columns), *found)
    return _behind(walk, image)


def max_pool(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Refuse MaxPool, and go on as if it averaged, to find more problems."""
    walk.refuse(node)
    return average_pool(walk, node, x)


def global_pool(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read GlobalAveragePool."""
    image = walk.image(node, x)
    return None if image is None else _global(walk, node, image, keep=True)


def reduce_mean(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read a mean over height and width, in whatever order the axes are, as global pooling."""
    axes, order = walk.constant(node, 1, "axes"), x.axes()
    rank = x.index.ndim
    reduced = {int(axis) % rank for axis in axes} if axes is not None else set()
    if order is None or {order[axis - 1] for axis in reduced if axis} != {1, 2} or 0 in reduced:
        walk.refuse(node, f"ReduceMean over axes {sorted(reduced)}")
        return None
    keep = bool(node.attributes.get("keepdims", 1))
    pooled = _global(walk, node, x, keep)
    if not keep:
        return pooled
    sizes = [1 if axis in reduced else size for axis, size in enumerate(x.index.shape)]
    return Activation(pooled.shape, pooled.index.reshape(sizes), pooled.version)


def _global(walk: Walk, node: OnnxNode, x: Activation, keep: bool) -> Activation:
    size = (x.shape[1], x.shape[2])
    walk.builder.pool(node.name, size, ConvGeometry(size), True)
    index = np.arange(x.batch * x.shape[0]).reshape(x.batch, x.shape[0])
    return walk.next(x, (x.shape[0], 1, 1), index[:, :, None, None] if keep else index)


def _behind(walk: Walk, x: Activation) -> Activation | None:
    """Return the ordinary (N, C, H, W) tensor behind the layer just appended."""
    shape = walk.builder.shape
    return None if shape is None else walk.next(x, shape, laid_out(shape, x.batch))


def _geometry(node: OnnxNode, shape: Shape, kernel: Pair) -> ConvGeometry:
    """Return stride, padding, dilation and groups of Conv or AveragePool."""
    stride, dilation = (_pair(node, name, (1, 1)) for name in ("strides", "dilations"))
    if _pair(node, "kernel_shape", kernel) != kernel:
        raise ValueError(f"kernel_shape {node.attributes['kernel_shape']} for weights {kernel}")
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    padding = ((top, bottom), (left, right))
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic not in _AUTO_PADS:
        raise ValueError(f"auto_pad {automatic}")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        rows, columns = (
            _same(shape[1 + axis], kernel[axis], stride[axis], dilation[axis]) for axis in range(2)
        )
        upper = automatic == "SAME_UPPER"
        padding = (_halves(rows, upper), _halves(columns, upper))
    elif automatic == "VALID":
        padding = ((0, 0), (0, 0))
    return ConvGeometry(
        stride,
        padding,
        dilation,
        int(node.attributes.get("group", 1)),
    )


def _pair(node: OnnxNode, name: str, usual: Pair) -> Pair:
    """Two numbers above 0; ValueError otherwise."""
    rows, columns = (int(number) for number in node.attributes.get(name, usual))
    if min(rows, columns) < 1:
        raise ValueError(f"{name} {[rows, columns]}")
    return rows, columns


def _same(size: int, kernel: int, stride: int, dilation: int) -> int:
    """Return the padding for which the output has ceil(size / stride) pixels."""
    windows = -(-size // stride)
    return max(0, (windows - 1) * stride + dilation * (kernel - 1) + 1 - size)


def _halves(total: int, upper: bool) -> Pair:
    """Split padding in two; the odd pixel goes to the end if `upper`."""
    less = total // 2
    return (less, total - less) if upper else (total - less, less)


def matmul(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read MatMul with a constant matrix on the right."""
    weight = walk.constant(node, 1)
    if weight is None or weight.ndim != 2:
        walk.refuse(node, "MatMul without a constant matrix on its right")
        return None
    return _dense(walk, node, x, weight.T, None)


def gemm(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Gemm: alpha * x @ B (or its transpose) + beta * C."""
    weight, bias = walk.constant(node, 1), walk.constant(node, 2)
    missing = bias is None and len(node.inputs) > 2 and node.inputs[2]
    if weight is None or missing or node.attributes.get("transA", 0):
        walk.refuse(node, "Gemm with computed weights or transA")
        return None
    rows = weight if node.attributes.get("transB", 0) else weight.T
    rows = rows * node.attributes.get("alpha", 1.0)
    if bias is not None:
        bias = np.broadcast_to(bias * node.attributes.get("beta", 1.0), (1, len(rows)))[0]
    return _dense(walk, node, x, rows, bias)


def _dense(
    walk: Walk, node: OnnxNode, x: Activation, weight: Array, bias: Array | None
) -> Activation | None:
    """Append weight (out, in) over the last axis: a dense layer, or a 1x1 convolution."""
    *lead, features = x.index.shape
    if weight.ndim != 2:
        raise ValueError(f"weights of shape {weight.shape}")
    if weight.shape[1] != features:
        walk.problem(
            node,
            f"{features} input features",
            f"{weight.shape[1]} input features",
            "check the size of the images",
        )
        return None
    index = np.arange(x.batch * len(weight)).reshape(x.batch, len(weight))
    if features == x.size:
        columns = np.empty(weight.shape, np.float64)
        columns[:, x.places] = weight
        walk.builder.dense(node.name, columns, bias)
        return walk.next(x, (len(weight), 1, 1), index.reshape(*lead, len(weight)))
    return _pointwise(walk, node, x, weight, bias)


def _pointwise(
    walk: Walk, node: OnnxNode, x: Activation, weight: Array, bias: Array | None
) -> Activation | None:
    channels, height, width = x.shape
    pixels = laid_out((channels, height * width, 1), x.batch)[..., 0].transpose(0, 2, 1)
    if x.index.shape[-1] != channels or not np.array_equal(
        x.index.reshape(x.batch, -1, channels), pixels
    ):
        walk.refuse(node, f"{node.operation} over one axis of {x.index.shape[1:]}")
        return None
    walk.builder.conv(node.name, weight[:, :, None, None], bias, ConvGeometry())
    out = laid_out((len(weight), height * width, 1), x.batch)[..., 0].transpose(0, 2, 1)
    shape = (len(weight), height, width)
    return walk.next(x, shape, out.reshape(*x.index.shape[:-1], len(weight)))


def relu(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Relu."""
    walk.builder.relu(node.name)
    return walk.same(x)


def clip(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Clip from 0 to a limit, or without one, as a clipped ReLU; behind a ReLU from any
    number up to 0, or from none, to a limit."""
    given = walk.constant(node, 1, "min"), walk.constant(node, 2, "max")
    low, high = (_scalar(limit) for limit in given)
    below = low is None if given[0] is None else low is not None and low < 0
    from_0 = low == 0 or (below and walk.builder.behind_relu)
    unread = given[1] is not None and high is None
    if not from_0 or unread or (high is not None and high <= 0):
        walk.refuse(node, f"Clip to {low} .. {high}", "activation")
        return x
    walk.builder.relu(node.name, None if high is None or high >= UNLIMITED else high)
    return walk.same(x)


def maximum(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Max(x, 0) as ReLU."""
    if _other(walk, node) != 0:
        walk.refuse(node, "Max with something other than 0", "activation")
        return x
    walk.builder.relu(node.name)
    return walk.same(x)


def minimum(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Min(x, limit) behind a ReLU as the limit of that ReLU."""
    limit = _other(walk, node)
    if limit is None or limit <= 0 or not walk.builder.behind_relu:
        walk.refuse(node, "Min that does not limit a ReLU", "activation")
        return x
    walk.builder.relu(node.name, limit)
    return walk.same(x)


def _scalar(value: object) -> float | None:
    array = np.asarray(value if value is not None else np.nan, dtype=np.float64)
    return None if array.size != 1 or np.isnan(array).any() else float(array.reshape(-1)[0])


def _other(walk: Walk, node: OnnxNode) -> float | None:
    constants = [walk.constant(node, place) for place in range(len(node.inputs))]
    known = [value for value in constants if value is not None]
    return _scalar(known[0]) if len(node.inputs) == 2 and len(known) == 1 else None


def batch_norm(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read BatchNormalization with running statistics."""
    parts = [walk.constant(node, place) for place in range(1, 5)]
    training = node.attributes.get("training_mode", 0) or any(node.outputs[1:])
    if any(part is None for part in parts) or training:
        walk.problem(
            node,
            "BatchNormalization in training mode",
            "batch-norm with running statistics",
            "export the network in evaluation mode: model.eval(), or training=TrainingMode.EVAL",
        )
        return walk.same(x)
    weight, bias, mean, variance = (np.asarray(part, np.float64) for part in parts)
    shapes = {part.shape for part in (weight, bias, mean, variance)}
    if shapes != {(x.index.shape[1],)}:
        raise ValueError(f"parameters {sorted(shapes)} for {x.index.shape[1]} channels")
    if (variance < 0).any():
        raise ValueError("variances below 0")
    with np.errstate(divide="ignore", invalid="ignore"):  # said below
        scale = weight / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        shift = bias - mean * scale
    sizes = (1, -1) + (1,) * (x.index.ndim - 2)
    running = (mean, variance) if len(mean) == x.shape[0] else None
    return affine(walk, node, x, (scale.reshape(sizes), shift.reshape(sizes)), running)


def arithmetic(walk: Walk, node: OnnxNode, x: Activation) -> Activation | None:
    """Read Add, Sub, Mul, Div with a constant, on either side, as scale and shift."""
    first = walk.values.get(node.inputs[0])
    reverse = isinstance(first, np.ndarray)
    constant = first if isinstance(first, np.ndarray) else walk.constant(node, 1)
    if constant is None or (node.operation == "Div" and reverse):
        walk.refuse(node, f"{node.operation} that is not with a constant on its right")
        return x
    number = np.asarray(constant, np.float64)
    if node.operation == "Div" and not number.all():
        walk.problem(node, "a division by 0", "divisors other than 0", "check the constants")
        return x
    one, zero = np.ones_like(number), np.zeros_like(number)
    scale_and_shift = {
        "Add": (one, number),
        "Sub": (-one, number) if reverse else (one, -number),
        "Mul": (number, zero),
        "Div": (one / np.where(number == 0, 1, number), zero),
    }[node.operation]
    return affine(walk, node, x, scale_and_shift)


def affine(
    walk: Walk,
    node: OnnxNode,
    x: Activation,
    scale_and_shift: tuple[Array, Array],
    running: tuple[Array, Array] | None = None,
) -> Activation | None:
    """Append y = scale * x + shift, given in the shape of the ONNX tensor.

    One factor a channel is the normal case. A shift for every place joins the bias of a
    convolution before it; anything else is kept for a dense layer behind.
    """
    if not all(np.isfinite(part).all() for part in scale_and_shift):
        walk.problem(
            node,
            "numbers that are not finite",
            "finite constants, and variances above 0",
            "export the network again, from a checkpoint of before its training diverged",
        )
        return walk.same(x)
    try:
        scale, shift = (_in_place(x, part) for part in scale_and_shift)
    except ValueError:
        walk.problem(
            node,
            f"a constant of shape {scale_and_shift[0].shape} for a tensor {x.index.shape[1:]}",
            "a constant that does not enlarge the tensor",
            "check the constants",
        )
        return None
    places = [part.reshape(x.shape[0], -1) for part in (scale, shift)]
    if not any(np.ptp(part, axis=1).any() for part in places):
        walk.builder.affine(node.name, places[0][:, 0], places[1][:, 0], running)
        return walk.same(x)
    if np.all(scale == 1) and walk.builder.shift_places(shift.reshape(x.shape)):
        return walk.same(x)
    walk.builder.flatten(f"{node.name}.flatten")
    walk.builder.affine(node.name, scale, shift)
    return walk.next(x, (x.size, 1, 1), x.index)


def _in_place(x: Activation, constant: Array) -> Array:
    """Return a constant for every place of the flat (C, H, W) tensor; ValueError if it differs."""
    full = np.broadcast_to(constant, x.index.shape)
    if np.ptp(full.reshape(len(full), -1), axis=0).any():
        raise ValueError("differs from image to image")
    flat = np.empty(x.size)
    flat[x.places] = full[0].reshape(-1)
    return flat


LAYERS: dict[str, Reader] = {
    "Conv": conv,
    "AveragePool": average_pool,
    "MaxPool": max_pool,
    "GlobalAveragePool": global_pool,
    "ReduceMean": reduce_mean,
    "MatMul": matmul,
    "Gemm": gemm,
    "Relu": relu,
    "Clip": clip,
    "Max": maximum,
    "Min": minimum,
    "BatchNormalization": batch_norm,
    "Add": arithmetic,
    "Sub": arithmetic,
    "Mul": arithmetic,
    "Div": arithmetic,
}
