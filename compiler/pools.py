"""Folded pools or pools with neurons of their own: both are converted, then one is chosen.

Folding a pool into the layer behind it is exact but gives that layer a large kernel, and so
every spike before the pool many operations. Neurons of its own make spikes fewer and cheap,
add a layer, and lose what a hard reset throws away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compiler.conversion import Conversion
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array
from compiler.quantization import quantize
from compiler.resources import estimate
from compiler.timesteps import cost_at
from sim.reference import simulate

FOLDED, NEURONS = "folded", "neurons"
MOST_COST_SAMPLES = 128
"""Held-out images for the operations of each way."""

_CHIP = "loihi2"


@dataclass(frozen=True)
class PoolChoice:
    """The way that was chosen, its result, and a row of the report for each way."""

    way: str
    graph: AnnGraph
    result: Any
    tried: tuple[dict[str, Any], ...]

    def in_words(self) -> str:
        """What was chosen, and against what."""
        rows = {row["way"]: row for row in self.tried}
        folded, neurons = rows[FOLDED], rows[NEURONS]
        kept = "folded into the layers behind" if self.way == FOLDED else "given neurons"
        return (
            f"pools are {kept}: folded they agree with the ANN on {folded['agreement']:.1%} of the "
            f"held-out synthetic images at {folded['synops_per_sample']:,.0f} operations and "
            f"{folded['cores']} cores, as neurons on {neurons['agreement']:.1%} at "
            f"{neurons['synops_per_sample']:,.0f} and {neurons['cores']}"
        )


def choose_pools(
    graphs: dict[str, AnnGraph],
    converted: Callable[[AnnGraph], tuple[Conversion, Any]],
    images_nchw: Array,
    margin: float,
) -> PoolChoice:
    """Convert the network in both ways; neurons are chosen where they cost less and agree as well.

    graphs: lowered networks by way; converted: graph to conversion and anything that belongs to
    it; images_nchw: held-out synthetic images; margin: agreement that neurons may lose. Cheaper
    is fewer synaptic operations on the chip.
    """
    results = {way: converted(graph) for way, graph in graphs.items()}
    rows = {way: _row(way, result[0], images_nchw) for way, result in results.items()}
    folded, neurons = rows[FOLDED], rows[NEURONS]
    cheaper = neurons["synops_per_sample"] < folded["synops_per_sample"]
    as_good = neurons["agreement"] >= folded["agreement"] - margin
    way = NEURONS if cheaper and as_good else FOLDED
    return PoolChoice(way, graphs[way], results[way], tuple(rows.values()))


def _row(way: str, conversion: Conversion, images_nchw: Array) -> dict[str, Any]:
    chip = quantize(conversion.graph)
    chosen = {
        "way": way,
        "agreement": conversion.chosen.agreement,
        "divergence": conversion.chosen.divergence,
        "cores": estimate(chip, _CHIP).cores,
    }
    return chosen | cost_at(chip, simulate(chip, images_nchw[:MOST_COST_SAMPLES]))
