"""Join the groups of convolutions that have more of them than Lava can hold."""

from __future__ import annotations

from dataclasses import replace

from compiler.chip.fields import LAVA_CONV_LIMIT
from compiler.ir.ann import AnnGraph, AnnLayer, Conv2d
from compiler.passes.algebra import float32, joined_weight


def join_groups(graph: AnnGraph) -> AnnGraph:
    """Join as few groups as it takes, with zeros between them, until Lava can hold their number."""
    return graph.with_layers(tuple(_joined(layer) for layer in graph.layers))


def notes_on_joining(before: AnnGraph, after: AnnGraph) -> tuple[str, ...]:
    """What joining costs, one note a layer; graphs before and after `join_groups`."""
    return tuple(
        f"{conv.name}: {conv.geometry.groups} groups became {joined.geometry.groups}, since Lava "
        f"holds at most {LAVA_CONV_LIMIT}; with the zeros between them the layer stores "
        f"{joined.weight.size // conv.weight.size} times the weights"
        for conv, joined in zip(before.layers, after.layers, strict=True)
        if isinstance(conv, Conv2d) and isinstance(joined, Conv2d) and conv is not joined
    )


def _joined(layer: AnnLayer) -> AnnLayer:
    if not isinstance(layer, Conv2d) or layer.geometry.groups <= LAVA_CONV_LIMIT:
        return layer
    groups = _most_groups(layer.geometry.groups)
    geometry = replace(layer.geometry, groups=groups)
    return replace(layer, weight=float32(joined_weight(layer, groups)), geometry=geometry)


def _most_groups(groups: int) -> int:
    """The largest divisor that Lava can hold: no other number keeps every group whole."""
    return max(number for number in range(1, LAVA_CONV_LIMIT + 1) if groups % number == 0)
