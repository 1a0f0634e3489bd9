"""Trained networks in files and modules -> AnnGraph."""

from compiler.frontend.architectures import ARCHITECTURES
from compiler.frontend.load import load_model

__all__ = ["ARCHITECTURES", "load_model"]
