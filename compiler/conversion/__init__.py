"""AnnGraph + SyntheticSet -> SnnGraph: threshold balancing for Loihi's neuron."""

from compiler.conversion.convert import Candidate, Conversion, convert

__all__ = ["Candidate", "Conversion", "convert"]
