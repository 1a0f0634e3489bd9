"""Torch modules -> AnnGraph, traced by torch.fx so that functional calls are seen as well."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from compiler.errors import Problem
from compiler.frontend.chain import ChainBuilder
from compiler.frontend.refusals import kind_of, refuse
from compiler.frontend.torch_calls import CALLS
from compiler.frontend.torch_check import check_same
from compiler.frontend.torch_common import DTYPE, SHAPE, Chain, layer_name, shape_of, tensor_inputs
from compiler.frontend.torch_modules import hooks_of, reader_of
from compiler.frontend.torch_trace import trace
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Shape


def read_module(
    module: nn.Module,
    input_shape: Shape,
    name: str,
    normalise: tuple[Any, Any] | None = None,
    class_names: tuple[str, ...] = (),
) -> AnnGraph:
    """Return the AnnGraph of a module that takes (N, C, H, W).

    normalise: scale and shift per channel applied to the pixels first. Raises ModelError
    with everything that is not supported, or where the graph computes something else than
    the module on a few probe images.
    """
    module = module.float().eval()
    traced, problems = trace(module, input_shape, name)
    builder = ChainBuilder(name, input_shape)
    builder.problems += [*_hooks(name, module), *problems]
    if normalise is not None:
        builder.affine("normalisation", *normalise)
    chain = Chain(traced, builder)
    for node in traced.graph.nodes:
        _read_node(chain, node)
    graph = builder.build(class_names)
    check_same(module, graph, input_shape, normalise, chain.ending)
    return graph


def _read_node(chain: Chain, node: fx.Node) -> None:
    if node.op == "placeholder":
        chain.current = node if chain.current is None else chain.current
        if node is not chain.current:
            chain.problem(node, f"a second input {node.target}", "one input", "keep the image only")
        return
    if node.op in ("get_attr", "output") or SHAPE not in node.meta:
        return
    inputs = tensor_inputs(node)
    operation = chain.operation(node)
    if shape_of(node) is None:
        chain.refuse(node)  # several tensors at once, as from an LSTM or torch.split
        return
    if len(inputs) > 1:
        kind = "concat" if kind_of(operation) == "concat" else "residual"
        chain.builder.problems.append(
            refuse(layer_name(node), f"{operation} of {len(inputs)} tensors", kind)
        )
    elif inputs and inputs[0] is not chain.current:
        chain.builder.problems.append(
            refuse(layer_name(node), f"{operation} of {inputs[0]}, a second branch", "branch")
        )
    elif node.op == "call_module":
        module = chain.traced.get_submodule(str(node.target))
        chain.builder.problems += _hooks(layer_name(node), module)
        handler = reader_of(module)
        if handler is None:
            chain.refuse(node)
        else:
            handler(chain, node, module)
    elif operation in CALLS and not node.meta[DTYPE].is_floating_point:
        chain.problem(
            node,
            f"{operation}, which makes {node.meta[DTYPE]}",
            "float tensors throughout",
            "leave the conversion out, or do it to the images before the network",
        )
    elif operation in CALLS:
        CALLS[operation](chain, node)
    elif inputs or operation != "getitem":
        chain.refuse(node)
    chain.current = node
    chain.resync(node)


def _hooks(layer: str, module: nn.Module) -> list[Problem]:
    return [
        Problem(
            layer,
            f"a forward hook {hook}",
            "layers without hooks but those that set weights (weight_norm, spectral_norm, prune)",
            "remove the hook, or write what it does into the forward",
        )
        for hook in hooks_of(module)
    ]
