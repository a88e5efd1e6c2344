"""The datasets the explorer knows: shapes, class names, normalisation, sizes. Added ones are known by their cards."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from explorer.core import DataUnavailable, UnknownName
from explorer.data.folders import data_folders

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
    rows: dict[str, int]  # images per split; of a published one every class has the same number
    paper: str
    background: int | None = (
        None  # level of the plain ground that its pictures lie on, 0 (black) to 255; None: they have none
    )
    top: int = 1  # an answer is right if the label is among so many of the largest logits
    flips: bool = True  # a mirrored picture is still of its class: training may flip it
    licence: str = ""
    sha256: str = ""  # of an added one's pixels and labels
    folder: Path | None = None  # of an added one: where its card and its pixels lie


CLASSES_FILE = Path(__file__).parent / "sample" / "imagenet-classes.txt"  # torchvision's names, in ImageNet's order

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
        background=0,
    ),
}  # fmt: skip


PHOTOS = Dataset(
    name="photos",
    title="Photographs",
    shape=(3, 224, 224),
    classes=tuple(CLASSES_FILE.read_text("utf-8").splitlines()),
    mean=(0.498,) * 3,  # what EfficientNet-Lite's authors scale pixels by: (127, 128) of 255
    std=(0.502,) * 3,
    rows={"test": 12},
    paper="twelve photographs under free licences, with ImageNet's 1,000 classes (Russakovsky et al., arXiv:1409.0575)",
    top=5,
)
CARD = "dataset.json"  # in the folder of an added dataset
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def dataset(name: str) -> Dataset:
    """The dataset of this name; raises UnknownName, and DataUnavailable for an added one whose card is damaged."""
    if name in DATASETS:
        return DATASETS[name]
    if name == PHOTOS.name:
        return PHOTOS
    for root in data_folders() if NAME.fullmatch(name) else ():
        if (found := _of_card(root / name)) is not None:
            return found
    raise UnknownName("dataset", name, known())


def known() -> list[str]:
    """The names of all datasets: the published ones, the photographs, those added on this computer."""
    own = {file.parent.name for root in data_folders() for file in root.glob(f"*/{CARD}")}
    return [*DATASETS, PHOTOS.name, *sorted(name for name in own if NAME.fullmatch(name))]


def _of_card(folder: Path) -> Dataset | None:
    """The added dataset whose card lies in this folder; None where there is none."""
    file = folder / CARD
    try:
        stat = file.stat()
    except OSError:
        return None
    return _read_card(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read_card(file: Path, changed: int, size: int) -> Dataset:
    """`changed` and `size` make the cache notice another card."""
    name = file.parent.name
    try:
        facts: dict[str, Any] = json.loads(file.read_text("utf-8"))
        found = Dataset(
            name=name,
            title=str(facts["title"]),
            shape=tuple(facts["shape"]),
            classes=tuple(facts["classes"]),
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            rows={split: int(facts["rows"][split]) for split in SPLITS},
            paper=str(facts["source"]),
            background=facts["background"],
            flips=bool(facts["flips"]),
            licence=str(facts["licence"]),
            sha256=str(facts["sha256"]),
            folder=file.parent,
        )
        channels, height, width = found.shape
        sound = len(found.classes) > 1 and len(found.mean) == len(found.std) == channels and min(height, width) > 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(name, file) from error
    if not sound:
        raise _damaged(name, file)
    return found


def _damaged(name: str, file: Path) -> DataUnavailable:
    return DataUnavailable(f"The card of the dataset {name}, {file}, is damaged: remove its folder and add it again.")


def check_split(split: str) -> str:
    """`split` itself when it is "train" or "test"; raises UnknownName."""
    if split not in SPLITS:
        raise UnknownName("split", split, SPLITS)
    return split
