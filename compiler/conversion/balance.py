"""Threshold balancing of one layer.

A hard reset throws the overshoot away, so a neuron fires less often than its drive over
its threshold says: under a constant drive of z thresholds it fires every ceil(1/z) steps,
a staircase whose steps are fine only for small z. Four measures meet this, all from the
synthetic images alone: the threshold of every channel is a multiple of a percentile of its
own activation; the value that a spike stands for in the next layer (`unit`) is the
least-squares fit of the ANN's activation to the firing rate that the channel really has; a
bias of half a threshold, spread over the time-steps, gives back the half spike that a
neuron started at rest still owes on average when the last step has passed; and the bias is
then corrected by the mean error that is left (bias correction: Li et al., "A Free Lunch
From ANN", ICML 2021, there with real images).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.chip.execute import apply_synapses
from compiler.chip.execute_float import run_float_layer
from compiler.chip.fields import (
    ACCUMULATOR_LIMIT,
    BIAS_MANT,
    HIDDEN_V_TH_MANT,
    READOUT_V_TH_MANT,
    STATE_LIMIT,
    STATE_SHIFT,
    WEIGHT,
)
from compiler.ir.ann import Conv2d
from compiler.ir.geometry import Array
from compiler.ir.snn import SnnLayer, snn_layer
from compiler.ir.stages import Stage

VOLTAGE_LIMIT = STATE_LIMIT >> STATE_SHIFT
"""Mantissas where v clips."""

_QUIET_CHANNEL = 0.3
"""A channel's scale is at least this share of its layer's: quiet channels are not blown up."""

_UNIT_RANGE = (0.3, 3.0)
"""The fitted unit stays within these multiples of the balanced activation."""

_FEWEST_SPIKES = 5
"""Below this many active places the fit of a unit means nothing."""

_OWED_SPIKES = 0.5
"""Spikes that a neuron started at v = 0 has not yet sent, on average, after the last step."""

_SILENT_MARGIN = 1.0
"""Thresholds a step below any drive: room for corrections of the bias, which are far smaller."""

_VOLTAGE_MARGIN = 2.0
"""How far a voltage on the synthetic images stays from the end of the chip's range."""

_BLOCK_SPIKES = 1 << 25
"""Spikes that become float32, four times as large, together."""

_ACCUMULATOR_SHARE = 0.8
"""Share of Loihi 1's 16-bit sum that the worst case may fill before training moves the weights."""


@dataclass(frozen=True)
class Balanced:
    """A balanced layer and the spikes (T, N, H, W, C) that it sends for the synthetic images."""

    layer: SnnLayer
    spikes_tnhwc: Array


def balance_layer(
    stage: Stage,
    input_unit: Array,
    activation_nchw: Array,
    scale: Array,
    spikes_tnhwc: Array,
    bias_passes: int,
) -> Balanced:
    """Balance a hidden layer: the activation `scale` (C,) of each channel reaches the threshold.

    `bias_passes` times the channel's mean error, in spikes, is added to its bias.
    """
    weight, bias = _float_parameters(stage, input_unit)
    weight = weight / _per_output(scale, weight)
    bias = bias / _per_output(scale, bias) + _OWED_SPIKES / len(spikes_tnhwc)
    balanced = _run_balanced(stage, weight, bias, scale, activation_nchw, spikes_tnhwc)
    for _ in range(bias_passes):
        error = _mean_error(activation_nchw, balanced)
        bias = bias + _per_output(error / balanced.layer.unit, bias)
        balanced = _run_balanced(stage, weight, bias, scale, activation_nchw, spikes_tnhwc)
    return balanced


def _run_balanced(
    stage: Stage,
    weight: Array,
    bias: Array,
    scale: Array,
    activation_nchw: Array,
    spikes_tnhwc: Array,
) -> Balanced:
    """Run a layer, given where its threshold is 1, and fit the unit to what it fires."""
    bias = np.maximum(bias, _per_output(_silencing(weight), bias))
    threshold = mantissa_scale(weight, bias)
    layer = snn_layer(stage, weight * threshold, bias * threshold, float(threshold), scale)
    spikes, voltage = run_float_layer(layer, spikes_tnhwc)
    unit = _fit_unit(activation_nchw, _rate_nchw(spikes), scale)
    threshold = _within_the_state(threshold, float(np.abs(voltage).max(initial=0)))
    layer = snn_layer(stage, weight * threshold, bias * threshold, float(threshold), unit)
    return Balanced(layer, spikes)


def _within_the_state(threshold: int, voltage: float) -> int:
    """The threshold, or a smaller one: `voltage`, a silenced neuron's at the end, shall not clip.

    Weights, biases and voltage scale with the threshold, so that the spikes stay the same.
    """
    share = VOLTAGE_LIMIT / (_VOLTAGE_MARGIN * max(voltage, 1e-12))
    return threshold if share >= 1 else odd_threshold(threshold * share)


def _silencing(weight: Array) -> Array:
    """A bias (out,) that no input overcomes where the threshold is 1; a lower one does no more."""
    positive = np.where(weight > 0, weight, 0).reshape(len(weight), -1).sum(1)
    floor: Array = -positive - _SILENT_MARGIN
    return floor


def _mean_error(activation_nchw: Array, balanced: Balanced) -> Array:
    """Mean of what the channel's rate lacks against the ANN's activation, (C,)."""
    rate = _rate_nchw(balanced.spikes_tnhwc)
    mean_activation = activation_nchw.reshape(rate.shape).mean((0, 2, 3), dtype=np.float64)
    error: Array = mean_activation - balanced.layer.unit * rate.mean((0, 2, 3), dtype=np.float64)
    return error


