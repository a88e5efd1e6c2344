"""The datasets the explorer knows: shapes, class names, normalisation, sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from explorer.core import UnknownName

Split = Literal["train", "test"]
SPLITS: tuple[str, ...] = get_args(Split)


@dataclass(frozen=True)
class Dataset:
    """What is fixed about one dataset. `mean` and `std` are per channel, of the training pixels in [0, 1]."""

    name: str
    title: str
    shape: tuple[int, int, int]  # (C, H, W)
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rows: dict[str, int]  # images per split; every class has the same number
    paper: str


DATASETS: dict[str, Dataset] = {
    "cifar10": Dataset(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        rows={"train": 50_000, "test": 10_000},
        paper="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    ),
    "fashion_mnist": Dataset(
        name="fashion_mnist",
        title="Fashion-MNIST",
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
        mean=(0.2860,),
        std=(0.3530,),
        rows={"train": 60_000, "test": 10_000},
        paper="Xiao, Rasul, Vollgraf, arXiv:1708.07747 (MIT licence)",
    ),
}  # fmt: skip


def dataset(name: str) -> Dataset:
    """The dataset of this name; raises UnknownName."""
    if name not in DATASETS:
        raise UnknownName("dataset", name, DATASETS)
    return DATASETS[name]


def check_split(split: str) -> str:
    """`split` itself when it is "train" or "test"; raises UnknownName."""
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    return split
