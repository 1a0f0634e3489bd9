"""AnnGraph -> AnnGraph rewrites, in one ordered tuple, each checked against the original."""

from compiler.passes.classifier import check_classifier
from compiler.passes.lower import (
    PASSES,
    POOLS_AS_NEURONS,
    LoweredResult,
    PassCheck,
    lower,
    pools_as_neurons,
)

__all__ = [
    "PASSES",
    "POOLS_AS_NEURONS",
    "LoweredResult",
    "PassCheck",
    "check_classifier",
    "lower",
    "pools_as_neurons",
]
