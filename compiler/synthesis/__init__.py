"""AnnGraph -> SyntheticSet: images made from the network alone."""

from compiler.synthesis.optimize import synthesize

__all__ = ["synthesize"]
