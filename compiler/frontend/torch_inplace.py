"""Following what a traced module changes in place, so that its graph reads as a chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from compiler.errors import Problem
from compiler.frontend.torch_common import layer_name

# Node -> those of its inputs whose tensors it changes.
Changes = dict[fx.Node, list[fx.Node]]


def follow_changes(graph: fx.Graph, values: dict[fx.Node, Any], changes: Changes) -> list[Problem]:
    """Let whatever reads a changed tensor read the node that changed it last.

    values: what every node returned, all of one run. Returns the changes that cannot be
    followed: of parameters and buffers, or of memory that another tensor read later shares.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    problems = []
    for node, changed in changes.items():
        for one in changed:
            obstacle = _follow(node, values[one], values, order)
            if obstacle is not None:
                problems.append(_problem(node, one, obstacle))
    return problems


def _follow(
    node: fx.Node, tensor: torch.Tensor, values: dict[fx.Node, Any], order: dict[fx.Node, int]
) -> str | None:
    """Pass the change of `tensor` by `node` on to later nodes; return what forbids it."""
    sharing = [one for one, value in values.items() if _share_memory(value, tensor)]
    if any(one.op == "get_attr" for one in sharing):
        return "which is a parameter or a buffer"
    stale = [one for one in sharing if order[one] < order[node] and _read_after(one, node, order)]
    if any(values[one] is not tensor for one in stale):
        return "whose memory another tensor shares that is read later"
    if stale and values[node] is not tensor:
        return "which is read later but not returned"
    for one in stale:
        one.replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > order[node])
    return None


def _read_after(one: fx.Node, node: fx.Node, order: dict[fx.Node, int]) -> bool:
    return any(order[user] > order[node] for user in one.users)


def _share_memory(value: Any, tensor: torch.Tensor) -> bool:
    """Whether `value` is `tensor`, or any view of the same memory, or holds one."""
    if isinstance(value, (tuple, list)):
        return any(_share_memory(one, tensor) for one in value)
    if value is tensor:
        return True
    if not isinstance(value, torch.Tensor) or {value.layout, tensor.layout} != {torch.strided}:
        return False
    return _memory(value) == _memory(tensor)


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _problem(node: fx.Node, changed: fx.Node, obstacle: str) -> Problem:
    return Problem(
        layer_name(node),
        f"a change in place of {layer_name(changed)}, {obstacle}",
        "changes in place of a whole tensor that is read by no other name",
        "write the result to a variable of its own: no inplace=True, out=, x[...] = y or x.op_()",
    )
