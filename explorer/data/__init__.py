"""Real images: datasets, the bundled sample, uploads."""

from explorer.data.loading import raw
from explorer.data.specs import DATASETS, Dataset, dataset

__all__ = ["DATASETS", "Dataset", "dataset", "raw"]
