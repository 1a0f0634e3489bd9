"""Whether the chips can hold a network, asked before anything is synthesized or trained."""

from __future__ import annotations

from compiler.config import AUTO, ConversionConfig
from compiler.ir.ann import AnnGraph
from compiler.resources import estimate, require
from compiler.resources.chips import CHIP_NAMES, CHIPS, ChipName


def forms_that_fit(
    folded: AnnGraph, pools: AnnGraph | None, target: str, config: ConversionConfig
) -> tuple[AnnGraph, AnnGraph | None]:
    """The form to compile on the chip `target`, and the other one where that is a choice too.

    folded, pools: the lowered network with pools folded, and with neurons for pools where
    that is another network. Where either may be chosen and one alone fits, it is that one.
    Raises ModelError with every hard rule that the form breaks which is asked for; where
    neither fits, that is the folded one.
    """
    steps = config.most_timesteps
    if pools is None or config.pools == "fold":
        require(estimate(folded, target, steps))
        return folded, pools
    report = estimate(pools, target, steps)
    fits = not any(broken.hard for broken in report.violations)
    if config.pools != AUTO:
        require(report)
        return folded, pools
    whole = estimate(folded, target, steps)
    if fits and any(broken.hard for broken in whole.violations):
        return pools, None
    require(whole)
    return folded, pools if fits else None


def chips_that_cannot_hold(
    network: AnnGraph, timesteps: int, pools: AnnGraph | None = None
) -> list[str]:
    """A sentence for every chip of which the network breaks a hard rule.

    pools: the same network with neurons for its pools, which may be a way out.
    """
    lines = []
    for name in CHIP_NAMES:
        chip = CHIPS[name]
        layers = _layers_too_large(network, name, timesteps)
        if not layers:
            continue
        way_out = ""
        if pools is not None and not _layers_too_large(pools, name, timesteps):
            way_out = "; with neurons for its pools (--set convert.pools=neurons) it can"
        lines.append(
            f"{chip.title} cannot hold it as it is (layer {', '.join(layers)}): the report "
            f"says why, and --target {name} would refuse it{way_out}"
        )
    return lines


def _layers_too_large(network: AnnGraph, chip: ChipName, timesteps: int) -> list[str]:
    """Layers that break a hard rule of the chip."""
    violations = estimate(network, chip, timesteps).violations
    return list(dict.fromkeys(broken.problem.layer for broken in violations if broken.hard))
