""".safetensors files -> a named architecture's torch module, strictly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.errors import ModelError, Problem, UsageError, one_problem
from compiler.frontend.architectures import ARCHITECTURES, IMAGE_SIZES, Factory
from compiler.ir.geometry import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

# Written by DataParallel and by torch.compile in front of every name.
PREFIXES = ("module.", "_orig_mod.")
# A counter that batch-norm keeps in training; older files lack it and nothing reads it.
IGNORED_SUFFIX = "num_batches_tracked"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a file by name, prefixes removed, and the file's own remarks."""

    file: Path
    tensors: dict[str, Tensor]
    remarks: dict[str, str]


def architecture(name: str | None) -> Factory:
    """Return the factory of a named architecture; raises UsageError with all the names."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    raise one_problem(
        UsageError,
        "a .safetensors file holds weights only; its architecture must be named",
        "--arch",
        "nothing" if name is None else repr(name),
        ", ".join(ARCHITECTURES),
        "give --arch NAME, or compile an .onnx file or a pkg.module:factory",
    )


def read_checkpoint(file: Path) -> Checkpoint:
    """Read a .safetensors file; raises ModelError where it is missing or of another kind."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise one_problem(
            ModelError, "no such model", str(file), "no file", "a file", "check the path given"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            remarks = dict(opened.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise one_problem(
            ModelError,
            "the model cannot be read",
            str(file),
            _looks_like(file, str(error)),
            "a complete .safetensors file",
            "write it with safetensors.torch.save_file(model.state_dict(), FILE)",
        ) from error
    return Checkpoint(file, _without_prefix(tensors), remarks)


def load_checkpoint(
    checkpoint: Checkpoint, factory: Factory, input_shape: Shape | None
) -> tuple[nn.Module, Shape]:
    """Return the module filled from the file, and its input shape.

    Without `input_shape` the file's remark is used, then the first common image size that
    fits. Raises ModelError listing all missing, unexpected and misshapen tensors.
    """
    shape = input_shape or _remarked_shape(checkpoint)
    channels = _channels(checkpoint)
    candidates = [shape] if shape else [(channels, size, size) for size in IMAGE_SIZES]
    refused: list[Problem] | None = None
    for candidate in candidates:
        module = _skeleton(factory, candidate, checkpoint)
        problems = _mismatches(module, checkpoint) if module is not None else None
        if module is not None and not problems:
            _fill(module, checkpoint)
            return module, candidate
        refused = refused or problems
    raise ModelError(
        f"{checkpoint.file} does not fit the architecture named",
        refused or [_too_small(checkpoint, candidates)],
    )


def _looks_like(file: Path, error: str) -> str:
    head = file.read_bytes()[:4]
    if head[:2] in (b"PK", b"\x80\x02"):
        return "what looks like a pickled torch file, which is never opened"
    return error


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return tensors


def _remarked_shape(checkpoint: Checkpoint) -> Shape | None:
    sizes = checkpoint.remarks.get("input_shape", "").split(",")
    if len(sizes) != 3 or not all(size.strip().isdigit() for size in sizes):
        return None
    channels, height, width = (int(size) for size in sizes)
    return (channels, height, width)


def _channels(checkpoint: Checkpoint) -> int:
    kernels = [tensor for tensor in checkpoint.tensors.values() if tensor.ndim == 4]
    return int(kernels[0].shape[1]) if kernels else 1


def _skeleton(factory: Factory, shape: Shape, checkpoint: Checkpoint) -> nn.Module | None:
    """Build the module without memory for its weights; None if the image is too small."""
    import torch

    try:
        with torch.device("meta"):
            names = list(factory(shape, 10).state_dict())
            head = next(name for name in reversed(names) if name.endswith("weight"))
            found = checkpoint.tensors.get(head)
            classes = 10 if found is None or found.ndim != 2 else int(found.shape[0])
            return factory(shape, classes)
    except ValueError:
        return None


def _mismatches(module: nn.Module, checkpoint: Checkpoint) -> list[Problem]:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    remedy = "check --arch; the tensors must be named and shaped as in this architecture"
    problems = []
    for name in sorted(wanted.keys() | found.keys()):
        if name.endswith(IGNORED_SUFFIX) or wanted.get(name) == found.get(name):
            continue
        there = f"shape {found[name]}" if name in found else "missing"
        allowed = f"shape {wanted[name]}" if name in wanted else "no tensor of this name"
        problems.append(Problem(name, there, allowed, remedy))
    return problems + [
        Problem(
            name,
            f"numbers of the type {str(tensor.dtype).removeprefix('torch.')}",
            "floating-point numbers",
            "write the weights of the float network; the compiler rounds them itself",
        )
        for name, tensor in sorted(checkpoint.tensors.items())
        if name in wanted and not (name.endswith(IGNORED_SUFFIX) or tensor.is_floating_point())
    ]


def _fill(module: nn.Module, checkpoint: Checkpoint) -> None:
    import torch

    state = {
        name: checkpoint.tensors.get(name, torch.zeros(tensor.shape, dtype=tensor.dtype))
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(state, assign=True)


def _too_small(checkpoint: Checkpoint, shapes: list[Shape]) -> Problem:
    return Problem(
        str(checkpoint.file), f"images of {shapes}", "larger images", "check the input shape"
    )
