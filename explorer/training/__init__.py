"""The one training loop. Importable with torch, numpy, pillow, pyarrow and safetensors alone."""

from explorer.training.loop import Progress, Result, train

__all__ = ["Progress", "Result", "train"]
