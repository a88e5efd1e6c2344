"""Architectures (one file each) and the zoo of trained models."""

from explorer.core import Registry

ARCHITECTURES = Registry("architecture", "explorer.models")

__all__ = ["ARCHITECTURES"]
