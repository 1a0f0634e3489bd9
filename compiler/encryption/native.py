"""training.cpp behind ctypes: a layer's forward and backward run on binary spikes.

Arrays over time are (n, T, H * W * C), contiguous, channels last. The structures are those of
training.cpp, field by field.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from compiler.chip.engine.build import NoKernel, load_kernel
from compiler.encryption.neuron import NeuronConstants
from compiler.ir.geometry import ConvGeometry, Shape

SOURCE = Path(__file__).with_name("training.cpp")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-std=c++17",
         "-shared", "-fPIC")  # fmt: skip

_MOST_PARTS = 16
_PART_BYTES = 1 << 20
"""Sums over samples are made in as many parts as keep the parts' gradients below this each."""


def available() -> bool:
    """Whether the compiled kernel can be had on this machine; the first call may compile it."""
    try:
        _library()
    except NoKernel:
        return False
    return True


def _library() -> ctypes.CDLL:
    return load_kernel(SOURCE, FLAGS)


def _structure(name: str, **fields: type) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _fields(names: str, kind: type) -> dict[str, type]:
    return dict.fromkeys(names.split(), kind)


_Layer = _structure(
    "Layer",
    **_fields("samples steps in_height in_width in_channels height width channels", ctypes.c_int32),
    **_fields("kernel_height kernel_width stride_y stride_x pad_y pad_x", ctypes.c_int32),
    **_fields("dilation_y dilation_x groups", ctypes.c_int32),
)
_Neuron = _structure(
    "Neuron",
    **_fields("keep_current keep_voltage threshold", ctypes.c_int32),
    **_fields("share_current share_voltage level inverse_width slope", ctypes.c_float),
    **_fields("linear", ctypes.c_int32),
)
_Backprop = _structure(
    "Backprop",
    **_fields("parts next_neurons", ctypes.c_int64),
    **_fields("input trace of_counts of_spikes of_next_drive", ctypes.c_void_p),
    **_fields("of_drive of_weight of_bias", ctypes.c_void_p),
)


@dataclass(frozen=True)
class LayerShape:
    """A layer's geometry; a dense layer is a convolution that covers its whole input once."""

    before: Shape
    after: Shape
    kernel: tuple[int, int]
    geometry: ConvGeometry
    dense: bool

    def structure(self, samples: int, steps: int) -> Any:
        """The Layer of training.cpp."""
        (top, _), (left, _) = self.geometry.padding
        channels, height, width = self.before
        after = self.after
        return _Layer(
            samples, steps, height, width, channels, after[1], after[2], after[0],
            *self.kernel, *self.geometry.stride, top, left, *self.geometry.dilation,
            self.geometry.groups,
        )  # fmt: skip

    @property
    def neurons(self) -> int:
        """Neurons of the layer."""
        return self.after[0] * self.after[1] * self.after[2]

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(kernel row, kernel column, input channel, channel of the group)."""
        return (*self.kernel, self.before[0], self.after[0] // self.geometry.groups)


@dataclass(frozen=True)
class Fired:
    """spikes: uint8 (n, T, m); counts: float32 (n, m); trace: float32 (n, T, m), v before reset."""

    spikes: torch.Tensor
    counts: torch.Tensor
    trace: torch.Tensor | None


def forward(
    shape: LayerShape,
    neuron: NeuronConstants,
    spikes: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    into: Fired,
) -> None:
    """Run a layer and fill `into`.

    spikes: uint8 (n, T, inputs); weight: int16 or int32 of `shape.weight_shape`, half mantissas,
    whose sums fit its type; bias: int32, a neuron, on the state's scale.
    """
    library = _library()
    run = library.forward16 if weight.dtype == torch.int16 else library.forward32
    samples, steps = spikes.shape[:2]
    _check(
        run(
            ctypes.byref(shape.structure(samples, steps)),
            ctypes.byref(_neuron(neuron)),
            *map(_pointer, (spikes, weight, bias, into.spikes, into.trace, into.counts)),
            torch.get_num_threads(),
        )
    )


@dataclass(frozen=True)
class Following:
    """The convolution behind a layer, whose input gradient the layer's backward run computes.

    weight: float32 (kernel row, kernel column, output channel, input channel) on SLAYER's scale;
    of_drive: float32 (n, T, m), gradient of its drive.
    """

    shape: LayerShape
    weight: torch.Tensor
    of_drive: torch.Tensor


@dataclass(frozen=True)
class Gradients:
    """weight: float32 of `LayerShape.weight_shape`, or None; bias: float32, a neuron."""

    weight: torch.Tensor | None
    bias: torch.Tensor


def backward(
    shape: LayerShape,
    neuron: NeuronConstants,
    spikes: torch.Tensor,
    trace: torch.Tensor,
    of_counts: torch.Tensor,
    of_spikes: torch.Tensor | None,
    following: Following | None,
    of_drive: torch.Tensor | None,
) -> Gradients:
    """Gradients of a layer from those of its counts (n, m) and of its spikes (n, T, m).

    The gradient of the spikes is the sum of `of_spikes` and of what `following` sends back.
    spikes: what entered the layer, uint8; of_drive: float32 (n, T, m) to fill with the gradient
    of the drive; a dense layer needs it.
    """
    samples, steps = spikes.shape[:2]
    size = 1
    for extent in shape.weight_shape:
        size *= extent
    parts = 1 if shape.dense else max(2, min(_MOST_PARTS, _PART_BYTES // (4 * size)))
    parts = min(samples, _MOST_PARTS if shape.dense else parts)
    weights = None if shape.dense else torch.empty(parts, *shape.weight_shape)
    biases = torch.empty(parts, shape.neurons)
    layer = shape.structure(samples, steps)
    given = _Backprop(
        parts,
        following.shape.neurons if following else 0,
        *map(_pointer, (spikes, trace, of_counts, of_spikes)),
        _pointer(following.of_drive if following else None),
        *map(_pointer, (of_drive, weights, biases)),
    )
    _check(
        _library().backward(
            ctypes.byref(layer),
            ctypes.byref(_neuron(neuron)),
            ctypes.byref(given),
            ctypes.byref(following.shape.structure(samples, steps)) if following else None,
            _pointer(following.weight if following else None),
            torch.get_num_threads(),
        )
    )
    if weights is not None:
        return Gradients(weights.sum(0), biases.sum(0))
    if of_drive is None:
        raise ValueError("a dense layer's weights need the gradient of its drive")
    return Gradients(dense_weight(shape, spikes, of_drive), biases.sum(0))


def dense_weight(shape: LayerShape, spikes: torch.Tensor, of_drive: torch.Tensor) -> torch.Tensor:
    """Gradient of a dense layer's weight, of `weight_shape`, from that of its drive (n, T, m)."""
    weight = torch.empty(shape.weight_shape)
    layer = shape.structure(*spikes.shape[:2])
    threads = torch.get_num_threads()
    pointers = map(_pointer, (spikes, of_drive, weight))
    _check(_library().dense_weights(ctypes.byref(layer), *pointers, threads))
    return weight


def _neuron(neuron: NeuronConstants) -> Any:
    return _Neuron(*vars(neuron).values())


def _pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p | None:
    if tensor is None:
        return None
    if not tensor.is_contiguous():
        raise ValueError("the kernel takes contiguous tensors")
    return ctypes.c_void_p(tensor.data_ptr())


def _check(status: int) -> None:
    if status:
        raise MemoryError("the training's threads found no memory")
