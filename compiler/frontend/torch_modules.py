"""One reader for each supported torch module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from compiler.frontend.pooling import pool_geometry
from compiler.frontend.torch_common import Chain, array, layer_name, optional, pair, shape_of
from compiler.ir.geometry import ConvGeometry, Pair

ModuleReader = Callable[[Chain, fx.Node, Any], None]


def conv2d(chain: Chain, node: fx.Node, module: nn.Conv2d) -> None:
    """Read a convolution; only zero padding."""
    if module.padding_mode != "zeros" and any(_sizes(module)):
        chain.problem(
            node, f"padding_mode={module.padding_mode!r}", "'zeros'", "train with zero padding"
        )
    add_conv(
        chain,
        layer_name(node),
        module.weight,
        module.bias,
        (module.stride, module.padding, module.dilation, module.groups),
    )


def _sizes(module: nn.Conv2d) -> tuple[int, ...]:
    return (1,) if isinstance(module.padding, str) else module.padding


def add_conv(chain: Chain, name: str, weight: Any, bias: Any, how: tuple[Any, ...]) -> None:
    """Append a convolution given as torch gives it: how = stride, padding, dilation, groups."""
    stride, padding, dilation, groups = how
    spread = pair(dilation)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    geometry = ConvGeometry(pair(stride), _padding(padding, kernel, spread), spread, groups)
    chain.builder.conv(name, array(weight), optional(bias), geometry)


def _padding(padding: Any, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding == "same":
        rows, columns = (dilation[axis] * (kernel[axis] - 1) for axis in range(2))
        return ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    rows, columns = pair(padding)
    return ((rows, rows), (columns, columns))


def linear(chain: Chain, node: fx.Node, module: nn.Linear) -> None:
    """Read a dense layer of a vector."""
    add_dense(chain, node, module.weight, module.bias)


def add_dense(chain: Chain, node: fx.Node, weight: Any, bias: Any) -> None:
    """Append a dense layer given as torch gives it."""
    if len(chain.input_shape(node)) != 2:
        chain.problem(
            node,
            f"a dense layer over the last axis of {chain.input_shape(node)[1:]}",
            "a dense layer of a vector",
            "flatten first, or use a 1x1 convolution",
        )
        return
    chain.builder.dense(layer_name(node), array(weight), optional(bias))


def batch_norm(chain: Chain, node: fx.Node, module: nn.BatchNorm2d) -> None:
    """Read a batch-norm with running statistics as an affine map per channel."""
    if module.running_mean is None or module.running_var is None:
        chain.problem(
            node,
            "batch-norm without running statistics",
            "track_running_stats=True",
            "train with running statistics",
        )
        return
    mean, variance = array(module.running_mean), array(module.running_var)
    weight, bias = optional(module.weight), optional(module.bias)
    scale = (np.ones_like(mean) if weight is None else weight) / np.sqrt(variance + module.eps)
    shift = (np.zeros_like(mean) if bias is None else bias) - mean * scale
    chain.builder.affine(layer_name(node), scale, shift, (mean, variance))


def avg_pool(chain: Chain, node: fx.Node, module: nn.AvgPool2d) -> None:
    """Read average pooling."""
    add_pool(
        chain,
        node,
        (module.kernel_size, module.stride, module.padding),
        (module.ceil_mode, module.count_include_pad, module.divisor_override),
    )


def add_pool(chain: Chain, node: fx.Node, windows: tuple[Any, ...], how: tuple[Any, ...]) -> None:
    """Append average pooling: windows = kernel, stride, padding; how = ceil_mode and so on."""
    kernel_size, stride, padding = windows
    ceil_mode, count_include_pad, divisor = how
    kernel = pair(kernel_size)
    if divisor not in (None, kernel[0] * kernel[1]):
        chain.problem(node, f"divisor_override={divisor}", "None", "use plain average pooling")
    rows, columns = pair(padding)
    geometry = ConvGeometry(pair(stride or kernel), ((rows, rows), (columns, columns)))
    size = chain.input_shape(node)[2:]
    found = pool_geometry((size[0], size[1]), kernel, geometry, ceil_mode, count_include_pad)
    if found is None:
        chain.problem(
            node,
            "average pooling with ceil_mode, padding and count_include_pad together",
            "ceil_mode without padding, or with count_include_pad=False",
            "set ceil_mode=False",
        )
        return
    chain.builder.pool(layer_name(node), kernel, *found)


def adaptive_pool(chain: Chain, node: fx.Node, module: nn.AdaptiveAvgPool2d) -> None:
    """Read adaptive average pooling whose windows are all of one size."""
    add_adaptive_pool(chain, node, module.output_size)


def add_adaptive_pool(chain: Chain, node: fx.Node, output_size: Any) -> None:
    """Append adaptive average pooling to `output_size`."""
    size = chain.input_shape(node)[2:]
    wanted = (output_size, output_size) if isinstance(output_size, int) else output_size
    target = [size[axis] if wanted[axis] is None else wanted[axis] for axis in range(2)]
    if any(size[axis] % target[axis] for axis in range(2)):
        chain.problem(
            node,
            f"adaptive pooling from {tuple(size)} to {tuple(target)}",
            "an input size that is a multiple of the output size",
            "use average pooling with a fixed window",
        )
        return
    kernel = (size[0] // target[0], size[1] // target[1])
    chain.builder.pool(layer_name(node), kernel, ConvGeometry(kernel), True)


def hardtanh(chain: Chain, node: fx.Node, module: nn.Hardtanh) -> None:
    """Read ReLU6 and its like; the lower end must be 0."""
    if module.min_val != 0 or module.max_val <= 0:
        chain.refuse(node, f"a clip to {module.min_val:g} .. {module.max_val:g}", "activation")
        return
    chain.builder.relu(layer_name(node), float(module.max_val))


def zero_pad(chain: Chain, node: fx.Node, module: Any) -> None:
    """Read padding with a constant."""
    left, right, top, bottom = module.padding
    value = float(getattr(module, "value", 0.0))
    chain.builder.pad(layer_name(node), ((top, bottom), (left, right)), value)


def flatten(chain: Chain, node: fx.Node, module: nn.Flatten) -> None:
    """Read a flatten of everything but the batch."""
    chain.reshaped(node)


def softmax(chain: Chain, node: fx.Node, module: nn.Softmax | nn.LogSoftmax) -> None:
    """Drop a soft-max at the end, which leaves the order of the classes; refuse any other."""
    end_only(chain, node, module.dim)


def end_only(chain: Chain, node: fx.Node, axis: int | None) -> None:
    """Accept a soft-max where nothing but the output follows and `axis` is that of the classes.

    axis: None for torch's own choice, the first behind the batch but for three axes.
    """
    operation, shape = chain.operation(node), shape_of(node) or ()
    if any(user.op != "output" for user in node.users):
        chain.refuse(node, f"{operation} inside the network", "activation")
        return
    place = (0 if len(shape) == 3 else 1) if axis is None else axis % len(shape)
    if place == 0 or shape[place] != np.prod(shape[1:]):
        chain.problem(
            node,
            f"{operation} over axis {place} of {shape} (for two images)",
            "the axis of the classes",
            "give the axis of the classes, as in dim=1, or leave the soft-max out",
        )
    chain.ending = torch.log_softmax if "log" in operation.lower() else torch.softmax


def normalize(chain: Chain, node: fx.Node, module: Any) -> None:
    """Read torchvision's Normalize as an affine map per channel."""
    channels = chain.input_shape(node)[1]
    mean, std = (
        np.broadcast_to(np.asarray(part, float), channels) for part in (module.mean, module.std)
    )
    chain.builder.affine(layer_name(node), 1 / std, -mean / std)


