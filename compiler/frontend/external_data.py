"""The files beside an ONNX file that hold its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto


def external_files(path: Path) -> tuple[Path, ...]:
    """Files that the ONNX file `path` names for its tensors' data, sorted; those that are there.

    The ONNX file itself has offsets into them alone, so that it is the same whatever they hold.
    Empty for a file that is no ONNX: reading it says so.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (DecodeError, OSError, ValueError):
        return ()
    named = {
        entry.value
        for tensor in _tensors(graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(file for name in sorted(named) if (file := path.parent / name).is_file())


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Of the graph and of every graph inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)
