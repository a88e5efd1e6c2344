"""Robustness Explorer: how neural networks are attacked and defended, made visible."""

__version__ = "0.1.0"
