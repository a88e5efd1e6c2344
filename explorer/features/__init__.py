"""What the penultimate layer says: reference images, their plane, and a walk drawn into it."""

from explorer.features.plane import Plane, walkway
from explorer.features.reference import Gathering, Reference, reference

__all__ = ["Gathering", "Plane", "Reference", "reference", "walkway"]
