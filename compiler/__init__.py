"""Compile a trained network, without its data, into a private spiking network for Loihi."""

__version__ = "0.1.0"
