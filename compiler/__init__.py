"""Compile a trained network, without its data, into a private spiking network for Loihi.

    from compiler import compile_model

    result = compile_model("model.onnx", eval=(images, labels))

Importing this package loads nothing else; the names of compiler.api come at their first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.api import Progress, compile_model
    from compiler.result import CompileResult, read_result

__version__ = "0.1.0"
__all__ = ["CompileResult", "Progress", "__version__", "compile_model", "read_result"]

_HOMES = {
    "CompileResult": "compiler.result",
    "Progress": "compiler.api",
    "compile_model": "compiler.api",
    "read_result": "compiler.result",
}


def __getattr__(name: str) -> Any:
    """Names that live in other modules, loaded when they are first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What the package offers, loaded or not."""
    return sorted({*globals(), *_HOMES})
