"""Draw the bundled sample from the full test sets: `python -m explorer.data.build_sample [FOLDER]`.

FOLDER defaults to the sample's place in the package. The same full set gives the same pixels, labels and order.
"""

from __future__ import annotations

import sys
from pathlib import Path

from explorer.data import bundled
from explorer.data.loading import balanced, raw
from explorer.data.specs import DATASETS

PER_CLASS = 200
SEED = 0  # of `balanced`, which chooses the images and their order: every prefix of the sample is balanced


def build(name: str, folder: Path = bundled.FOLDER) -> None:
    """Write one dataset's sample; raises DataUnavailable where the full test set is missing."""
    pixels, labels, classes = raw(name, "test", source="full")
    rows = balanced(labels, PER_CLASS * len(classes), SEED)
    bundled.write(DATASETS[name], folder, pixels[rows].numpy(), labels[rows].numpy(), rows.numpy())


if __name__ == "__main__":
    for dataset_name in DATASETS:
        build(dataset_name, *map(Path, sys.argv[1:2]))
