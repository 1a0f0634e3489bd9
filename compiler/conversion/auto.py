"""Choose the number of time-steps: the smallest whose conversion is nearly as good as the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.config import ConversionConfig
from compiler.conversion.convert import Conversion, Progress, convert
from compiler.ir.ann import AnnGraph
from compiler.ir.snn import Encoding
from compiler.ir.synthetic import SyntheticSet


@dataclass(frozen=True)
class TimestepChoice:
    """A conversion for every number of time-steps that was tried, and the one that was kept.

    timesteps: the smallest whose agreement is at least `wanted`; best: the largest agreement
    that any reached; wanted: best minus the margin.
    """

    timesteps: int
    best: float
    wanted: float
    tried: tuple[Conversion, ...]

    @property
    def conversion(self) -> Conversion:
        """The conversion that was kept."""
        return next(one for one in self.tried if one.graph.timesteps == self.timesteps)


def convert_auto(
    graph: AnnGraph,
    synthetic: SyntheticSet,
    config: ConversionConfig,
    encoding: Encoding,
    progress: Progress | None = None,
) -> TimestepChoice:
    """Convert for every T of `config.auto_timesteps` and choose.

    Each T gets thresholds of its own. Compared is the agreement with the ANN
    on the held-out synthetic images, before training; the smallest T within
    `config.auto_margin` of the best agreement is chosen. Whether the best is good is not asked:
    `best` tells.
    """
    choices = sorted(config.auto_timesteps)
    tried = []
    for index, steps in enumerate(choices):

        def tell(done: int, total: int, before: int = index) -> None:
            if progress:
                progress(before * total + done, len(choices) * total)

        tried.append(convert(graph, synthetic, replace(config, timesteps=steps), encoding, tell))
    best = max(one.chosen.agreement for one in tried)
    wanted = best - config.auto_margin
    chosen = next(one for one in tried if one.chosen.agreement >= wanted)
    return TimestepChoice(chosen.graph.timesteps, best, wanted, tuple(tried))
