"""The spiking network of a file as a torch module: the integers forward, surrogates backward.

Forward it is the integer simulator, spike for spike. Backward the gradient passes through
every time-step, and at the input the gradients of all steps are added up, as the paper's
attack on the spiking network does (its algorithm 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.surrogates import EXPONENTIAL, Surrogate, gradient_of_drive
from compiler.chip.encoding import encode
from compiler.chip.execute import apply_synapses, bias_hwc
from compiler.chip.fields import DECAY_BITS, STATE_SHIFT
from compiler.chip.neuron import run_neurons
from compiler.ir.chip import ChipGraph, ChipLayer
from compiler.ir.snn import Encoding

_UNITY = 1 << DECAY_BITS

MOST_AT_ONCE = 16
MOST_VALUES = 1 << 22
"""Images run together, and values of one layer over all their time-steps, at most: what is left
for the pass back should stay near the processor."""


class SpikingModule(nn.Module):
    """Images (N, C, H, W) in [0, 1] to the read-out's last voltage, float32 (N, classes).

    `timesteps`: fewer than the file's give coarser and cheaper gradients of a rate code.
    The graph needs time-steps, an input code and a read-out, as every file of ours has. With
    the `poisson` code every call draws new random numbers, those of the images that follow in
    the sequence: the gradient is then averaged over the code by the attack's own steps.
    """

    def __init__(
        self,
        graph: ChipGraph,
        surrogate: Surrogate = EXPONENTIAL,
        timesteps: int | None = None,
    ) -> None:
        super().__init__()
        steps = timesteps or graph.timesteps
        if steps is None or graph.encoding is None or not graph.layers[-1].readout:
            raise ValueError(f"{graph.name} has no time-steps, no input code or no read-out")
        self.graph, self.surrogate = graph, surrogate
        self.timesteps, self.encoding = steps, graph.encoding
        self.weights = [torch.tensor(layer.weight, dtype=torch.float32) for layer in graph.layers]
        self.asked = 0
        values = steps * max(layer.neurons for layer in graph.layers)
        self.at_once = max(1, min(MOST_AT_ONCE, MOST_VALUES // values))

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return the voltages (N, classes)."""
        return torch.cat([self._run(part) for part in torch.split(images_nchw, self.at_once)])

    def _run(self, images_nchw: Tensor) -> Tensor:
        layers = self.graph.layers
        drive = self._first_drive(images_nchw)
        for layer, (following, weight) in zip(
            layers, zip(layers[1:], self.weights[1:], strict=True), strict=False
        ):
            spikes = _fire(drive, layer, self.surrogate)
            channels, height, width = layer.shape
            spikes = spikes.reshape(*drive.shape[:2], height, width, channels)
            drive = _drive(following, weight, spikes)
        return _read_out(drive, layers[-1])

    def _first_drive(self, images_nchw: Tensor) -> Tensor:
        """Sums of weights (T, N, M) that enter the first layer."""
        first, weight = self.graph.layers[0], self.weights[0]
        spikes = _encode(images_nchw, self.timesteps, self.encoding, self.asked)
        self.asked += len(images_nchw)
        if self.encoding.code == "latency":
            return _drive(first, weight, spikes)
        with torch.no_grad():
            drive = _drive(first, weight, spikes)
        of_pixels = _drive(first, weight, images_nchw.permute(0, 2, 3, 1)[None])
        return _every_step(of_pixels[0], drive)


def _drive(layer: ChipLayer, weight: Tensor, spikes_tnhwc: Tensor) -> Tensor:
    """Sums of weights (T, N, M)."""
    steps, samples = spikes_tnhwc.shape[:2]
    arriving = spikes_tnhwc.reshape(steps * samples, *spikes_tnhwc.shape[2:])
    geometry = layer.geometry if layer.kind == "conv" else None
    return apply_synapses(arriving, weight, geometry).reshape(steps, samples, -1)


