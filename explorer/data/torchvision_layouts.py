"""torchvision's file layouts of CIFAR-100, MNIST, SVHN, GTSRB and STL-10, read without torchvision.

CIFAR-100 comes as pickles. They are read by an unpickler that knows arrays and plain values, and nothing that could run code.
"""

from __future__ import annotations

import csv
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from explorer.data.layouts import Source, Split, Unfit, of_arrays, opened

MNIST_MAGIC = {3: 2051, 1: 2049}  # of a file of pictures (N,H,W) and of labels (N,)
STL10_SHAPE = (3, 96, 96)


def _first(folder: Path, *places: str) -> Path | None:
    """The first of these folders that is there; "" is the folder itself."""
    return next((folder / place for place in places if (folder / place).is_dir()), None)


class _Plain(pickle.Unpickler):
    """Arrays, dictionaries, lists, numbers and text; anything else is refused before it is made."""

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def _unpickled(file: Path) -> dict[str, Any]:
    with file.open("rb") as data:
        found = _Plain(data, encoding="latin1").load()
    if not isinstance(found, dict):
        raise ValueError("it holds no dictionary")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}


def cifar100(folder: Path) -> Source | None:
    """`cifar-100-python/{train,test,meta}`."""
    place = _first(folder, "cifar-100-python", "") if not (folder / "meta").is_file() else folder
    if place is None or not all((place / name).is_file() for name in ("train", "test", "meta")):
        return None
    classes = tuple(str(name) for name in _unpickled(place / "meta")["fine_label_names"])
    splits = {}
    for name in ("train", "test"):
        found = _unpickled(place / name)
        pixels = np.asarray(found["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        splits[name] = of_arrays(np.ascontiguousarray(pixels), np.asarray(found["fine_labels"]), str(place / name))
    paper = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    return Source("torchvision CIFAR-100", classes, splits, "CIFAR-100", paper)


def mnist(folder: Path) -> Source | None:
    """`MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte`, and others of that layout."""
    place = next(
        (p for p in (folder / "MNIST" / "raw", folder / "raw", folder) if (p / _idx("train", 3)).is_file()), None
    )
    if place is None:
        return None
    splits = {}
    for name, start in (("train", "train"), ("test", "t10k")):
        pixels, labels = _read_idx(place / _idx(start, 3), 3), _read_idx(place / _idx(start, 1), 1)
        splits[name] = of_arrays(pixels, labels, str(place / _idx(start, 3)))
    classes = tuple(str(k) for k in range(1 + max(int(split.labels.max(initial=0)) for split in splits.values())))
    paper = "LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, 1998"
    return Source("torchvision MNIST", classes, splits, "MNIST", paper, flips=False)


def _idx(start: str, dimensions: int) -> str:
    return f"{start}-{'images' if dimensions == 3 else 'labels'}-idx{dimensions}-ubyte"


def _read_idx(file: Path, dimensions: int) -> np.ndarray:
    data = file.read_bytes()
    magic, *shape = struct.unpack_from(f">{1 + dimensions}I", data)
    if magic != MNIST_MAGIC[dimensions]:
        raise ValueError(f"{file.name} is no idx file of {dimensions} dimensions")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions)).reshape(shape)


def svhn(folder: Path) -> Source | None:
    """`train_32x32.mat` and `test_32x32.mat`; label 10 means 0."""
    if not (folder / "train_32x32.mat").is_file():
        return None
    from scipy.io import loadmat

    splits = {}
    for name in ("train", "test"):
        found = loadmat(folder / f"{name}_32x32.mat", variable_names=["X", "y"])
        pixels = np.ascontiguousarray(found["X"].transpose(3, 0, 1, 2)).astype(np.uint8)
        splits[name] = of_arrays(pixels, found["y"].ravel().astype(np.int64) % 10, f"{name}_32x32.mat")
    paper = "Netzer et al., Reading digits in natural images with unsupervised feature learning, 2011 (for non-commercial use)"
    return Source("torchvision SVHN", tuple(str(k) for k in range(10)), splits, "SVHN", paper, flips=False)


def gtsrb(folder: Path) -> Source | None:
    """`gtsrb/GTSRB/Training/<class>/*.ppm`, `.../Final_Test/Images/*.ppm` and `gtsrb/GT-final_test.csv`."""
    place = next((p for p in (folder / "gtsrb", folder) if (p / "GTSRB" / "Training").is_dir()), None)
    if place is None:
        return None
    training, images = place / "GTSRB" / "Training", place / "GTSRB" / "Final_Test" / "Images"
    classes = tuple(sorted(entry.name for entry in training.iterdir() if entry.is_dir()))
    train = [(file, k) for k, name in enumerate(classes) for file in sorted((training / name).glob("*.ppm"))]
    with (place / "GT-final_test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    places = {int(name): k for k, name in enumerate(classes)}
    test = [(images / Path(row["Filename"]).name, places[int(row["ClassId"])]) for row in rows]
    paper = "Stallkamp, Schlipsing, Salmen, Igel, Man vs. computer: benchmarking machine learning algorithms for traffic signs, 2012"
    named = tuple(f"sign {int(name)}" for name in classes)
    return Source(
        "torchvision GTSRB", named, {"train": _files(train), "test": _files(test)}, "GTSRB", paper, flips=False
    )


def _files(found: list[tuple[Path, int]]) -> Split:
    files = [file for file, _ in found]
    return Split(np.array([k for _, k in found], np.int64), lambda row: opened(files[row]), lambda row: str(files[row]))


def stl10(folder: Path) -> Source | None:
    """`stl10_binary/{train,test}_{X,y}.bin` and `class_names.txt`; pictures are stored column by column."""
    place = next((p for p in (folder / "stl10_binary", folder) if (p / "train_X.bin").is_file()), None)
    if place is None:
        return None
    classes = tuple((place / "class_names.txt").read_text("utf-8").split())
    splits = {}
    for name in ("train", "test"):
        pixels = np.fromfile(place / f"{name}_X.bin", np.uint8).reshape(-1, *STL10_SHAPE).transpose(0, 3, 2, 1)
        labels = np.fromfile(place / f"{name}_y.bin", np.uint8).astype(np.int64) - 1
        splits[name] = of_arrays(np.ascontiguousarray(pixels), labels, f"{name}_X.bin")
    paper = "Coates, Lee, Ng, An analysis of single-layer networks in unsupervised feature learning, 2011"
    return Source("torchvision STL-10", classes, splits, "STL-10", paper)


READERS: tuple[Callable[[Path], Source | None], ...] = (cifar100, mnist, svhn, gtsrb, stl10)


def read(folder: Path) -> Source | None:
    """The dataset that lies here in one of these layouts, None for any other; raises Unfit for damaged files."""
    for reader in READERS:
        try:
            if (found := reader(folder)) is not None:
                return found
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            struct.error,
            EOFError,
            IndexError,
            pickle.UnpicklingError,
        ) as error:
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            raise Unfit(
                f"{folder} looks like {reader.__name__}, and its files are damaged or incomplete: {reason}."
            ) from error
    return None
