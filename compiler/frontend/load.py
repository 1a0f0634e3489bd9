"""A model named on the command line -> AnnGraph."""

from __future__ import annotations

import importlib
import operator
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compiler.errors import ModelError, Problem, UsageError, one_problem
from compiler.frontend.checkpoint import architecture, load_checkpoint, read_checkpoint
from compiler.frontend.normalisation import normalisation
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Shape

if TYPE_CHECKING:
    from torch import nn

Layout = Literal["nchw", "nhwc"]
PICKLED = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".h5", ".keras", ".pb")


def load_model(
    spec: str | Path | nn.Module,
    arch: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    layout: Layout | None = None,
    input_shape: Shape | None = None,
    class_names: tuple[str, ...] = (),
    name: str | None = None,
) -> AnnGraph:
    """Read a trained network and return it as an AnnGraph that takes pixels in [0, 1].

    spec: FILE.onnx, FILE.safetensors (with arch), pkg.module:factory, a function without
    arguments that returns a torch.nn.Module, or such a module, of which a copy is read.
    mean, std: one number a channel, or one for all; the network is fed (pixel - mean) / std.
    layout: order of the axes of an ONNX input, guessed from its shape where None.
    input_shape: (C, H, W) where the model itself does not tell. name: the graph's name, by
    default the file's, the factory's or the module's class's own.

    Raises ModelError with every problem found, UsageError for options that do not exist.
    """
    if not isinstance(spec, (str, Path)):
        return _own_module(spec, mean, std, input_shape, class_names, name)
    text = str(spec)
    suffix = Path(text).suffix.lower()
    if input_shape is not None:
        input_shape = _image_shape(input_shape, text, "input_shape to them")
    if suffix == ".onnx":
        from compiler.frontend.onnx_reader import read_onnx

        graph = read_onnx(Path(text), layout, input_shape, class_names, mean, std)
        _check_options(suffix, arch, None)
        return graph if name is None else _renamed(graph, name)
    module, shape = _torch_module(text, suffix, arch, input_shape)
    _check_options(suffix, None if suffix == ".safetensors" else arch, layout)
    from compiler.frontend.torch_fx import read_module

    normalise = normalisation(mean, std, shape[0])
    own_name = text.rpartition(":")[2] if ":" in text else Path(text).stem
    return read_module(module, shape, name or own_name, normalise, class_names)


def _check_options(suffix: str, arch: str | None, layout: Layout | None) -> None:
    """UsageError for those of the options that are given: they say nothing of such a model."""
    given = (("--arch", arch, ".safetensors"), ("--layout", layout, ".onnx"))
    problems = [
        Problem(
            option,
            f"{value} for a {suffix} file" if suffix else str(value),
            f"a {fits} file, of which alone it says something",
            f"leave {option} out",
        )
        for option, value, fits in given
        if value is not None
    ]
    if problems:
        raise UsageError("options that have no effect", problems)


def _own_module(
    given: nn.Module,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    input_shape: Shape | None,
    class_names: tuple[str, ...],
    name: str | None,
) -> AnnGraph:
    """Read a copy of a module on the CPU, so that the caller's keeps its device and mode."""
    from compiler.frontend.torch_fx import read_module
    from compiler.frontend.torch_wrappers import copied, unwrapped

    module = unwrapped(given)
    kind = type(module).__name__
    shape = _image_shape(input_shape or getattr(module, "input_shape", None), kind, "input_shape=")
    normalise = normalisation(mean, std, shape[0])
    return read_module(copied(module), shape, name or kind, normalise, class_names)


def _torch_module(
    text: str, suffix: str, arch: str | None, input_shape: Shape | None
) -> tuple[nn.Module, Shape]:
    if suffix == ".safetensors":
        factory = architecture(arch)
        return load_checkpoint(read_checkpoint(Path(text)), factory, input_shape)
    if ":" in text and suffix not in PICKLED:
        return _from_factory(text, input_shape)
    raise one_problem(
        ModelError,
        "the model cannot be read",
        text,
        f"a {suffix} file" if suffix else "neither a known file nor pkg.module:factory",
        "FILE.onnx, FILE.safetensors with --arch, or pkg.module:factory",
        "export it to ONNX, or write its state dict with safetensors.torch.save_file; "
        "pickled files are never opened, since they can run any code",
    )


def _from_factory(text: str, input_shape: Shape | None) -> tuple[nn.Module, Shape]:
    from torch import nn

    from compiler.frontend.torch_wrappers import unwrapped

    module_name, _, factory_name = text.rpartition(":")
    try:
        with redirect_stdout(sys.stderr):  # --json - has the standard output for itself
            made: Any = getattr(importlib.import_module(module_name), factory_name)()
    except SystemExit as error:
        raise _bad_factory(
            text, f"code that ends the program (exit status {error.code})"
        ) from error
    except Exception as error:  # the user's code runs here and may raise anything
        raise _bad_factory(text, f"{type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise _bad_factory(text, f"a factory that returns {type(made).__name__}")
    made = unwrapped(made)
    where = "the attribute `input_shape` of the module that the factory returns"
    return made, _image_shape(input_shape or getattr(made, "input_shape", None), text, where)


def _image_shape(shape: Any, source: str, where: str) -> Shape:
    """Three whole numbers above 0; `where` says how the user sets them."""
    try:
        channels, height, width = (operator.index(size) for size in shape)
    except (TypeError, ValueError):
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise one_problem(
            ModelError,
            "the size of the images is not known",
            source,
            f"input_shape {shape}",
            "(channels, height, width)",
            f"set {where}",
        )
    return channels, height, width


def _bad_factory(text: str, found: str) -> Exception:
    return one_problem(
        ModelError,
        "the model's factory cannot be used",
        text,
        found,
        "an importable function without arguments that returns a torch.nn.Module",
        "check the name, that the folder is on PYTHONPATH, and that importing it runs no program",
    )


def _renamed(graph: AnnGraph, name: str) -> AnnGraph:
    from dataclasses import replace

    return replace(graph, name=name)
