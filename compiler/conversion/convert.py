"""Try several thresholds and keep the network nearest to the ANN on held-out synthetic images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import log_softmax

from compiler.chip.execute_float import encode_nhwc, run_snn
from compiler.config import ConversionConfig
from compiler.conversion.balance import balance_layer, balance_readout, channel_scale
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann_layers
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer
from compiler.ir.stages import Stage, stages
from compiler.ir.synthetic import SyntheticSet

Progress = Callable[[int, int], None]
ThresholdSetting = tuple[float, float]
"""Percentile of a channel's activation, and the multiple of it that is the threshold."""

_MOST_SPIKE_BYTES = 1_000_000_000
"""Memory that the spikes of the largest layer may take while thresholds are balanced."""

_FEWEST_IMAGES = 16


@dataclass(frozen=True)
class Candidate:
    """Thresholds of `threshold_scale` times a percentile of the activations, and how they do.

    agreement: share of held-out images with the ANN's answer; divergence: mean KL(ANN ||
    network) of the softmax outputs on them, in nats.
    """

    percentile: float
    threshold_scale: float
    agreement: float
    divergence: float


@dataclass(frozen=True)
class Conversion:
    """The chosen network and every candidate tried; `images` they were balanced on."""

    graph: SnnGraph
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    images: int


def convert(
    graph: AnnGraph,
    synthetic: SyntheticSet,
    config: ConversionConfig,
    encoding: Encoding,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a lowered network for hard reset, strict threshold and binary spikes.

    Thresholds are balanced layer by layer on the spikes that the layers before really
    send. Kept is the candidate of the smallest divergence from the ANN. Where the number of
    time-steps is to be chosen, this converts for the largest; see convert_auto.
    """
    chain = stages(graph)
    count = _images_that_fit(chain, config)
    images = synthetic.pixels(synthetic.training)[:count]
    activations = _activations(graph, chain, images)
    check = synthetic.pixels(synthetic.validation)
    teacher = synthetic.logits_nk[synthetic.validation]
    tried: list[Candidate] = []
    settings = threshold_settings(config)
    kept: SnnGraph | None = None
    for setting in settings:
        network = _balanced(graph, chain, images, activations, setting, config, encoding)
        tried.append(_judge(network, setting, check, teacher))
        best = min(tried, key=lambda candidate: candidate.divergence)
        if kept is None or best is tried[-1]:
            kept = network
        if progress:
            progress(len(tried), len(settings))
    if kept is None:
        raise ValueError("no thresholds to try")
    return Conversion(kept, best, tuple(tried), len(images))


def threshold_settings(config: ConversionConfig) -> tuple[ThresholdSetting, ...]:
    """Every pair of a percentile and a threshold scale that is tried."""
    return tuple(product(config.percentiles, config.threshold_scales))


def _images_that_fit(chain: tuple[Stage, ...], config: ConversionConfig) -> int:
    """Images for balancing: as many as wanted, fewer where a layer's spikes would not fit."""
    largest = max(int(np.prod(stage.shape)) for stage in chain)
    most = _MOST_SPIKE_BYTES // (largest * config.most_timesteps)
    return max(_FEWEST_IMAGES, min(config.images, most))


def _activations(graph: AnnGraph, chain: tuple[Stage, ...], images: Array) -> list[Array]:
    """The ANN's activation (N, C, H, W) behind every stage."""
    wanted = {stage.output_index for stage in chain}
    outputs = run_ann_layers(graph, images)
    return [output for index, (_, output) in enumerate(outputs) if index in wanted]


def _balanced(
    graph: AnnGraph,
    chain: tuple[Stage, ...],
    images: Array,
    activations: list[Array],
    setting: ThresholdSetting,
    config: ConversionConfig,
    encoding: Encoding,
) -> SnnGraph:
    empty = SnnGraph(
        graph.name, graph.input_shape, config.most_timesteps, encoding, (), graph.class_names
    )
    spikes = encode_nhwc(images, empty)
    unit: Array = np.ones(graph.input_shape[0])
    layers: list[SnnLayer] = []
    for stage, activation in zip(chain, activations, strict=True):
        if stage.readout:
            layers.append(balance_readout(stage, unit, spikes, config.readout_margin))
            continue
        percentile, threshold_scale = setting
        scale = threshold_scale * channel_scale(activation, percentile)
        balanced = balance_layer(stage, unit, activation, scale, spikes, config.bias_passes)
        layers.append(balanced.layer)
        spikes, unit = balanced.spikes_tnhwc, balanced.layer.unit
    return empty.with_layers(tuple(layers))


def _judge(
    network: SnnGraph, setting: ThresholdSetting, images: Array, teacher: Array
) -> Candidate:
    logits = run_snn(network, images) * network.logit_per_voltage
    agreement = float(np.mean(logits.argmax(1) == teacher.argmax(1)))
    wanted, found = log_softmax(teacher, axis=1), log_softmax(logits, axis=1)
    divergence = float(np.mean(np.sum(np.exp(wanted) * (wanted - found), axis=1)))
    return Candidate(*setting, agreement, divergence)
