"""AnnGraph + SyntheticSet -> SnnGraph: threshold balancing for Loihi's neuron."""

from compiler.conversion.auto import TimestepChoice, convert_auto
from compiler.conversion.convert import Candidate, Conversion, convert

__all__ = ["Candidate", "Conversion", "TimestepChoice", "convert", "convert_auto"]
