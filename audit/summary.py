"""What an audit comes to: the worst attack beside its floor and ceiling, and the audit's own check.

The recognition rate of an attack is the mean over its images and over all judges. Its floor is the
rate of the same attack on a network of the same shape with random weights, the ceiling that of
real test images. `blackbox` is the best rate of an attack that only queries the network: whatever
is done to the weights, nobody can get below it without giving up the function itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audit.metrics.intervals import difference_estimate
from audit.metrics.recognition import Recognition
from compiler.errors import AuditError, one_problem

Judged = Mapping[str, Mapping[str, Recognition]]
"""Subject -> attack -> what the judges say."""

RATES = ("worst", "blackbox", "whitebox", "floor", "ceiling")
"""Recognition rates of the summary, each with its interval."""

MARGIN = 0.10
"""How far below the ANN's the converted network's worst rate may lie, beyond chance.

The converted network holds the ANN's weights. Attacks that read much less from it than from the
ANN fail for reasons of their own, and their failure on the encrypted network would say nothing.
"""


def summarise(
    judged: Judged, real: Recognition, access: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """worst_attack, worst, blackbox, floor, ceiling, their intervals and differences.

    `highest_floor` is the highest rate of any attack on random weights; `hidden` how much less
    the worst attack reads than from the converted network; `sanity.attacks_work` whether the ANN
    itself is read beyond chance; `sanity.weaker` the attacks that read less than MARGIN allows
    from the converted network. Intervals are over the images of one run of each attack: another
    seed of an attack may move a difference by more.

    access: attack -> `weights` or `queries`. The rates are 0..1; blackbox and whitebox are the
    best by queries alone and with the weights, None where no such attack was made.
    """
    encrypted = judged["encrypted"]
    worst = _worst(encrypted)
    queries = {name: found for name, found in encrypted.items() if access[name] == "queries"}
    weights = {name: found for name, found in encrypted.items() if access[name] == "weights"}
    blackbox = _worst(queries) if queries else None
    whitebox = _worst(weights) if weights else None
    rates = {
        "worst": encrypted[worst],
        "floor": judged["random"][worst],
        "ceiling": real,
        **({"blackbox": queries[blackbox]} if blackbox else {}),
        **({"whitebox": weights[whitebox]} if whitebox else {}),
    }
    intervals = {name: found.rate(seed).as_dict() for name, found in rates.items()}
    return {
        "worst_attack": worst,
        "blackbox_attack": blackbox,
        "whitebox_attack": whitebox,
        "highest_floor": _highest(judged["random"], seed),
        **{name: _value(intervals, name) for name in RATES},
        "intervals": intervals,
        "gain_over_floor": _gain(rates, "worst", "floor", seed),
        "gain_over_blackbox": _gain(rates, "whitebox", "blackbox", seed),
        "hidden": _hidden(judged, worst, seed),
        "sanity": _sanity(judged, seed),
    }


def check_sanity(summary: Mapping[str, Any], quick: bool, left_out: Sequence[str] = ()) -> None:
    """AuditError unless the converted network came out as leaky as the ANN.

    quick: whether budgets were small; left_out: attacks that were not made.
    """
    found = summary["sanity"]
    if found["holds"]:
        return
    raise one_problem(
        AuditError,
        "the audit's own check failed: its other figures mean nothing, and none is written",
        "the converted network, whose weights are the ANN's",
        f"{found['converted']:.1%} recognised at worst ({found['converted_attack']}), the ANN "
        f"{found['ann']:.1%} ({found['ann_attack']})",
        f"at most {MARGIN:.0%} less than the ANN, beyond chance",
        _stronger(quick, left_out),
    )


def _stronger(quick: bool, left_out: Sequence[str]) -> str:
    """How to have the attacks read more."""
    if left_out:
        return (
            "run the audit without --attacks: those on spikes alone may fail where others do "
            "not; the images made so far are kept"
        )
    if quick:
        return "run the audit without --quick"
    return "report a bug: the attacks do not work here"


def _worst(by_attack: Mapping[str, Recognition]) -> str:
    """The attack with the highest rate; the first of equals."""
    return max(by_attack, key=lambda name: float(by_attack[name].shares_n.mean()))


def _highest(random: Mapping[str, Recognition], seed: int) -> dict[str, Any]:
    """The best any attack does on random weights: what chance alone makes of so many attacks."""
    attack = _worst(random)
    return {"attack": attack, **random[attack].rate(seed).as_dict()}


def _hidden(judged: Judged, worst: str, seed: int) -> dict[str, float]:
    """How much less the worst attack reads from the encrypted than from the converted network."""
    before = judged["converted"][_worst(judged["converted"])].shares_n
    return difference_estimate(before, judged["encrypted"][worst].shares_n, seed).as_dict()


def _sanity(judged: Judged, seed: int) -> dict[str, Any]:
    ann, converted, random = (_worst(judged[subject]) for subject in ("ann", "converted", "random"))
    first, second = judged["converted"][converted].shares_n, judged["ann"][ann].shares_n
    gap = difference_estimate(first, second, seed)
    gain = difference_estimate(second, judged["random"][random].shares_n, seed)
    return {
        "holds": gap.high >= -MARGIN,
        "attacks_work": gain.low > 0,
        "ann_over_random": gain.as_dict(),
        "ann": float(second.mean()),
        "ann_attack": ann,
        "converted": float(first.mean()),
        "converted_attack": converted,
        "gap": gap.as_dict(),
        "margin": MARGIN,
        "weaker": _weaker(judged, seed),
    }


def _weaker(judged: Judged, seed: int) -> dict[str, dict[str, float]]:
    """Attacks that read much less from the converted network than from the ANN, and how much.

    It holds the ANN's weights: what such an attack does not find in a spiking network is no
    sign that it is not there.
    """
    gaps = {
        name: difference_estimate(found.shares_n, judged["ann"][name].shares_n, seed)
        for name, found in judged["converted"].items()
    }
    return {name: gap.as_dict() for name, gap in gaps.items() if gap.high < -MARGIN}


def _value(intervals: Mapping[str, Mapping[str, float]], name: str) -> float | None:
    return intervals[name]["value"] if name in intervals else None


def _gain(
    rates: Mapping[str, Recognition], of: str, over: str, seed: int
) -> dict[str, float] | None:
    if of not in rates or over not in rates:
        return None
    return difference_estimate(rates[of].shares_n, rates[over].shares_n, seed).as_dict()
