"""Numbers in words, the same wherever people read them. A missing number says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def missing(why: str = "") -> str:
    """The words for a number that is not there."""
    return f"not measured ({why})" if why else "not measured"


def percent(value: float | None, why: str = "") -> str:
    """A share 0..1 as per cent with one decimal."""
    return missing(why) if value is None else f"{100 * value:.1f} %"


def count(value: float | None, why: str = "") -> str:
    """A number of things: whole with thousands separated, small fractions with digits."""
    if value is None:
        return missing(why)
    if value == int(value) or value >= 1000:
        return f"{round(value):,}"
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def short_count(value: float) -> str:
    """A number of things with three digits at most, for the axis of a drawing."""
    size, mark = next(
        (pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= pair[0]), (1.0, "")
    )
    return f"{value / size:.3g}{mark}"


def joules(value: float | None, why: str = "") -> str:
    """Energy with three digits and a prefix."""
    return _with_prefix(value, "J", why)


def latency(value: float | None, why: str = "") -> str:
    """A short time with three digits and a prefix."""
    return _with_prefix(value, "s", why)


def energy_delay(value: float | None, why: str = "") -> str:
    """Joules times seconds with three digits and a prefix."""
    return _with_prefix(value, "J s", why)


def _with_prefix(value: float | None, unit: str, why: str) -> str:
    if value is None:
        return missing(why)
    if value == 0:
        return f"0 {unit}"
    size, prefix = next((pair for pair in _PREFIXES if value >= pair[0]), _PREFIXES[-1])
    scaled = value / size
    return f"{scaled:.3g} {prefix}{unit}" if scaled < 999.5 else f"{scaled:.0f} {prefix}{unit}"


def factor(gain: float | None, why: str = "") -> str:
    """A gain (ANN over SNN) in words: how many times less, or more, energy the SNN takes."""
    if not gain:
        return missing(why)
    times, relation = (gain, "less") if gain >= 1 else (1 / gain, "more")
    return f"{times:,.0f} x {relation}" if times >= 100 else f"{times:.3g} x {relation}"


def gain(row: Mapping[str, Any]) -> str:
    """The gain of a row of energies in words, where the SNN may have taken nothing at all."""
    return "takes none" if row.get("snn_joules") == 0 else factor(row.get("gain"))


def seconds(value: float | None, why: str = "") -> str:
    """A duration."""
    if value is None:
        return missing(why)
    if value >= 60:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest} s"
    return f"{value:.1f} s"


def size_in_bytes(value: float | None, why: str = "") -> str:
    """Memory or a file's size."""
    if value is None:
        return missing(why)
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.1f} MiB"


def shape(values: Sequence[int] | None) -> str:
    """(C, H, W) as `C x H x W`."""
    return " x ".join(str(value) for value in values) if values else missing()
