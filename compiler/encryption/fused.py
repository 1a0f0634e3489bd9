"""A whole network of blocks as one autograd function on compiled kernels.

Between layers spikes are bytes, which autograd does not carry; so the chain of layers is one
function of all weights and biases. Only v before reset and the spikes are kept for the backward
run, in buffers that are used again in the next step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch

from compiler.encryption import native
from compiler.encryption.native import Fired, Following, LayerShape
from compiler.encryption.neuron import STATE_SCALE, NeuronConstants, step_weights

_HALF_MANTISSAS = 32
"""Half mantissas in a weight of 1.0 on SLAYER's scale."""

_INT16_TOP = (1 << 15) - 1
_MOST_INPUTS = 1 << 16
"""Inputs of a neuron whose sum, shifted as the state is, stays within 32 bits."""

_FOLLOWING_BYTES = 1 << 19
"""Largest weight that the kernel's own input gradient takes: one that stays in the cache."""

_LANES = 8


@dataclass(frozen=True)
class FusedLayer:
    """A layer's shape and its neuron."""

    shape: LayerShape
    neuron: NeuronConstants


class Buffers:
    """Tensors that are lent out and come back: fresh memory would cost as much as the work."""

    def __init__(self) -> None:
        self._free: dict[tuple[Any, ...], list[torch.Tensor]] = defaultdict(list)
        self._lent: WeakValueDictionary[int, torch.Tensor] = WeakValueDictionary()
        self._batch: tuple[int, ...] = ()

    def begin(self, batch: tuple[int, ...]) -> None:
        """Runs on (samples, time-steps) follow: what no other batch needs is let go."""
        if batch != self._batch:
            self._free.clear()
            self._batch = batch

    def take(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor with whatever is in it."""
        free = self._free[shape, dtype]
        tensor = free.pop() if free else torch.empty(shape, dtype=dtype)
        self._lent[id(tensor)] = tensor
        return tensor

    def give(self, *tensors: torch.Tensor | None) -> None:
        """Take tensors back that nobody will read again; others than those lent are let go."""
        for tensor in tensors:
            if tensor is not None and self._lent.pop(id(tensor), None) is tensor:
                self._free[tuple(tensor.shape), tensor.dtype].append(tensor)

    @property
    def held(self) -> int:
        """Bytes that wait to be lent."""
        return sum(one.nbytes for free in self._free.values() for one in free)


@dataclass
class FusedNetwork:
    """The layers, the last of which is a dense read-out, and the buffers between steps."""

    layers: tuple[FusedLayer, ...]
    buffers: Buffers

    @staticmethod
    def takes(shapes: tuple[LayerShape, ...]) -> bool:
        """Whether the kernels can compute layers of these shapes."""
        inputs = (shape.kernel[0] * shape.kernel[1] * shape.before[0] for shape in shapes)
        return (
            max(inputs) <= _MOST_INPUTS
            and shapes[-1].dense
            and all(shape.geometry.symmetric for shape in shapes)
        )

    def run(
        self, spikes_tnhwc: torch.Tensor, parameters: list[torch.Tensor], keep_spikes: bool = False
    ) -> tuple[torch.Tensor, ...]:
        """Voltage (N, classes), counts (N, H, W, C) of the hidden layers, and their spikes if kept.

        parameters: weight as SLAYER holds it and bias (neurons,) of each layer in turn, rounded;
        spikes kept: float32 (T, N, H, W, C).
        """
        spikes = spikes_tnhwc.detach().transpose(0, 1).to(torch.uint8).flatten(2).contiguous()
        self.buffers.begin(tuple(spikes.shape[:2]))
        if torch.is_grad_enabled() and any(one.requires_grad for one in parameters):
            found: tuple[torch.Tensor, ...] = _Run.apply(self, spikes, keep_spikes, *parameters)
            return found
        record = _forward(self, spikes, parameters, traced=False)
        found = _outputs(self, record, keep_spikes)
        self.buffers.give(*(one for run in record.fired for one in (run.spikes, run.trace)))
        return found


@dataclass
class _Record:
    """What a forward run leaves behind: the spikes that entered each layer, and what it did."""

    entering: list[torch.Tensor]
    fired: list[Fired]


class _Run(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, network: FusedNetwork, spikes: torch.Tensor, keep: bool, *parameters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.network, ctx.weights = network, parameters[::2]
        ctx.record = _forward(network, spikes, parameters, traced=True)
        return _outputs(network, ctx.record, keep)

    @staticmethod
    def backward(ctx: Any, of_voltage: torch.Tensor, *of_hidden: torch.Tensor) -> Any:
        record, network = ctx.record, ctx.network
        if record is None:
            raise RuntimeError("the buffers of a step are free after one backward run")
        ctx.record = None
        found = _Backward(network, record, ctx.weights, of_hidden).run(of_voltage)
        network.buffers.give(*(one for run in record.fired for one in (run.spikes, run.trace)))
        return None, None, None, *found


def _forward(
    network: FusedNetwork, spikes: torch.Tensor, parameters: Sequence[torch.Tensor], traced: bool
) -> _Record:
    record = _Record([spikes], [])
    samples, steps = spikes.shape[:2]
    pairs = zip(parameters[::2], parameters[1::2], strict=True)
    for layer, (weight, bias) in zip(network.layers, pairs, strict=True):
        size = (samples, steps, layer.shape.neurons)
        last = layer is network.layers[-1]
        run = Fired(
            network.buffers.take(size, torch.uint8),
            torch.empty(samples, layer.shape.neurons),
            network.buffers.take(size) if traced or last else None,
        )
        mantissas = _half_mantissas(weight.detach(), layer.shape)
        state_bias = (bias.detach() * STATE_SCALE).to(torch.int32)
        native.forward(layer.shape, layer.neuron, record.entering[-1], mantissas, state_bias, run)
        record.fired.append(run)
        if not last:
            record.entering.append(run.spikes)
    return record


def _outputs(network: FusedNetwork, record: _Record, keep: bool) -> tuple[torch.Tensor, ...]:
    last = record.fired[-1].trace
    if last is None:
        raise ValueError("the read-out was run without its trace")
    hidden = list(zip(network.layers, record.fired[:-1], strict=False))
    counts = [_places(run.counts, layer.shape) for layer, run in hidden]
    kept = hidden if keep else []
    spikes = [_places(run.spikes, layer.shape).transpose(0, 1).float() for layer, run in kept]
    return (last[:, -1].clone(), *counts, *spikes)


def _places(values: torch.Tensor, shape: LayerShape) -> torch.Tensor:
    """(..., H, W, C) of (..., H * W * C)."""
    channels, height, width = shape.after
    return values.reshape(*values.shape[:-1], height, width, channels)


def _by_kernel_place(weight: torch.Tensor, shape: LayerShape) -> torch.Tensor:
    """A view (kernel row, kernel column, group, input of the group, output of the group)."""
    groups = shape.geometry.groups
    kernel = (groups, -1, shape.before[0] // groups, *shape.kernel)
    return weight.reshape(kernel).permute(3, 4, 0, 2, 1)


def _half_mantissas(weight: torch.Tensor, shape: LayerShape) -> torch.Tensor:
    largest = float(weight.abs().flatten(1).sum(1).max()) * _HALF_MANTISSAS
    dtype = torch.int16 if largest <= _INT16_TOP else torch.int32
    mantissas = (weight * _HALF_MANTISSAS).to(dtype)
    return _by_kernel_place(mantissas, shape).reshape(shape.weight_shape).contiguous()


class _Backward:
    """The gradients of one step, from the read-out to the first layer."""

    def __init__(
        self,
        network: FusedNetwork,
        record: _Record,
        weights: tuple[torch.Tensor, ...],
        of_hidden: tuple[torch.Tensor, ...],
    ) -> None:
        self.layers, self.buffers = network.layers, network.buffers
        self.record = record
        self.weights = [weight.detach() for weight in weights]
        hidden = len(network.layers) - 1
        self.of_counts = [one.reshape(len(one), -1).contiguous() for one in of_hidden[:hidden]]
        self.of_kept = [one.transpose(0, 1).flatten(2) for one in of_hidden[hidden:]]

    def run(self, of_voltage: torch.Tensor) -> list[torch.Tensor]:
        """Gradients of weight and bias of each layer in turn."""
        last = self.layers[-1]
        share, share_of_bias = step_weights(self.record.entering[0].shape[1], last.neuron)
        of_drive = (share[:, None] * of_voltage[:, None, :]).contiguous()
        weight = native.dense_weight(last.shape, self.record.entering[-1], of_drive)
        found = [share_of_bias * of_voltage.sum(0), self._as_given(-1, weight)]
        for index in range(len(self.layers) - 2, -1, -1):
            of_drive, gradients = self._layer(index, of_drive)
            found += [gradients.bias, self._as_given(index, gradients.weight)]
        self.buffers.give(of_drive)
        return found[::-1]

    def _layer(self, index: int, of_next: torch.Tensor) -> tuple[torch.Tensor, native.Gradients]:
        """Gradients of a layer, and that of its drive; `of_next`: that of the next one's drive."""
        layer, run = self.layers[index], self.record.fired[index]
        following, of_spikes = self._sent_back(index + 1, of_next)
        if self.of_kept:
            of_spikes = self._with_kept(of_spikes, self.of_kept[index])
        if run.trace is None:
            raise ValueError("the forward run kept no trace")
        of_drive = self.buffers.take(tuple(run.trace.shape))
        entering = self.record.entering[index]
        gradients = native.backward(
            layer.shape, layer.neuron, entering, run.trace, self.of_counts[index], of_spikes,
            following, of_drive,
        )  # fmt: skip
        self.buffers.give(of_next, of_spikes)
        return of_drive, gradients

    def _with_kept(self, of_spikes: torch.Tensor | None, of_kept: torch.Tensor) -> torch.Tensor:
        """The gradient of spikes that were an output too."""
        if of_spikes is None:
            of_spikes = self.buffers.take(tuple(of_kept.shape)).zero_()
        return of_spikes.add_(of_kept)

    def _sent_back(
        self, index: int, of_drive: torch.Tensor
    ) -> tuple[Following | None, torch.Tensor | None]:
        """What layer `index` sends back: as work for the kernel, or as gradient of its input."""
        shape, weight = self.layers[index].shape, self.weights[index]
        if shape.dense:
            flat = _by_kernel_place(weight, shape).reshape(-1, shape.neurons)
            back = self.buffers.take((*of_drive.shape[:2], len(flat)))
            torch.mm(of_drive.flatten(0, 1), flat.T, out=back.flatten(0, 1))
            return None, back
        small = weight.numel() * weight.element_size() <= _FOLLOWING_BYTES
        if small and shape.geometry.groups == 1 and shape.before[0] % _LANES == 0:
            return Following(shape, weight.permute(2, 3, 0, 1).contiguous(), of_drive), None
        return None, _input_gradient(shape, weight, of_drive)

    def _as_given(self, index: int, gradient: torch.Tensor | None) -> torch.Tensor:
        """Gradient of a weight in the weight's own shape."""
        if gradient is None:
            raise ValueError("a layer without gradient of its weight")
        shape, weight = self.layers[index].shape, self.weights[index]
        groups = shape.geometry.groups
        rows, columns, inputs, outputs = gradient.shape
        by_group = gradient.reshape(rows, columns, groups, inputs // groups, outputs)
        by_group = by_group.permute(2, 4, 3, 0, 1)
        return by_group.reshape(weight.shape)


def _input_gradient(
    shape: LayerShape, weight: torch.Tensor, of_drive: torch.Tensor
) -> torch.Tensor:
    """Gradient of a convolution's input by torch, (n, T, inputs)."""
    geometry = shape.geometry
    frames = _places(of_drive.flatten(0, 1), shape).permute(0, 3, 1, 2)
    channels, height, width = shape.before
    entering = frames.new_empty(1).expand(len(frames), channels, height, width)
    (top, _), (left, _) = geometry.padding
    gradient, _, _ = torch.ops.aten.convolution_backward(
        frames, entering, weight.contiguous(memory_format=torch.channels_last), None,
        geometry.stride, (top, left), geometry.dilation, False, (0, 0), geometry.groups,
        (True, False, False),
    )  # fmt: skip
    back: torch.Tensor = gradient.permute(0, 2, 3, 1).reshape(*of_drive.shape[:2], -1)
    return back
