"""One reader for each supported torch function and tensor method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from compiler.frontend.torch_common import NUMBER, Chain, array, is_image, shape_of
from compiler.frontend.torch_modules import (
    add_adaptive_pool,
    add_conv,
    add_dense,
    add_pool,
    end_only,
)
from compiler.ir.geometry import ConvGeometry

CallReader = Callable[[Chain, fx.Node], None]


def conv2d(chain: Chain, node: fx.Node) -> None:
    """Read functional conv2d."""
    weight, bias = chain.argument(node, 1, "weight"), chain.argument(node, 2, "bias")
    how = [(3, "stride", 1), (4, "padding", 0), (5, "dilation", 1), (6, "groups", 1)]
    if _constants(chain, node, weight, bias):
        add_conv(chain, node.name, weight, bias, tuple(chain.argument(node, *one) for one in how))


def linear(chain: Chain, node: fx.Node) -> None:
    """Read functional linear."""
    weight, bias = chain.argument(node, 1, "weight"), chain.argument(node, 2, "bias")
    if _constants(chain, node, weight, bias):
        add_dense(chain, node, weight, bias)


def batch_norm(chain: Chain, node: fx.Node) -> None:
    """Read functional batch_norm in evaluation mode."""
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (
        chain.argument(node, place, name) for place, name in enumerate(names, start=1)
    )
    if not _constants(chain, node, mean, variance) or chain.argument(node, 5, "training", False):
        chain.refuse(node, "batch_norm in training mode", "normalisation")
        return
    spread = np.sqrt(array(variance) + chain.argument(node, 7, "eps", 1e-5))
    scale = (1.0 if weight is None else array(weight)) / spread
    shift = (0.0 if bias is None else array(bias)) - array(mean) * scale
    chain.builder.affine(node.name, scale, shift, (array(mean), array(variance)))


def _constants(chain: Chain, node: fx.Node, *values: Any) -> bool:
    if any(isinstance(value, fx.Node) for value in values) or values[0] is None:
        chain.refuse(node, f"{chain.operation(node)} with computed weights")
        return False
    return True


def relu(chain: Chain, node: fx.Node) -> None:
    """Read functional relu."""
    chain.builder.relu(node.name)


def relu6(chain: Chain, node: fx.Node) -> None:
    """Read functional relu6."""
    chain.builder.relu(node.name, 6.0)


def clip(chain: Chain, node: fx.Node) -> None:
    """Read clamp and hardtanh; the lower end must be 0."""
    hard = chain.operation(node) == "hardtanh"
    low = _limit(chain.argument(node, 1, "min_val" if hard else "min", -1.0 if hard else None))
    high = _limit(chain.argument(node, 2, "max_val" if hard else "max", 1.0 if hard else None))
    if isinstance(high, str) or low != 0 or (high is not None and high <= 0):
        chain.refuse(node, f"a clip to {low} .. {high}", "activation")
        return
    chain.builder.relu(node.name, None if high is None else float(high))


def _limit(limit: Any) -> float | str | None:
    """Return a clip's limit: a number, None for none, or words for several or a computed one."""
    if isinstance(limit, torch.Tensor):
        return limit.item() if limit.numel() == 1 else f"limits of shape {tuple(limit.shape)}"
    return limit if limit is None or isinstance(limit, (int, float)) else f"a computed {limit}"


def avg_pool(chain: Chain, node: fx.Node) -> None:
    """Read functional avg_pool2d."""
    windows = [(1, "kernel_size", None), (2, "stride", None), (3, "padding", 0)]
    how = [(4, "ceil_mode", False), (5, "count_include_pad", True), (6, "divisor_override", None)]
    add_pool(
        chain,
        node,
        tuple(chain.argument(node, *one) for one in windows),
        tuple(chain.argument(node, *one) for one in how),
    )


def adaptive_pool(chain: Chain, node: fx.Node) -> None:
    """Read functional adaptive_avg_pool2d."""
    add_adaptive_pool(chain, node, chain.argument(node, 1, "output_size"))


def mean(chain: Chain, node: fx.Node) -> None:
    """Read a mean over height and width as global average pooling."""
    shape = chain.input_shape(node)
    dims = chain.argument(node, 1, "dim")
    axes = sorted(axis % len(shape) for axis in ((dims,) if isinstance(dims, int) else dims or ()))
    if len(shape) != 4 or axes != [2, 3]:
        chain.refuse(node, f"a mean over axes {axes} of {shape[1:]}")
        return
    size = (shape[2], shape[3])
    chain.builder.pool(node.name, size, ConvGeometry(size), True)


