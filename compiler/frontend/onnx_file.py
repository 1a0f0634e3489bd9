"""Opening an ONNX file: checked, local functions inlined, cut down to what the output needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compiler.errors import ModelError, Problem, one_problem
from compiler.ir.geometry import Array

OLDEST_OPSET, NEWEST_OPSET = 9, 22
FLOAT_TYPES = (1, 10, 11)  # TensorProto FLOAT, FLOAT16, DOUBLE


@dataclass(frozen=True)
class OnnxNode:
    """One operation: its type, its name (that of its output where it has none), its wires."""

    operation: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    proto: Any


@dataclass(frozen=True)
class OnnxProgram:
    """The operations between one input and one output, in order.

    sizes: the input's axes, batch first, None where an axis is free.
    """

    name: str
    opset: int
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, Array]
    input_name: str
    sizes: tuple[int | None, ...]
    output_name: str


def open_onnx(file: Path) -> OnnxProgram:
    """Read and check an ONNX file; raises ModelError with everything that is wrong with it."""
    model, constants = _checked(file)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    graph = model.graph
    inputs = [one for one in graph.input if one.name not in constants]
    problems = _interface_problems(file, opset, inputs, list(graph.output))
    if problems:
        raise ModelError(f"{file} cannot be compiled", problems)
    return OnnxProgram(
        name=file.stem,
        opset=opset,
        nodes=_needed(graph.node, graph.output[0].name),
        constants=constants,
        input_name=inputs[0].name,
        sizes=_sizes(inputs[0]),
        output_name=graph.output[0].name,
    )


def _checked(file: Path) -> tuple[Any, dict[str, Array]]:
    """The model, local functions inlined, and its initializers."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from onnx import checker, inliner, numpy_helper

    if not file.is_file():
        raise one_problem(
            ModelError, "no such model", str(file), "no file", "a file", "check the path given"
        )
    try:
        model = onnx.load(file)
        checker.check_model(model)
        constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
        return inliner.inline_local_functions(model), constants
    except (
        DecodeError,
        checker.ValidationError,
        KeyError,
        OSError,
        TypeError,
        ValueError,
    ) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise one_problem(
            ModelError,
            "the model cannot be read",
            str(file),
            first_line,
            "a complete ONNX file that passes onnx.checker",
            "export the network again, and keep a file of external data beside it",
        ) from error


def _interface_problems(
    file: Path, opset: int, inputs: list[Any], outputs: list[Any]
) -> list[Problem]:
    problems = []
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        problems.append(
            Problem(
                str(file),
                f"operator set {opset}",
                f"{OLDEST_OPSET} to {NEWEST_OPSET}",
                "export again with opset_version=17, or use onnx.version_converter",
            )
        )
    for what, values in (("inputs", inputs), ("outputs", outputs)):
        if len(values) != 1:
            names = ", ".join(one.name for one in values) or "none"
            problems.append(
                Problem(str(file), f"{what} {names}", "exactly one", "export the classifier alone")
            )
    for one in inputs[:1]:
        if one.type.tensor_type.elem_type not in FLOAT_TYPES:
            problems.append(
                Problem(one.name, "an input that is no float", "float32", "export for float images")
            )
    return problems


def _sizes(value: Any) -> tuple[int | None, ...]:
    """Return an input's axes; a size that is named, missing or 0 is free."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in dims)


def _needed(nodes: Any, output: str) -> tuple[OnnxNode, ...]:
    """Return the nodes that the output depends on, in their order."""
    wanted, kept = {output}, []
    for proto in reversed(list(nodes)):
        node = _node(proto)
        if wanted & set(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))


def _node(proto: Any) -> OnnxNode:
    from onnx import helper

    attributes = {one.name: helper.get_attribute_value(one) for one in proto.attribute}
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
    return OnnxNode(
        operation=domain + proto.op_type,
        name=proto.name or proto.output[0],
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes={
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in attributes.items()
        },
        proto=proto,
    )
