"""The module inside a wrapper, and a copy of it that is safe to change."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from compiler.errors import ModelError, one_problem

WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}
"""Class of torch's that runs another module as it is -> the attribute that holds that one."""


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile or DataParallel wrapped; others as they are.

    Raises ModelError for what holds no Python code to read (torch.jit) and for weights that are
    not there (the meta device).
    """
    while type(module).__module__.startswith("torch.") and type(module).__name__ in WRAPPERS:
        module = getattr(module, WRAPPERS[type(module).__name__])
    if isinstance(module, torch.jit.ScriptModule):
        raise one_problem(
            ModelError,
            "the model cannot be read",
            type(module).__name__,
            "a network compiled by torch.jit",
            "a torch.nn.Module in Python",
            "give the module from before torch.jit.script or torch.jit.trace",
        )
    absent = [name for name, tensor in module.state_dict().items() if tensor.is_meta]
    if absent:
        raise one_problem(
            ModelError,
            "the model has no weights",
            type(module).__name__,
            f"{absent[0]} on the meta device, which keeps shapes alone",
            "weights on a CPU or a GPU",
            "build the module on a device, and load its trained state dict",
        )
    return module


def copied(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU, also of weights that a hook computes (weight_norm, prune).

    torch refuses a deep copy of computed tensors; their values are copied in their place.
    """
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    }
    return deepcopy(module, dict(computed)).cpu()
