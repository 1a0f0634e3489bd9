"""Choose the number of time-steps: the smallest whose conversion is nearly as good as the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from compiler.chip.execute_float import run_snn
from compiler.config import ConversionConfig
from compiler.conversion.convert import Conversion, Progress, convert
from compiler.ir.ann import AnnGraph
from compiler.ir.geometry import Array
from compiler.ir.snn import Encoding
from compiler.ir.synthetic import SyntheticSet


@dataclass(frozen=True)
class TriedTimesteps:
    """The conversion for one number of time-steps, and its weighted agreement with the ANN."""

    conversion: Conversion
    weighted_agreement: float

    @property
    def timesteps(self) -> int:
        """T."""
        return self.conversion.graph.timesteps


@dataclass(frozen=True)
class TimestepChoice:
    """Every number of time-steps that was tried, and the one that was kept.

    timesteps: the smallest whose weighted agreement is at least `wanted`; best: the largest
    that any reached; wanted: best minus the margin.
    """

    timesteps: int
    best: float
    wanted: float
    tried: tuple[TriedTimesteps, ...]

    @property
    def conversion(self) -> Conversion:
        """The conversion that was kept."""
        return next(one.conversion for one in self.tried if one.timesteps == self.timesteps)


def convert_auto(
    graph: AnnGraph,
    synthetic: SyntheticSet,
    config: ConversionConfig,
    encoding: Encoding,
    progress: Progress | None = None,
) -> TimestepChoice:
    """Convert for every T of `config.auto_timesteps` and choose.

    Each T gets thresholds of its own. Compared is the weighted agreement with the ANN on the
    held-out synthetic images, before training; the smallest T within `config.auto_margin` of
    the best is chosen. Whether the best is good is not asked: `best` tells.
    """
    choices = sorted(config.auto_timesteps)
    images = synthetic.pixels(synthetic.validation)
    teacher = synthetic.logits_nk[synthetic.validation]
    tried = []
    for index, steps in enumerate(choices):

        def tell(done: int, total: int, before: int = index) -> None:
            if progress:
                progress(before * total + done, len(choices) * total)

        found = convert(graph, synthetic, replace(config, timesteps=steps), encoding, tell)
        answers_n = run_snn(found.graph, images).argmax(1)
        tried.append(TriedTimesteps(found, weighted_agreement(answers_n, teacher)))
    best = max(one.weighted_agreement for one in tried)
    wanted = best - config.auto_margin
    chosen = next(one for one in tried if one.weighted_agreement >= wanted)
    return TimestepChoice(chosen.timesteps, best, wanted, tuple(tried))


def weighted_agreement(answers_n: Array, teacher_nk: Array) -> float:
    """Share of answers that are the ANN's, an image counting as much as the ANN is sure of it.

    The weight is the softmax probability of the ANN's first class minus that of its second.
    Synthetic images lie on the fence between classes far more often than real ones; there a
    spiking network falls to either side for a long time, and it matters little.
    """
    likely = np.sort(softmax(teacher_nk.astype(np.float64), axis=1), axis=1)
    sure_n = likely[:, -1] - likely[:, -2]
    same_n = answers_n == teacher_nk.argmax(1)
    return float(np.average(same_n, weights=sure_n if sure_n.any() else None))
