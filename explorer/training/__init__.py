"""Training by a recipe: the one loop, its checkpoints and records.

Importable with torch, numpy, pillow, pyarrow and safetensors alone. What needs torch is imported when it is first asked for:
reading what a run has recorded does without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from explorer.training.metrics import METRICS, newest, read_metrics
from explorer.training.preview_file import EpochPreview, preview_epochs, read_preview

if TYPE_CHECKING:
    from explorer.training.cost import Cost, estimate
    from explorer.training.result import Diverged, Progress, Result
    from explorer.training.trainer import train

LATER = {"cost": ("Cost", "estimate"), "result": ("Diverged", "Progress", "Result"), "trainer": ("train",)}
HOME = {name: module for module, names in LATER.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{HOME[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "METRICS",
    "Cost",
    "Diverged",
    "EpochPreview",
    "Progress",
    "Result",
    "estimate",
    "newest",
    "preview_epochs",
    "read_metrics",
    "read_preview",
    "train",
]