def _rate_nchw(spikes_tnhwc: Array) -> Array:
    return np.moveaxis(spikes_tnhwc.mean(0, dtype=np.float32), -1, 1)


def balance_readout(
    stage: Stage, input_unit: Array, spikes_tnhwc: Array, margin: float
) -> SnnLayer:
    """Scale the read-out so that its voltage stays below the threshold by a factor of `margin`."""
    weight, bias = _float_parameters(stage, input_unit)
    peak = _peak_voltage(stage, weight, bias, spikes_tnhwc)
    scale = min(_largest_scale(weight, bias), READOUT_V_TH_MANT / (margin * max(peak, 1e-12)))
    unit = np.full(stage.shape[0], 1 / scale)
    return snn_layer(stage, weight * scale, bias * scale, float(READOUT_V_TH_MANT), unit)


def channel_scale(activation_nchw: Array, percentile: float) -> Array:
    """Percentile of each channel's activation, float64 (C,), never below a share of the layer's.

    Places that no image activates do not count: a channel may be silent by construction in most
    of its places.
    """
    channels = activation_nchw.shape[1]
    places = activation_nchw.reshape(len(activation_nchw), channels, -1)
    active = places.max(axis=0) > 0
    scale = np.array([_percentile(places[:, c, active[c]], percentile) for c in range(channels)])
    layer = _percentile(places[:, active], percentile)
    floor = _QUIET_CHANNEL * layer if layer > 0 else float(places.max(initial=0.0))
    bounded: Array = np.maximum(scale, floor if floor > 0 else 1.0)
    return bounded


def _percentile(values: Array, percentile: float) -> float:
    return float(np.percentile(values, percentile)) if values.size else 0.0


def mantissa_scale(weight: Array, bias: Array) -> int:
    """Odd threshold: the largest at which weights, biases and one step's sum fit the chip.

    weight, bias: on the scale where the threshold is 1.
    """
    return odd_threshold(min(_largest_scale(weight, bias), HIDDEN_V_TH_MANT.high))


def odd_threshold(largest: float) -> int:
    """The largest odd threshold mantissa that is not above `largest`, at least the smallest."""
    odd = int((largest - 1) // 2) * 2 + 1
    return max(odd, HIDDEN_V_TH_MANT.low)


def _largest_scale(weight: Array, bias: Array) -> float:
    flat = weight.reshape(len(weight), -1)
    worst = max(np.where(flat > 0, flat, 0).sum(1).max(), np.where(flat < 0, -flat, 0).sum(1).max())
    limits = (
        (WEIGHT.high, np.abs(weight).max()),
        (BIAS_MANT.high, np.abs(bias).max()),
        (_ACCUMULATOR_SHARE * ACCUMULATOR_LIMIT, worst),
    )
    return float(min(limit / max(value, 1e-12) for limit, value in limits))


def _float_parameters(stage: Stage, input_unit: Array) -> tuple[Array, Array]:
    """The ANN's weight with every input channel multiplied by its unit, and its bias."""
    synapse = stage.synapse
    weight = synapse.weight.astype(np.float64)
    if isinstance(synapse, Conv2d):
        group_inputs = weight.shape[1]
        group = np.arange(len(weight)) // (len(weight) // synapse.geometry.groups)
        inputs = group[:, None] * group_inputs + np.arange(group_inputs)
        weight = weight * input_unit[inputs][:, :, None, None]
    else:
        places = stage.input_shape[1] * stage.input_shape[2]
        weight = weight * np.repeat(input_unit, places)
    bias = np.zeros(len(weight)) if synapse.bias is None else synapse.bias.astype(np.float64)
    return weight, bias


def _per_output(scale: Array, values: Array) -> Array:
    return scale.reshape(-1, *([1] * (values.ndim - 1)))


def _fit_unit(activation_nchw: Array, rate: Array, scale: Array) -> Array:
    """Least squares per channel: the factor that brings firing rates nearest to the activations."""
    axes = (0, 2, 3)
    product = np.sum(activation_nchw.reshape(rate.shape) * rate, axis=axes, dtype=np.float64)
    square = np.sum(rate * rate, axis=axes, dtype=np.float64)
    active = np.count_nonzero(rate, axis=axes) > _FEWEST_SPIKES
    fitted = np.where(active, product / np.maximum(square, 1e-12), scale)
    return np.clip(fitted, _UNIT_RANGE[0] * scale, _UNIT_RANGE[1] * scale)


def _peak_voltage(stage: Stage, weight: Array, bias: Array, spikes_tnhwc: Array) -> float:
    """Largest magnitude that the read-out's voltage has at any step, in units of the logit."""
    import torch

    geometry = stage.synapse.geometry if isinstance(stage.synapse, Conv2d) else None
    synapses = torch.tensor(weight, dtype=torch.float32)
    steps, _, *hwc = spikes_tnhwc.shape
    peaks = []
    for block_tnhwc in _blocks(spikes_tnhwc):
        flat = torch.from_numpy(block_tnhwc.reshape(-1, *hwc)).float()
        drive = apply_synapses(flat, synapses, geometry)
        gain = drive.reshape(steps, -1, *drive.shape[1:]).double().numpy() + bias
        peaks.append(np.abs(np.cumsum(gain, axis=0)).max())
    return float(np.max(peaks))


def _blocks(spikes_tnhwc: Array) -> list[Array]:
    """The spikes in blocks of samples of about the same size, each small enough as float32."""
    samples = spikes_tnhwc.shape[1]
    most = max(1, _BLOCK_SPIKES * samples // spikes_tnhwc.size)
    return np.array_split(spikes_tnhwc, -(-samples // most), axis=1)
