"""AnnGraph -> AnnGraph rewrites, in one ordered tuple, each checked against the original."""

from compiler.passes.lower import (
    PASSES,
    POOLS_AS_NEURONS,
    LoweredResult,
    PassCheck,
    lower,
    pools_as_neurons,
)

__all__ = ["PASSES", "POOLS_AS_NEURONS", "LoweredResult", "PassCheck", "lower", "pools_as_neurons"]
