"""SnnGraph -> ChipGraph, and the static bounds of what one time-step can bring."""

from compiler.quantization.bounds import StepBound, step_bounds
from compiler.quantization.quantize import quantize

__all__ = ["StepBound", "quantize", "step_bounds"]