def relu(chain: Chain, node: fx.Node, module: Any) -> None:
    """Read a ReLU."""
    chain.builder.relu(layer_name(node))


def nothing(chain: Chain, node: fx.Node, module: Any) -> None:
    """Drop what does nothing outside training."""


MODULES: dict[type, ModuleReader] = {
    nn.Conv2d: conv2d,
    nn.Linear: linear,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm1d: batch_norm,
    nn.AvgPool2d: avg_pool,
    nn.AdaptiveAvgPool2d: adaptive_pool,
    nn.ReLU: relu,
    nn.ReLU6: hardtanh,
    nn.Hardtanh: hardtanh,
    nn.ZeroPad2d: zero_pad,
    nn.ConstantPad2d: zero_pad,
    nn.Flatten: flatten,
    nn.Unflatten: flatten,
    nn.Softmax: softmax,
    nn.LogSoftmax: softmax,
    nn.Dropout: nothing,
    nn.Dropout2d: nothing,
    nn.AlphaDropout: nothing,
    nn.Identity: nothing,
}
NAMED_MODULES: dict[str, ModuleReader] = {
    "torchvision.transforms.transforms.Normalize": normalize,
    "torchvision.transforms.v2._misc.Normalize": normalize,
}
# Hooks that do no more than set the layer's weights, before they are read here.
WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)


def reader_of(module: nn.Module) -> ModuleReader | None:
    """Return the reader of a module's class or of the nearest base class, None without one."""
    kind = type(module)
    named = NAMED_MODULES.get(f"{kind.__module__}.{kind.__name__}")
    return named or next((MODULES[base] for base in kind.__mro__ if base in MODULES), None)


def hooks_of(module: nn.Module) -> list[str]:
    """Return the names of the forward hooks of a module that may change what it computes."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return [
        getattr(hook, "__qualname__", type(hook).__name__)
        for hook in hooks
        if not isinstance(hook, WEIGHT_HOOKS)
    ]
