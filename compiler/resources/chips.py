"""Limits of Loihi 1 and Loihi 2, each with its source.

nengo-loihi is quoted at commit e564f66, lava-dl's repository at commit d825ac5. A limit
that Intel has not published, and that follows from utilisation tables printed in
lava-dl's tutorials, is marked `inferred`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compiler.errors import UsageError, one_problem

ChipName = Literal["loihi1", "loihi2"]
CHIP_NAMES: tuple[ChipName, ...] = ("loihi1", "loihi2")

WORD_BITS = 64
"""Synaptic memory is counted in words of 64 bits: nengo-loihi block.py:527-549."""

SYNAPSES_PER_BLOCK = 64
"""A list of synapses is stored in blocks of up to 64: nengo-loihi block.py:527-549."""

BLOCK_HEADER_BITS = 10
"""Bits that each block needs beside its synapses: nengo-loihi block.py:527-549."""

INDEX_BITS = (0, 6, 7, 8, 9, 10, 11, 12)
"""Widths that a synapse's index may have: nengo-loihi block.py:427."""

WEIGHT_BITS = 8
"""Weights even in -256..254 take 8 bits, the sign among them: nengo-loihi block.py:428, 523-525."""

LARGEST_DELAY = 62
"""Steps that a synapse can hold a spike back: lava-dl 0.6.0 netx/hdf5.py:427-430."""


@dataclass(frozen=True)
class Limit:
    """One limit of a core or a chip."""

    value: int
    source: str
    inferred: bool = False


@dataclass(frozen=True)
class Chip:
    """What one core and one chip hold.

    neurons, words (of 64 bits), input_axons and output_axons are limits of a core; cores
    of a chip. `column_strips`: a convolution is cut into strips of a power of two columns.
    """

    name: ChipName
    title: str
    cores: Limit
    neurons: Limit
    words: Limit
    input_axons: Limit
    output_axons: Limit
    column_strips: bool


_TABLES = (
    "utilisation tables printed in lava-dl tutorials netx/mnist/run.ipynb and yolo_kp/run.ipynb"
)

LOIHI1 = Chip(
    name="loihi1",
    title="Loihi 1",
    cores=Limit(128, "nengo-loihi hardware/allocators.py:163-165"),
    neurons=Limit(1024, "nengo-loihi block.py:8"),
    words=Limit(16384, "nengo-loihi block.py:11: 1,048,576 bits of synaptic memory"),
    input_axons=Limit(4096, "nengo-loihi block.py:9"),
    output_axons=Limit(
        4096, "nengo-loihi block.py:10; a population axon of 32 bits takes two slots"
    ),
    column_strips=False,
)

LOIHI2 = Chip(
    name="loihi2",
    title="Loihi 2",
    cores=Limit(120, "of 128 in Intel's brief, 120 are usable: open-neuromorphic.org, Loihi 2"),
    neurons=Limit(4095, _TABLES, inferred=True),
    words=Limit(16000, f"{_TABLES}; logs of 2022 and 2023 enforce 12,000", inferred=True),
    input_axons=Limit(16000, _TABLES, inferred=True),
    output_axons=Limit(16000, f"AxonMap in the {_TABLES}", inferred=True),
    column_strips=True,
)

CHIPS: dict[str, Chip] = {chip.name: chip for chip in (LOIHI1, LOIHI2)}


def find_chip(name: str) -> Chip:
    """The chip of that name; UsageError with all the names if there is none."""
    if name in CHIPS:
        return CHIPS[name]
    raise one_problem(
        UsageError, "no such chip", "--target", name, " or ".join(CHIPS), "name one of them"
    )
