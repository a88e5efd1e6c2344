"""The one training loop. Importable with torch, numpy, pillow, pyarrow and safetensors alone."""

from explorer.training.loop import Diverged, Progress, Result, train
from explorer.training.metrics import METRICS, newest, read_metrics
from explorer.training.sights import Sight, read_sight, sight_epochs

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
