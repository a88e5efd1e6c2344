"""The one training loop. Importable with torch, numpy, pillow, pyarrow and safetensors alone.

What needs torch is imported when it is first asked for: reading what a run has recorded does without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from explorer.training.metrics import METRICS, newest, read_metrics
from explorer.training.sights import Sight, read_sight, sight_epochs

if TYPE_CHECKING:
    from explorer.training.loop import Diverged, Progress, Result, train

LATER = ("Diverged", "Progress", "Result", "train")


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("explorer.training.loop"), name)


__all__ = [
    "METRICS",
    "Diverged",
    "Progress",
    "Result",
    "Sight",
    "newest",
    "read_metrics",
    "read_sight",
    "sight_epochs",
    "train",
]
