"""The three graphs that the compiler passes between its stages."""

from compiler.ir.ann import (
    AnnGraph,
    AnnLayer,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Flatten,
    InputAffine,
    Relu,
)
from compiler.ir.chip import ChipGraph, ChipInput, ChipLayer, CubaFields
from compiler.ir.geometry import ConvGeometry, Shape
from compiler.ir.snn import Encoding, SnnGraph, SnnLayer

__all__ = [
    "AnnGraph",
    "AnnLayer",
    "AvgPool2d",
    "BatchNorm",
    "ChipGraph",
    "ChipInput",
    "ChipLayer",
    "Conv2d",
    "ConvGeometry",
    "CubaFields",
    "Dense",
    "Encoding",
    "Flatten",
    "InputAffine",
    "Relu",
    "Shape",
    "SnnGraph",
    "SnnLayer",
]
