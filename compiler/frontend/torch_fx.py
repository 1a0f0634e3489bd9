"""Torch modules -> AnnGraph, traced by torch.fx so that functional calls are seen as well."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from compiler.errors import ModelError, Problem, one_problem
from compiler.frontend.chain import ChainBuilder
from compiler.frontend.refusals import kind_of, refuse
from compiler.frontend.torch_calls import CALLS
from compiler.frontend.torch_common import SHAPE, Chain, shape_of, tensor_inputs
from compiler.frontend.torch_modules import MODULES, NAMED_MODULES, ModuleReader
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Shape


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep torch's own modules and torchvision's transforms whole."""
        own = m.__module__.startswith("torchvision.transforms")
        return own or super().is_leaf_module(m, module_qualified_name)


def read_module(
    module: nn.Module,
    input_shape: Shape,
    name: str,
    normalise: tuple[Any, Any] | None = None,
    class_names: tuple[str, ...] = (),
) -> AnnGraph:
    """Return the AnnGraph of a module that takes (N, C, H, W).

    normalise: scale and shift per channel applied to the pixels first. Raises ModelError
    with everything that is not supported.
    """
    traced = _traced(module.float().eval(), input_shape, name)
    builder = ChainBuilder(name, input_shape)
    if normalise is not None:
        builder.affine("normalisation", *normalise)
    chain = Chain(traced, builder)
    for node in traced.graph.nodes:
        _read_node(chain, node)
    return builder.build(class_names)


class _Shapes(fx.Interpreter):
    """Runs a traced module and notes the shape of every tensor; knows where it failed."""

    at = ""

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        self.at = str(n.target) if n.op == "call_module" else n.name
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            n.meta[SHAPE] = tuple(result.shape)
        elif isinstance(result, (tuple, list)) and any(
            isinstance(one, torch.Tensor) for one in result
        ):
            n.meta[SHAPE] = None
        return result


def _traced(module: nn.Module, input_shape: Shape, name: str) -> fx.GraphModule:
    """Trace `module` and note the shape of every tensor, for a batch of two."""
    try:
        traced = fx.GraphModule(module, _Tracer().trace(module))
        traced.graph.eliminate_dead_code()
    except Exception as error:  # the user's forward runs here and may raise anything
        raise one_problem(
            ModelError,
            f"{name} cannot be traced",
            type(module).__name__,
            f"{type(error).__name__}: {error}",
            "a forward without branches that depend on the data",
            "simplify the forward, or export the network to ONNX and compile that",
        ) from error
    shapes = _Shapes(traced)
    try:
        with torch.no_grad():
            shapes.run(torch.zeros(2, *input_shape))
    except Exception as error:  # as above
        raise ModelError(
            f"{name} does not run on images of shape {input_shape}",
            [*_unsupported(traced), _failure(shapes.at, input_shape, error)],
        ) from error
    return traced


def _failure(layer: str, input_shape: Shape, error: Exception) -> Problem:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return Problem(
        layer,
        first_line,
        "a network that takes (N, C, H, W)",
        f"check the input shape (C, H, W) = {input_shape}",
    )


def _unsupported(traced: fx.GraphModule) -> list[Problem]:
    """Return the problems of modules that no shape is needed to refuse."""
    found = []
    for node in traced.graph.nodes:
        if node.op == "call_module":
            module = traced.get_submodule(node.target)
            kind = type(module).__name__
            if _handler(module) is None and kind_of(kind) != "unknown":
                found.append(refuse(node.target, kind))
    return found


def _handler(module: nn.Module) -> ModuleReader | None:
    kind = type(module)
    named = NAMED_MODULES.get(f"{kind.__module__}.{kind.__name__}")
    return named or next((MODULES[base] for base in kind.__mro__ if base in MODULES), None)


def _read_node(chain: Chain, node: fx.Node) -> None:
    if node.op == "placeholder":
        chain.current = node if chain.current is None else chain.current
        if node is not chain.current:
            chain.problem(node, f"a second input {node.target}", "one input", "keep the image only")
        return
    if node.op in ("get_attr", "output") or SHAPE not in node.meta:
        return
    inputs = tensor_inputs(chain, node)
    operation = chain.operation(node)
    if shape_of(node) is None:
        chain.refuse(node)  # several tensors at once, as from an LSTM or torch.split
        return
    if len(inputs) > 1:
        kind = "concat" if kind_of(operation) == "concat" else "residual"
        chain.builder.problems.append(
            refuse(chain.name(node), f"{operation} of {len(inputs)} tensors", kind)
        )
    elif inputs and inputs[0] is not chain.current:
        chain.builder.problems.append(
            refuse(chain.name(node), f"{operation} of {inputs[0]}, a second branch", "branch")
        )
    elif node.op == "call_module":
        module = chain.traced.get_submodule(str(node.target))
        handler = _handler(module)
        if handler is None:
            chain.refuse(node)
        else:
            handler(chain, node, module)
    elif operation in CALLS:
        CALLS[operation](chain, node)
    elif inputs or operation != "getitem":
        chain.refuse(node)
    chain.current = node
    chain.resync(node)
