"""Running an AnnGraph in torch. torch is imported when a function is called, not before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from compiler.ir.ann import AnnGraph, AnnLayer
from compiler.ir.geometry import Array

if TYPE_CHECKING:
    from torch import nn

    from compiler.ir.ann_module import AnnModule


def to_module(graph: AnnGraph, dtype: str = "float32") -> AnnModule:
    """Return `graph` as a frozen torch module; dtype: `float32` or `float64`.

    Takes pixels (N, C, H, W) in [0, 1], returns logits (N, classes). Weights are buffers
    without gradients; gradients flow to the images.
    """
    import torch

    from compiler.ir.ann_module import AnnModule

    module = AnnModule(graph, getattr(torch, dtype))
    return module.eval()


def run_ann(graph: AnnGraph, images_nchw: Array, batch: int = 256, dtype: str = "float32") -> Array:
    """Return logits (N, classes) of images (N, C, H, W) in [0, 1], `batch` images at a time."""
    return _run_batched(to_module(graph, dtype), images_nchw, batch, dtype).reshape(
        len(images_nchw), graph.classes
    )


def run_ann_layers(
    graph: AnnGraph, images_nchw: Array, batch: int = 256, dtype: str = "float32"
) -> Iterator[tuple[AnnLayer, Array]]:
    """Yield (layer, output) for every layer in order; output is (N, C, H, W) of all images.

    Only the outputs of two layers are alive at a time.
    """
    outputs = np.asarray(images_nchw)
    for layer, step in zip(graph.layers, to_module(graph, dtype).steps, strict=True):
        outputs = _run_batched(step, outputs, batch, dtype)
        yield layer, outputs


def run_layer(layer: AnnLayer, inputs_nchw: Array, dtype: str = "float64") -> Array:
    """Return the output (N, C, H, W) of one layer; by default in double precision."""
    import torch

    from compiler.ir.ann_module import layer_module

    step = layer_module(layer, getattr(torch, dtype))
    return _run_batched(step, inputs_nchw, len(inputs_nchw), dtype)


def _run_batched(module: nn.Module, inputs_nchw: Array, batch: int, dtype: str) -> Array:
    import torch

    tensors = torch.from_numpy(np.array(inputs_nchw, dtype=dtype))
    with torch.inference_mode():
        outputs = [module(part) for part in torch.split(tensors, max(batch, 1))]
    joined: Array = torch.cat(outputs).numpy()
    return joined
