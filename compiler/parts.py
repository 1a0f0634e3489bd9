"""Progress of a stage that consists of parts of very different length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Progress = Callable[[int, int], None]

UNITS = 1000
"""Steps of the whole that a part's progress is told in."""


def parts(progress: Progress, lengths: Sequence[float]) -> tuple[Progress, ...]:
    """A progress function for every part; together they move `progress` from 0 to UNITS.

    lengths: how long the parts take, in any unit. A part is as far as it last said; a part
    that begins takes those before it to be done.
    """
    total = sum(lengths) or 1.0
    starts = [sum(lengths[:i]) for i in range(len(lengths))]

    def of_part(start: float, length: float) -> Progress:
        def tell(done: int, whole: int) -> None:
            share = done / whole if whole else 1.0
            progress(round(UNITS * (start + length * share) / total), UNITS)

        return tell

    return tuple(of_part(start, length) for start, length in zip(starts, lengths, strict=True))
