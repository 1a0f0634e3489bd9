"""Try each percentile and keep the network that agrees best with the ANN on held-out images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.chip.execute_float import encode_nhwc, run_snn
from compiler.config import ConversionConfig
from compiler.conversion.balance import Balanced, balance_layer, balance_readout
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array
from compiler.ir.run_ann import run_ann_layers
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer
from compiler.ir.stages import Stage, stages
from compiler.ir.synthetic import SyntheticSet

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """A percentile, with the agreement with the ANN and the mean error of the logits."""

    percentile: float
    agreement: float
    divergence: float


@dataclass(frozen=True)
class Conversion:
    """The chosen network and every candidate tried."""

    graph: SnnGraph
    percentile: float
    candidates: tuple[Candidate, ...]

    @property
    def chosen(self) -> Candidate:
        """The candidate whose network was kept."""
        return next(one for one in self.candidates if one.percentile == self.percentile)


def convert(
    graph: AnnGraph,
    synthetic: SyntheticSet,
    config: ConversionConfig,
    encoding: Encoding,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a lowered network for hard reset, strict threshold and binary spikes.

    Thresholds are balanced layer by layer on the spikes that the layers before really
    send. Ties in agreement are broken by the smaller divergence of the logits. Where the
    number of time-steps is to be chosen, this converts for the largest; see convert_auto.
    """
    chain = stages(graph)
    images = synthetic.pixels(synthetic.training)[: config.images]
    activations = _activations(graph, chain, images)
    check = synthetic.pixels(synthetic.validation)
    teacher = synthetic.logits_nk[synthetic.validation]
    tried: list[tuple[Candidate, SnnGraph]] = []
    for percentile in config.percentiles:
        network = _balanced(graph, chain, images, activations, percentile, config, encoding)
        tried.append((_judge(network, percentile, check, teacher), network))
        if progress:
            progress(len(tried), len(config.percentiles))
    best, network = max(tried, key=lambda pair: (pair[0].agreement, -pair[0].divergence))
    return Conversion(network, best.percentile, tuple(candidate for candidate, _ in tried))


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
    percentile: float,
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
        balanced: Balanced = balance_layer(stage, unit, activation, percentile, spikes)
        layers.append(balanced.layer)
        spikes, unit = balanced.spikes_tnhwc, balanced.layer.unit
    return empty.with_layers(tuple(layers))


def _judge(network: SnnGraph, percentile: float, images: Array, teacher: Array) -> Candidate:
    logits = run_snn(network, images) * network.logit_per_voltage
    agreement = float(np.mean(logits.argmax(1) == teacher.argmax(1)))
    spread = float(np.sqrt(np.mean((teacher - teacher.mean(1, keepdims=True)) ** 2)))
    error = logits - teacher
    error = error - error.mean(1, keepdims=True)
    return Candidate(percentile, agreement, float(np.sqrt(np.mean(error**2))) / max(spread, 1e-9))
