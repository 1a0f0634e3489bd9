"""ONNX files -> AnnGraph: both PyTorch's and TensorFlow's habits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compiler.errors import ModelError, one_problem
from compiler.frontend.chain import ChainBuilder
from compiler.frontend.normalisation import normalisation
from compiler.frontend.onnx_file import OnnxNode, OnnxProgram, open_onnx
from compiler.frontend.onnx_layers import LAYERS
from compiler.frontend.onnx_shapes import SHAPES, in_training
from compiler.frontend.onnx_walk import Activation, Value, Walk, laid_out
from compiler.frontend.refusals import kind_of, refuse
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array, Shape

READERS = {**LAYERS, **SHAPES}
USUAL_CHANNELS = (1, 3, 4)
RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli")
)  # fmt: skip
REFERENCE_OPSETS = {"BatchNormalization": 15, "DequantizeLinear": 19, "QuantizeLinear": 19}
"""Oldest versions of which onnx's reference computes what the older ones mean: before 14 it takes
the batch's own statistics, and it has no older (de)quantization."""
_MISFITS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What reading raises where a file's numbers are not as the specification says."""


def read_onnx(
    file: Path,
    layout: Literal["nchw", "nhwc"] | None = None,
    input_shape: Shape | None = None,
    class_names: tuple[str, ...] = (),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> AnnGraph:
    """Read an ONNX classifier of images; see load_model for the options.

    Raises ModelError with every problem found.
    """
    program = open_onnx(file)
    # A free batch is tried as 2, which shows reshapes that mix images, then as 1, since
    # some exporters leave it free and yet write it into their constants.
    batches = [program.sizes[0]] if program.sizes and program.sizes[0] else [2, 1]
    walk = None
    for batch in batches:
        shape, index = _input(program, layout, input_shape, batch or 1)
        builder = ChainBuilder(program.name, shape)
        scaled = normalisation(mean, std, shape[0])
        if scaled is not None:
            builder.affine("normalisation", *scaled)
        walk = Walk(program, builder)
        walk.values[program.input_name] = Activation(shape, index)
        _walk(walk)
        if not builder.problems:
            break
    if walk is None:
        raise ValueError("no batch size to try")
    return walk.builder.build(class_names)


def _walk(walk: Walk) -> None:
    for node in walk.program.nodes:
        try:
            result = _read(walk, node)
        except _MISFITS as error:
            result = _misfitting(walk, node, error)
        for output in node.outputs[1:]:
            walk.values[output] = None
        walk.values[node.outputs[0]] = result
    final = walk.values.get(walk.program.output_name)
    if isinstance(final, Activation) and not np.array_equal(final.places, np.arange(final.size)):
        walk.builder.problem(
            walk.program.output_name,
            "an output whose elements are in another order than the last layer's",
            "the logits as the last layer makes them",
            "leave out the transpose or reshape at the end",
        )
    elif final is None and not walk.builder.problems:
        walk.builder.problem(
            walk.program.output_name,
            "an output that is a by-product of its operation",
            "the logits as the last layer makes them",
            "declare the first output of the last layer as the network's",
        )
    elif isinstance(final, np.ndarray):
        walk.builder.problem(
            walk.program.output_name,
            "an output that does not depend on the input",
            "a network",
            "check the file",
        )


def _misfitting(walk: Walk, node: OnnxNode, error: Exception) -> Value:
    """Note a node whose numbers do not go together, which ONNX itself does not check."""
    walk.problem(
        node,
        f"{node.operation} whose inputs and attributes do not fit together ({error})",
        "what the ONNX specification says of this operation",
        "export the network again; onnxruntime would refuse this file or misread it",
    )
    return None


def _read(walk: Walk, node: OnnxNode) -> Value:
    """Return what `node` makes of its inputs; notes what is not supported."""
    names = [name for name in node.inputs if name]
    inputs = [walk.values.get(name) for name in names]
    if all(isinstance(one, np.ndarray) for one in inputs):
        _refuse_random(walk, node)
        return _evaluated(walk, node, names)
    images = [one for one in inputs if isinstance(one, Activation)]
    if node.operation == "Shape" and images:
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        return np.array(images[0].index.shape[start:end], dtype=np.int64)
    if walk.lost.intersection(names):
        if not images:
            walk.lost.update(node.outputs)
        return None
    if len(inputs) - sum(isinstance(one, np.ndarray) for one in inputs) > 1:
        return _several(walk, node, images)
    reader = READERS.get(node.operation)
    if reader is None:
        walk.refuse(node)
        return images[0] if images and kind_of(node.operation) == "activation" else None
    if not images:
        return None
    if images[0].version != walk.version:
        walk.refuse(node, f"{node.operation} in a second branch", "branch")
        walk.builder.resume(images[0].shape)
    return reader(walk, node, images[0])


def _refuse_random(walk: Walk, node: OnnxNode) -> None:
    """Refuse what draws new numbers at every run, so that its result is no constant."""
    random = sorted(RANDOM & set(_operations(node.proto)))
    if node.operation == "Dropout" and in_training(walk, node):
        random = ["Dropout"]
    if random:
        walk.problem(
            node,
            f"{', '.join(random)}, drawn anew at every run",
            "constants",
            "store the numbers in the file as an initializer, or leave the noise out",
        )


def _operations(proto: Any) -> Iterator[str]:
    """Yield the operators of a node and of the graphs inside it, as of a branch or a loop."""
    yield proto.op_type
    for attribute in proto.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _operations(inner)


def _several(walk: Walk, node: OnnxNode, images: list[Activation]) -> Value:
    """Refuse an operation on several tensors; a sum has the shape of its first operand.

    A product with an activation that was refused already is a part of it, as in x * sigmoid(x).
    """
    if node.operation == "Mul" and images and walk.refused & set(node.inputs):
        return max(images, key=lambda image: image.size)
    kind = "concat" if kind_of(node.operation) == "concat" else "residual"
    if node.operation not in READERS and kind != "concat":
        kind = kind_of(node.operation)
    found = f"{node.operation} of {', '.join(node.inputs)}"
    walk.builder.problems.append(refuse(node.name, found, kind))
    same_shape = kind == "residual" and images
    return walk.same(images[0]) if same_shape else None


def _evaluated(walk: Walk, node: OnnxNode, names: list[str]) -> Array | None:
    """Compute a node of constants with onnx's own reference implementation."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        for name in dict.fromkeys(names)
    ]
    output = helper.make_tensor_value_info(node.outputs[0], TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node.proto], "constants", inputs, [output])
    version = max(walk.program.opset, REFERENCE_OPSETS.get(node.operation, 0))
    opset = helper.make_opsetid("", version)
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[opset]))
        result = evaluator.run(None, {name: walk.values[name] for name in names})[0]
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        walk.refuse(node, f"{node.operation} of constants ({error})", "unknown")
        walk.lost.update(node.outputs)
        return None
    return np.asarray(result)


def _input(
    program: OnnxProgram,
    layout: Literal["nchw", "nhwc"] | None,
    input_shape: Shape | None,
    batch: int,
) -> tuple[Shape, Array]:
    """Return (C, H, W) of the input and the index of its elements."""
    sizes = program.sizes[1:]
    if layout is None:
        last = len(sizes) == 3 and sizes[2] in USUAL_CHANNELS and sizes[0] not in USUAL_CHANNELS
        layout = "nhwc" if last else "nchw"
    shape = input_shape or _declared_shape(program, sizes, layout)
    index = laid_out(shape, batch)
    if layout == "nhwc":
        index = index.transpose(0, 2, 3, 1)
    known = zip(sizes, index.shape[1:], strict=True) if len(sizes) == 3 else ()
    full = tuple(size or found for size, found in known) or tuple(size or 0 for size in sizes)
    image = index.shape[1:]
    if (full != image) if len(full) == 3 else (math.prod(full) != math.prod(image)):
        raise _misfit(program, f"axes {sizes}", f"{image} for {shape} (C, H, W) as given")
    return shape, index.reshape(batch, *full)


def _declared_shape(program: OnnxProgram, sizes: tuple[int | None, ...], layout: str) -> Shape:
    known = [size for size in sizes if size is not None]
    if len(known) != len(sizes) or not 1 <= len(sizes) <= 3:
        raise _misfit(program, f"axes {sizes}", "a batch and fixed channels, rows, columns")
    if len(known) == 1:
        return (known[0], 1, 1)
    if len(known) == 2:
        return (1, known[0], known[1])
    channels_last = (known[2], known[0], known[1])
    return channels_last if layout == "nhwc" else (known[0], known[1], known[2])


def _misfit(program: OnnxProgram, found: str, allowed: str) -> Exception:
    return one_problem(
        ModelError,
        "the input's shape does not fit",
        program.input_name,
        found,
        allowed,
        "export with a fixed image size (only the batch may be free), or give it: "
        "--input-shape C,H,W",
    )
