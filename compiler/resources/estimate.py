"""How much of a chip a network takes, before or after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.errors import ModelError
from compiler.resources.chips import CHIPS, WEIGHT_BITS, Chip, find_chip
from compiler.resources.memory import Tile
from compiler.resources.partition import CoreUse, partition
from compiler.resources.rules import Violation, check
from compiler.resources.shapes import AnyGraph, LayerShape, NetworkShape, describe


@dataclass(frozen=True)
class LayerUse:
    """What a layer takes. words, input_axons and output_axons are those of its fullest core."""

    name: str
    kind: str
    neurons: int
    cores: int
    words: int
    words_in_all: int
    input_axons: int
    output_axons: int
    split: str
    fullest: str
    fullest_share: float


@dataclass(frozen=True)
class ResourceReport:
    """Cores of a network on one chip.

    fits: it breaks no hard rule and needs one chip only; chips: chips needed; core_map:
    what lies on every core; violations: broken design rules, hard ones first.
    """

    chip: str
    cores: int
    chips: int
    fits: bool
    layers: tuple[LayerUse, ...]
    core_map: tuple[CoreUse, ...]
    violations: tuple[Violation, ...]
    network: NetworkShape

    @property
    def neurons(self) -> int:
        """Neurons on the chip."""
        return sum(layer.neurons for layer in self.layers)


def estimate(
    graph: AnyGraph | NetworkShape,
    chip: str,
    timesteps: int | None = None,
    weight_bits: int = WEIGHT_BITS,
) -> ResourceReport:
    """Cores, memory, axons and broken design rules of a network on `chip`.

    graph: a ChipGraph, an SnnGraph or a lowered AnnGraph. Every weight is assumed to be
    stored, zero or not, so that the figure before training is the one after it.
    Raises UsageError for a chip that is not known.
    """
    target = find_chip(chip)
    network = graph if isinstance(graph, NetworkShape) else describe(graph, timesteps)
    cores = partition(network, target, weight_bits)
    violations = check(network, target, cores)
    hard = any(violation.hard for violation in violations)
    return ResourceReport(
        chip=target.name,
        cores=len(cores),
        chips=max(-(-len(cores) // target.cores.value), 1),
        fits=not hard and len(cores) <= target.cores.value,
        layers=tuple(_layer_use(layer, target, cores) for layer in network.layers),
        core_map=tuple(cores),
        violations=violations,
        network=network,
    )


def require(report: ResourceReport) -> None:
    """Raise ModelError with every hard rule that the network breaks on the report's chip."""
    problems = [violation.problem for violation in report.violations if violation.hard]
    if problems:
        raise ModelError(f"the network cannot run on {CHIPS[report.chip].title}", problems)


def _layer_use(layer: LayerShape, chip: Chip, cores: Sequence[CoreUse]) -> LayerUse:
    own = [use for use in cores if use.layer == layer.name]
    shares = {
        "neurons": max(use.neurons for use in own) / chip.neurons.value,
        "synaptic memory": max(use.words for use in own) / chip.words.value,
        "input axons": max(use.input_axons for use in own) / chip.input_axons.value,
        "output axons": max(use.output_axons for use in own) / chip.output_axons.value,
    }
    fullest = max(shares, key=lambda name: shares[name])
    return LayerUse(
        name=layer.name,
        kind=layer.kind,
        neurons=layer.neurons,
        cores=len(own),
        words=max(use.words for use in own),
        words_in_all=sum(use.words for use in own),
        input_axons=max(use.input_axons for use in own),
        output_axons=max(use.output_axons for use in own),
        split=_split_in_words([use.tile for use in own]),
        fullest=fullest,
        fullest_share=shares[fullest],
    )


def _split_in_words(tiles: Sequence[Tile]) -> str:
    parts = {
        "channels": len({tile.channels for tile in tiles}),
        "rows": len({tile.rows for tile in tiles}),
        "columns": len({tile.columns for tile in tiles}),
    }
    cut = [f"{count} ranges of {axis}" for axis, count in parts.items() if count > 1]
    return " x ".join(cut) if cut else "whole"
