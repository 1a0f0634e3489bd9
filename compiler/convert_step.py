"""The stage `convert`: balancing, the number of time-steps, and what becomes of pools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from compiler.config import AUTO
from compiler.ir.ann import AnnGraph
from compiler.steps import CONVERTED, MATCHED, Results, Run, Tell
from compiler.store import save


def convert_step(run: Run, tell: Tell) -> Results:
    """Balance thresholds; choose the number of time-steps, and neurons for pools or none."""
    from compiler.pools import FOLDED, NEURONS, choose_pools

    config, synthetic = run.config.convert, run.synthetic()
    folded, neurons = run.lowered(), run.lowered_pools()
    ways = 2 if neurons is not None and config.pools == AUTO else 1
    parts = iter(range(ways))

    def converted(graph: AnnGraph) -> tuple[Any, Any]:
        part = next(parts)
        return _convert(
            run, graph, tell, lambda done, total: tell.progress(part * total + done, ways * total)
        )

    pools = None
    if neurons is None or config.pools == "fold":
        matched, (conversion, choice) = folded, converted(folded)
    elif config.pools == "neurons":
        matched, (conversion, choice) = neurons, converted(neurons)
    else:
        graphs = {FOLDED: folded, NEURONS: neurons}
        images = synthetic.pixels(synthetic.validation)
        pools = choose_pools(graphs, converted, images, config.pool_margin)
        matched, (conversion, choice) = pools.graph, pools.result
        tell.note(pools.in_words())
    wanted = min(config.images, len(synthetic.images_nchw) - synthetic.held_out)
    if conversion.images < wanted:
        tell.note(
            f"thresholds are balanced on {conversion.images} images instead of {wanted}: the "
            f"spikes of more, over {conversion.graph.timesteps} time-steps, take too much memory"
        )
    save(matched, run.folder.stage_file(MATCHED))
    save(conversion.graph, run.folder.stage_file(CONVERTED))
    return {
        "timesteps": conversion.graph.timesteps,
        "images": conversion.images,
        "percentile": conversion.chosen.percentile,
        "threshold_scale": conversion.chosen.threshold_scale,
        "candidates": [asdict(candidate) for candidate in conversion.candidates],
        "timestep_choice": choice,
        "pool_choice": pools and {"way": pools.way, "tried": list(pools.tried)},
    }


def _convert(
    run: Run, graph: AnnGraph, tell: Tell, progress: Callable[[int, int], None]
) -> tuple[Any, Results | None]:
    """The conversion, and the choice of time-steps where that was asked for."""
    from compiler import timesteps
    from compiler.conversion import convert, convert_auto

    config, synthetic = run.config.convert, run.synthetic()
    if config.timesteps != AUTO:
        return convert(graph, synthetic, config, run.encoding, progress), None
    choice = convert_auto(graph, synthetic, config, run.encoding, progress)
    tell.note(timesteps.choice_in_words(choice))
    images = synthetic.pixels(synthetic.validation)
    return choice.conversion, timesteps.choice_row(choice, images, config.auto_margin)
