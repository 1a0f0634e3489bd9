"""An AnnGraph as a torch module. Importing this imports torch; compiler.ir.run_ann does it late."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.ir.ann import (
    AnnGraph,
    AnnLayer,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    InputAffine,
    Relu,
)
from compiler.ir.geometry import Array, ConvGeometry


class AnnModule(nn.Module):
    """Runs an AnnGraph; parameters are frozen, gradients flow to the images.

    `forward` takes (N, C, H, W) pixels in [0, 1] and returns logits (N, classes). Between
    layers a vector of F features is (N, F, 1, 1).
    """

    def __init__(self, graph: AnnGraph, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.graph = graph
        self.steps = nn.ModuleList(layer_module(layer, dtype) for layer in graph.layers)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, C, H, W)."""
        outputs = images_nchw
        for step in self.steps:
            outputs = step(outputs)
        return outputs.flatten(1)

    def layer_outputs(self, images_nchw: Tensor) -> Iterator[tuple[AnnLayer, Tensor]]:
        """Yield every layer with its output (N, C, H, W), in order."""
        outputs = images_nchw
        for layer, step in zip(self.graph.layers, self.steps, strict=True):
            outputs = step(outputs)
            yield layer, outputs


def layer_module(layer: AnnLayer, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a module that computes `layer` on (N, C, H, W)."""
    if isinstance(layer, Conv2d):
        return _Conv(layer, dtype)
    if isinstance(layer, Dense):
        return _Dense(layer, dtype)
    if isinstance(layer, AvgPool2d):
        return _AvgPool(layer)
    if isinstance(layer, BatchNorm):
        return _Affine(layer.scale, layer.shift, dtype)
    if isinstance(layer, InputAffine):
        return _Normalise(layer, dtype)
    if isinstance(layer, Relu):
        return nn.ReLU() if layer.maximum is None else nn.Hardtanh(0.0, layer.maximum)
    if isinstance(layer, Flatten):
        return _Flatten()
    raise TypeError(f"no module for {type(layer).__name__}")


def _buffer(array: Array | None, dtype: torch.dtype) -> Tensor | None:
    return None if array is None else torch.tensor(array, dtype=dtype)


class _Padded(nn.Module):
    """Zero padding that may differ between opposite sides."""

    def __init__(self, geometry: ConvGeometry) -> None:
        super().__init__()
        (top, bottom), (left, right) = geometry.padding
        self.symmetric = (top, left) if geometry.symmetric else (0, 0)
        self.before = None if geometry.symmetric else (left, right, top, bottom)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs if self.before is None else functional.pad(inputs, self.before)


class _Conv(nn.Module):
    weight: Tensor
    bias: Tensor | None
    border: Tensor | None

    def __init__(self, layer: Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.geometry = layer.geometry
        self.pad = _Padded(layer.geometry)
        per_place = layer.bias is not None and layer.bias.ndim == 3
        self.register_buffer("weight", _buffer(layer.weight, dtype))
        self.register_buffer("bias", None if per_place else _buffer(layer.bias, dtype))
        self.register_buffer("border", _buffer(layer.bias, dtype) if per_place else None)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = functional.conv2d(
            self.pad(inputs),
            self.weight,
            self.bias,
            stride=self.geometry.stride,
            padding=self.pad.symmetric,
            dilation=self.geometry.dilation,
            groups=self.geometry.groups,
        )
        return outputs if self.border is None else outputs + self.border


class _Dense(nn.Module):
    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Dense, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", _buffer(layer.weight, dtype))
        self.register_buffer("bias", _buffer(layer.bias, dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = functional.linear(inputs.flatten(1), self.weight, self.bias)
        return outputs[:, :, None, None]


class _AvgPool(nn.Module):
    def __init__(self, layer: AvgPool2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        sums = self._window_sums(inputs)
        if self.layer.count_include_pad:
            return sums / (self.layer.kernel[0] * self.layer.kernel[1])
        counts = self._window_sums(torch.ones_like(inputs[:1, :1]))
        return sums / counts.clamp(min=1)

    def _window_sums(self, inputs: Tensor) -> Tensor:
        geometry = self.layer.geometry
        (top, bottom), (left, right) = geometry.padding
        channels = inputs.shape[1]
        ones = torch.ones(channels, 1, *self.layer.kernel, dtype=inputs.dtype, device=inputs.device)
        return functional.conv2d(
            functional.pad(inputs, (left, right, top, bottom)),
            ones,
            stride=geometry.stride,
            dilation=geometry.dilation,
            groups=channels,
        )


class _Affine(nn.Module):
    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Array, shift: Array, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=dtype)[:, None, None])
        self.register_buffer("shift", torch.tensor(shift, dtype=dtype)[:, None, None])

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale + self.shift


class _Normalise(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, layer: InputAffine, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(layer.mean, dtype=dtype)[:, None, None])
        self.register_buffer("std", torch.tensor(layer.std, dtype=dtype)[:, None, None])

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std


class _Flatten(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :, None, None]
