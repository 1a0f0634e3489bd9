"""AnnGraph + SyntheticSet -> SnnGraph: threshold balancing for Loihi's neuron."""

from compiler.conversion.auto import TimestepChoice, TriedTimesteps, convert_auto
from compiler.conversion.convert import Candidate, Conversion, convert

__all__ = ["Candidate", "Conversion", "TimestepChoice", "TriedTimesteps", "convert", "convert_auto"]
