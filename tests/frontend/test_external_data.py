"""Tensors in files beside an ONNX file: other content, another network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend.external_data import external_files
from compiler.request import Model, model_key


def dense(path: Path, seed: int, **more: object) -> None:
    """An ONNX file of one dense layer."""
    weight = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph), path, **more)


def test_a_network_trained_again_has_another_key(tmp_path: Path) -> None:
    file, keys, contents = tmp_path / "net.onnx", [], []
    for seed in (0, 1, 0):
        (tmp_path / "net.data").unlink(missing_ok=True)
        dense(file, seed, save_as_external_data=True, size_threshold=0, location="net.data")
        keys.append(model_key(Model(spec=str(file))))
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]
    assert keys[0] == keys[2] != keys[1]
    assert external_files(file) == (tmp_path / "net.data",)


def test_a_file_without_others_and_one_that_is_no_onnx(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    dense(file, 0)
    assert external_files(file) == ()
    file.write_bytes(b"\xff\xff nothing of the kind")
    assert external_files(file) == ()
    assert model_key(Model(spec=str(file)))
