"""The published archives of the datasets in torchvision's layout: reading them, and the download with its checksums.

CIFAR-10 comes as pickles. torchvision compares each file's md5 with the published one before it unpickles anything;
no other pickle is read. Fashion-MNIST comes as plain arrays (idx files); its sizes and class counts are checked.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from explorer.core import DataUnavailable
from explorer.data.fetching import fetch
from explorer.data.folders import STAGE, download_folder, sweep
from explorer.data.parquet import Corrupt
from explorer.data.specs import Dataset, dataset

Progress = Callable[[int, int], None]

FOLDERS = {"cifar10": Path("cifar-10-batches-py"), "fashion_mnist": Path("FashionMNIST/raw")}
ARCHIVE_BYTES = {"cifar10": 170_498_071, "fashion_mnist": 30_878_645}  # what a progress bar is told to expect
REMEDY = "check the internet connection and run the download again, or set EXPLORER_DATA to a folder that holds it"


def files(root: Path, name: str) -> tuple[Path, ...]:
    """Whatever lies in this dataset's folder under `root`; () when there is no such folder."""
    folder = root / FOLDERS[name]
    return tuple(sorted(path for path in folder.iterdir() if path.is_file())) if folder.is_dir() else ()


def read(root: Path, spec: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N,C,H,W) uint8 and labels (N,) int64 of one split; raises Corrupt."""
    try:
        if spec.name == "cifar10":
            pixels, labels = _cifar10(root, split)
        else:
            pixels, labels = _fashion_mnist(root, split)
    except (RuntimeError, OSError, AssertionError, ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"files in {root / FOLDERS[spec.name]} are missing or fail their check") from error
    if pixels.shape[1:] != spec.shape or len(pixels) != len(labels):
        raise Corrupt(f"files in {root / FOLDERS[spec.name]} have {pixels.shape} pixels and {labels.shape} labels")
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(spec.classes):
        raise Corrupt(f"files in {root / FOLDERS[spec.name]} have unknown labels")
    return np.ascontiguousarray(pixels), labels


def _cifar10(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    from torchvision.datasets import CIFAR10  # slow to import, and needed for this layout only

    found = CIFAR10(root, train=split == "train", download=False)  # RuntimeError unless every md5 is right
    return found.data.transpose(0, 3, 1, 2), np.asarray(found.targets, np.int64)


def _fashion_mnist(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    # Not the FashionMNIST class: it would torch.load an old "processed" folder without a checksum.
    from torchvision.datasets.mnist import read_image_file, read_label_file

    start = root / FOLDERS["fashion_mnist"] / ("train" if split == "train" else "t10k")
    pixels = read_image_file(f"{start}-images-idx3-ubyte").numpy()[:, None]  # (N,1,H,W)
    return pixels, read_label_file(f"{start}-labels-idx1-ubyte").numpy()


def download(name: str, root: Path | str | None = None, progress: Progress | None = None) -> Path:
    """Fetch the published archives into `root` (default: `folders.download_folder()`) and unpack them.

    Nothing is fetched when the files are there and pass their checks. Everything is prepared in a temporary folder and
    then moved file by file, so that an interrupted download leaves nothing half-done behind.
    `progress(bytes_so_far, bytes_expected)`. Returns the folder that holds the files.
    Raises UnknownName, and DataUnavailable when the network, a checksum or the disk fails.
    """
    spec = dataset(name)
    root = Path(root).expanduser() if root is not None else download_folder()
    target = root / FOLDERS[name]
    if _intact(root, spec):
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        with tempfile.TemporaryDirectory(prefix=STAGE, dir=root) as work:
            _fetch_and_unpack(spec, Path(work), progress or (lambda done, total: None))
            target.mkdir(parents=True, exist_ok=True)
            for file in files(Path(work), name):
                os.replace(file, target / file.name)
    except OSError as error:
        raise DataUnavailable(
            f"{spec.title} cannot be stored in {root} ({error.strerror or error}): "
            "free some space there, or set EXPLORER_DATA to a folder that can be written."
        ) from error
    return target


def _intact(root: Path, spec: Dataset) -> bool:
    if not files(root, spec.name):
        return False
    try:
        return all(len(read(root, spec, split)[1]) == rows for split, rows in spec.rows.items())
    except Corrupt:  # an answer, not an error: the download repairs it
        return False


def _fetch_and_unpack(spec: Dataset, work: Path, progress: Progress) -> None:
    from torchvision.datasets.utils import check_integrity, extract_archive

    before, total = 0, ARCHIVE_BYTES[spec.name]
    for url, md5 in _archives(spec.name):
        archive = work / url.rpartition("/")[2]

        def told(come: int, before: int = before) -> None:
            progress(before + come, max(before + come, total))

        before += fetch(url, archive, spec.title, REMEDY, told)
        if not check_integrity(archive, md5):
            raise DataUnavailable(f"{spec.title} arrived incomplete or altered from {url}: run the download again.")
        folder = work if archive.suffixes[-2:] == [".tar", ".gz"] else work / FOLDERS[spec.name]
        folder.mkdir(parents=True, exist_ok=True)
        extract_archive(archive, folder, remove_finished=True)


def _archives(name: str) -> list[tuple[str, str]]:
    """(url, md5) of every archive, as torchvision knows them."""
    from torchvision.datasets import CIFAR10, FashionMNIST

    if name == "cifar10":
        return [(CIFAR10.url, CIFAR10.tgz_md5)]
    return [(FashionMNIST.mirrors[0] + file, md5) for file, md5 in FashionMNIST.resources]