def pad(chain: Chain, node: fx.Node) -> None:
    """Read functional pad with a constant, of height and width alone."""
    sizes = [int(size) for size in chain.argument(node, 1, "pad")]
    mode = chain.argument(node, 2, "mode", "constant")
    value = chain.argument(node, 3, "value", None)
    if mode != "constant" or any(sizes[4:]):
        chain.refuse(node, f"padding mode {mode!r} with sizes {sizes}")
        return
    left, right, top, bottom = (*sizes[:4], 0, 0)[:4]
    chain.builder.pad(node.name, ((top, bottom), (left, right)), float(value or 0.0))


def reshape(chain: Chain, node: fx.Node) -> None:
    """Read a change of shape."""
    chain.reshaped(node)


def arithmetic(chain: Chain, node: fx.Node) -> None:
    """Read +, -, *, / with constants as an affine map per channel.

    Scale and shift follow from the results for 0 and 1; the result for 2 tells whether
    the map is affine at all (1 / x is not).
    """
    shape = chain.input_shape(node)
    results = [_evaluated(chain, node, torch.full((1, *shape[1:]), x)) for x in (0.0, 1.0, 2.0)]
    shift, scale = results[0], results[1] - results[0]
    affine = np.isfinite(results).all() and np.allclose(results[2], shift + 2 * scale)
    per_channel = [part.reshape(shape[1], -1) for part in (scale, shift)]
    if not affine or any(np.ptp(part, axis=1).any() for part in per_channel):
        chain.refuse(node, f"{chain.operation(node)} that is not one factor and shift a channel")
        return
    chain.builder.affine(node.name, per_channel[0][:, 0], per_channel[1][:, 0])


def _evaluated(chain: Chain, node: fx.Node, image: torch.Tensor) -> Any:
    def value(one: fx.Node) -> Any:
        return image.double() if is_image(one) else one.meta.get(NUMBER, chain.constant(one))

    args, kwargs = fx.map_arg((node.args, node.kwargs), value)
    if node.op == "call_method":
        result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
    else:
        result = node.target(*args, **kwargs)  # type: ignore[operator]
    return array(result.broadcast_to(image.shape))


def softmax(chain: Chain, node: fx.Node) -> None:
    """Drop functional softmax and log_softmax at the end."""
    end_only(chain, node, chain.argument(node, 1, "dim"))


def dropout(chain: Chain, node: fx.Node) -> None:
    """Drop functional dropout; refuse one that is told to be in training."""
    if chain.argument(node, 2, "train", chain.argument(node, 2, "training", True)):
        chain.problem(
            node,
            f"{chain.operation(node)} that is active outside training too",
            "training=self.training",
            "pass training=self.training, or use torch.nn.Dropout",
        )


def nothing(chain: Chain, node: fx.Node) -> None:
    """Drop what leaves the values alone."""
    if shape_of(node) != chain.input_shape(node):
        chain.reshaped(node)


_ARITHMETIC = ("add", "sub", "mul", "div", "truediv", "true_divide", "rsub", "neg", "subtract",
               "multiply", "divide", "iadd", "isub", "imul", "itruediv")  # fmt: skip
_RESHAPES = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten")
_DROPOUTS = ("dropout", "dropout2d", "feature_dropout", "alpha_dropout")
_NOTHING = ("contiguous", "clone", "detach", "to", "float", "identity")

CALLS: dict[str, CallReader] = {
    "conv2d": conv2d,
    "linear": linear,
    "batch_norm": batch_norm,
    "relu": relu,
    "relu6": relu6,
    "hardtanh": clip,
    "clamp": clip,
    "clip": clip,
    "clamp_min": clip,
    "avg_pool2d": avg_pool,
    "adaptive_avg_pool2d": adaptive_pool,
    "mean": mean,
    "pad": pad,
    "softmax": softmax,
    "log_softmax": softmax,
    **dict.fromkeys(_ARITHMETIC, arithmetic),
    **dict.fromkeys(_RESHAPES, reshape),
    **dict.fromkeys(_DROPOUTS, dropout),
    **dict.fromkeys(_NOTHING, nothing),
}
