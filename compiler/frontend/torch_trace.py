"""Tracing a torch module with torch.fx: its calls in order, and what each one returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from compiler.errors import ModelError, Problem, one_problem
from compiler.frontend.refusals import kind_of, refuse
from compiler.frontend.torch_common import DTYPE, NUMBER, SHAPE, layer_name
from compiler.frontend.torch_inplace import Changes, follow_changes
from compiler.frontend.torch_modules import reader_of
from compiler.ir.geometry import Shape


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep torch's own modules and torchvision's transforms whole."""
        own = m.__module__.startswith("torchvision.transforms")
        return own or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Runs a traced module; notes what every node returns and changes, and where it failed."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced, garbage_collect_values=False)
        self.at = ""
        self.changes: Changes = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        self.at = layer_name(n)
        before = {one: _version(self.env[one]) for one in n.all_input_nodes}
        result = super().run_node(n)
        changed = [one for one, version in before.items() if _version(self.env[one]) != version]
        if changed:
            self.changes[n] = changed
        _describe(n, result)
        return result


def _version(value: Any) -> int:
    """Return how often a tensor, or one that it shares its memory with, was changed in place."""
    if not isinstance(value, torch.Tensor) or value.is_inference():
        return 0
    return value._version


def _describe(node: fx.Node, result: Any) -> None:
    if isinstance(result, torch.Tensor):
        node.meta[SHAPE], node.meta[DTYPE] = tuple(result.shape), result.dtype
    elif isinstance(result, (int, float)):
        node.meta[NUMBER] = result
    elif isinstance(result, (tuple, list)) and any(isinstance(one, torch.Tensor) for one in result):
        node.meta[SHAPE] = None


def trace(module: nn.Module, input_shape: Shape, name: str) -> tuple[fx.GraphModule, list[Problem]]:
    """Return `module` traced, every node's result noted for a batch of two, and problems.

    What is changed in place is followed: later nodes read the node that changed it. The
    problems are changes that cannot be followed. Raises ModelError where `module` cannot be
    traced or does not run.
    """
    traced = _traced(module, name)
    recorder = _Recorder(traced)
    try:
        with torch.no_grad():
            recorder.run(torch.zeros(2, *input_shape))
    except Exception as error:  # the user's code runs here and may raise anything
        raise ModelError(
            f"{name} does not run on images of shape {input_shape}",
            [*_unsupported(traced), _failure(recorder.at, input_shape, error)],
        ) from error
    problems = follow_changes(traced.graph, recorder.env, recorder.changes)
    traced.graph.eliminate_dead_code()
    return traced, problems


def _traced(module: nn.Module, name: str) -> fx.GraphModule:
    try:
        return fx.GraphModule(module, _Tracer().trace(module))
    except Exception as error:  # the user's forward runs here and may raise anything
        raise one_problem(
            ModelError,
            f"{name} cannot be traced",
            type(module).__name__,
            f"{type(error).__name__}: {error}",
            "a forward without branches that depend on the data",
            "simplify the forward, or export the network to ONNX and compile that",
        ) from error


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
            if reader_of(module) is None and kind_of(kind) != "unknown":
                found.append(refuse(node.target, kind))
    return found