class _EveryStep(torch.autograd.Function):
    """The given sums (T, N, M) forward; backward each step counts as the pixels' own sums.

    Straight through a rate code: the expected spike of every step is the pixel. It costs one
    pass back through the synapses instead of one a step.
    """

    @staticmethod
    def forward(ctx: Any, of_pixels: Tensor, drive: Tensor) -> Tensor:
        return drive

    @staticmethod
    def backward(ctx: Any, grad_tnm: Tensor) -> tuple[Tensor, None]:
        return grad_tnm.sum(0), None


class _Encode(torch.autograd.Function):
    """Images to spikes (T, N, H, W, C); the gradient goes straight through the code.

    Pixels outside [0, 1], which an attack's noise makes, enter as 0 or 1.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, timesteps: int, encoding: Encoding, first_index: int
    ) -> Tensor:
        pixels = images.detach().clamp(0, 1).numpy()
        spikes = encode(pixels, timesteps, encoding, first_index)
        ctx.code, ctx.steps = encoding.code, timesteps
        ctx.save_for_backward(images)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(spikes, 2, -1))).float()

    @staticmethod
    def backward(ctx: Any, grad_tnhwc: Tensor) -> tuple[Tensor, None, None, None]:
        grad = grad_tnhwc.permute(0, 1, 4, 2, 3)
        if ctx.code == "latency":
            return _latency_gradient(grad, ctx.saved_tensors[0], ctx.steps), None, None, None
        return grad.sum(0), None, None, None


def _latency_gradient(grad_tnchw: Tensor, images: Tensor, steps: int) -> Tensor:
    """A brighter pixel's spike comes earlier: the difference of the steps around it, times T - 1.

    The spikes' gradients are summed from every step to the end first, since a spike that
    comes a step earlier counts for that step more.
    """
    when = ((1 - images.clamp(0, 1)) * (steps - 1)).round().long().clamp(0, steps - 1)
    earlier = grad_tnchw.gather(0, (when - 1).clamp(min=0)[None])[0]
    later = grad_tnchw.gather(0, (when + 1).clamp(max=steps - 1)[None])[0]
    return (earlier - later) * (steps - 1) / 2


class _Fire(torch.autograd.Function):
    """Sums of weights (T, N, M) to spikes, float32 (T, N, M)."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, layer: ChipLayer, surrogate: Surrogate) -> Tensor:
        bias = bias_hwc(layer).reshape(-1)
        run = run_neurons(drive.detach().numpy(), bias, layer.neuron, traces=True)
        ctx.run, ctx.layer, ctx.surrogate = run, layer, surrogate
        return torch.from_numpy(run.spikes_tnm).float()

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor, None, None]:
        grad = gradient_of_drive(
            grad_spikes.contiguous().numpy(),
            ctx.run.v_tnm,
            ctx.run.spikes_tnm,
            ctx.layer.neuron,
            ctx.surrogate,
        )
        return torch.from_numpy(grad), None, None


class _ReadOut(torch.autograd.Function):
    """Sums of weights (T, N, K) to the last voltage; backward the linear integrator's."""

    @staticmethod
    def forward(ctx: Any, drive: Tensor, layer: ChipLayer) -> Tensor:
        bias = bias_hwc(layer).reshape(-1)
        run = run_neurons(drive.detach().numpy(), bias, layer.neuron)
        ctx.shares = _step_shares(len(drive), layer)
        return torch.from_numpy(run.voltage_nm).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.shares[:, None, None] * grad[None], None


def _step_shares(steps: int, layer: ChipLayer) -> Tensor:
    """What a weight arriving at each step adds to the last voltage, float32 (T,)."""
    keep_u = 1 - layer.neuron.i_decay / _UNITY
    keep_v = 1 - layer.neuron.v_decay / _UNITY
    shares, current, voltage = [], 1.0, 0.0
    for _ in range(steps):
        voltage = keep_v * voltage + current
        shares.append(voltage * (1 << STATE_SHIFT))
        current *= keep_u
    return torch.tensor(shares[::-1], dtype=torch.float32)


_encode: Callable[..., Tensor] = _Encode.apply
_every_step: Callable[..., Tensor] = _EveryStep.apply
_fire: Callable[..., Tensor] = _Fire.apply
_read_out: Callable[..., Tensor] = _ReadOut.apply
