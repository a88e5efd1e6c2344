"""Architectures (one file each) and the zoo of trained models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.core import Registry

if TYPE_CHECKING:  # without torch, as long as nobody asks for an architecture
    from explorer.core import Classifier

ARCHITECTURES: Registry[Classifier] = Registry("architecture", "explorer.models")

__all__ = ["ARCHITECTURES"]
