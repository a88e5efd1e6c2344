"""torchvision's layout and the download of it, from a server in this process."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, FashionMNIST

from explorer.core import DataUnavailable, UnknownName
from explorer.data import DATASETS, archives, download, folders, load, raw
from tests.data.serving import Server, serving

TINY = {"train": 50, "test": 20}


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def made_up(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(len(name) + len(split))
    n = TINY[split]
    return rng.integers(0, 256, (n, *DATASETS[name].shape), dtype=np.uint8), rng.permutation(np.arange(n) % 10)


def cifar_files() -> dict[str, bytes]:
    """The files of `cifar-10-batches-py` with few images in them."""
    pixels, labels = made_up("cifar10", "train")
    batches = {f"data_batch_{k + 1}": (pixels[10 * k : 10 * k + 10], labels[10 * k : 10 * k + 10]) for k in range(5)}
    batches["test_batch"] = made_up("cifar10", "test")
    files = {
        name: pickle.dumps({"data": x.reshape(len(x), -1), "labels": y.tolist()}) for name, (x, y) in batches.items()
    }
    return files | {"batches.meta": pickle.dumps({"label_names": list(DATASETS["cifar10"].classes)})}


def fashion_files() -> dict[str, bytes]:
    """The files of `FashionMNIST/raw` with few images in them."""
    files = {}
    for split, start in (("train", "train"), ("test", "t10k")):
        pixels, labels = made_up("fashion_mnist", split)
        files[f"{start}-images-idx3-ubyte"] = struct.pack(">4i", 0x803, len(labels), 28, 28) + pixels.tobytes()
        files[f"{start}-labels-idx1-ubyte"] = struct.pack(">2i", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()
    return files


FILES = {"cifar10": cifar_files(), "fashion_mnist": fashion_files()}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small datasets, with the checksums of the small files in place of the published ones."""
    for name, spec in list(DATASETS.items()):
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(spec, rows=TINY))
    sums = {name: md5(data) for name, data in FILES["cifar10"].items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]] for k in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})


def place(root: Path, name: str) -> Path:
    folder = root / archives.FOLDERS[name]
    folder.mkdir(parents=True)
    for file, data in FILES[name].items():
        (folder / file).write_bytes(data)
    return folder


def comes_back(name: str) -> bool:
    return all(
        (raw(name, split, "full")[0].numpy() == made_up(name, split)[0]).all()
        and (raw(name, split, "full")[1].numpy() == made_up(name, split)[1]).all()
        for split in TINY
    )


def damaged(name: str, split: str = "test") -> None:
    with pytest.raises(DataUnavailable, match="damaged because files in .* fail their check") as caught:
        raw(name, split)
    assert f"explorer data download {name}" in str(caught.value)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


# Reading


@pytest.mark.parametrize("name", DATASETS)
def test_torchvision_layout_comes_back_exactly(name: str, data_folder: Path) -> None:
    place(data_folder, name)
    assert comes_back(name)
    images = load(name, "train", n=30)
    assert images.source == "full train set (torchvision)" and images.y.bincount().tolist() == [3] * 10


@pytest.mark.parametrize("name", DATASETS)
def test_missing_truncated_and_altered_files(name: str, data_folder: Path) -> None:
    folder = place(data_folder, name)
    for file in sorted(folder.glob("t[1e]*")):  # the test split's files
        whole = file.read_bytes()
        for changed in (b"", whole[:6], whole[: len(whole) // 2], b"<html>404</html>"):
            file.write_bytes(changed)
            damaged(name)
        file.unlink()
        damaged(name)
        file.write_bytes(whole)
    assert comes_back(name)


def test_wrong_counts_of_fashion_mnist(data_folder: Path) -> None:
    labels = place(data_folder, "fashion_mnist") / "t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1] + bytes([(whole[-1] + 1) % 10]))
    with pytest.raises(DataUnavailable, match="classes are not equally many"):
        raw("fashion_mnist", "test")
    labels.write_bytes(whole[:-1] + b"\x0b")
    with pytest.raises(DataUnavailable, match="unknown labels"):
        raw("fashion_mnist", "test")


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.canary), os.O_CREAT)


def test_a_planted_pickle_is_never_executed(data_folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(canary))
    folder = place(data_folder, "cifar10")
    for file in ("test_batch", "data_batch_3", "batches.meta"):
        (folder / file).write_bytes(bomb)
        damaged("cifar10")
        (folder / file).write_bytes(FILES["cifar10"][file])
    place(data_folder, "fashion_mnist")
    processed = data_folder / "FashionMNIST" / "processed"  # where old versions of torchvision kept pickles
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        (processed / file).write_bytes(bomb)
    assert comes_back("fashion_mnist")
    assert not canary.exists()
    pickle.loads(bomb)
    assert canary.exists()  # the bomb works


# Downloading


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has both datasets' archives, and torchvision's addresses pointing to it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, data in FILES["cifar10"].items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    archives = {"cifar-10-python.tar.gz": packed.getvalue()}
    archives |= {f"{file}.gz": gzip.compress(data) for file, data in FILES["fashion_mnist"].items()}
    for proxy in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(proxy, "127.0.0.1")
    with serving() as made:
        made.files = {f"/{file}": data for file, data in archives.items()}
        monkeypatch.setattr(CIFAR10, "url", made.url + "cifar-10-python.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed.getvalue()))
        monkeypatch.setattr(FashionMNIST, "mirrors", [made.url])
        gz = {file: md5(data) for file, data in archives.items() if not file.startswith("cifar")}
        monkeypatch.setattr(FashionMNIST, "resources", list(gz.items()))
        yield made


def refused(name: str, root: Path, match: str) -> None:
    """The download fails with one sentence that contains `match`, and leaves nothing behind."""
    before = sorted(root.rglob("*")) if root.is_dir() else []
    with pytest.raises(DataUnavailable, match=match) as caught:
        download(name, root)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    assert (sorted(root.rglob("*")) if root.is_dir() else []) == before


@pytest.mark.parametrize("name", DATASETS)
def test_download_fills_the_folder_that_load_looks_in(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXPLORER_DATA")
    seen: list[tuple[int, int]] = []
    folder = download(name, progress=lambda done, total: seen.append((done, total)))
    assert folder == tmp_path / "cache" / "data" / archives.FOLDERS[name]
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES[name])
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == [archives.FOLDERS[name].parts[0]]
    assert comes_back(name)
    amounts = [done for done, _ in seen]
    served = sum(len(server.files[path]) for path in server.requests)
    assert amounts == sorted(amounts) and amounts[-1] == served
    assert all(done <= total == archives.ARCHIVE_BYTES[name] for done, total in seen)


def test_explorer_data_is_where_downloads_go(server: Server, data_folder: Path) -> None:
    assert download("cifar10").is_relative_to(data_folder)


def test_what_is_there_is_not_fetched_again(server: Server, data_folder: Path) -> None:
    for name in DATASETS:
        place(data_folder, name)
        download(name)
    assert server.requests == []


@pytest.mark.parametrize("name", DATASETS)
def test_a_download_repairs_damaged_files(name: str, server: Server, data_folder: Path) -> None:
    folder = place(data_folder, name)
    file = next(iter(sorted(folder.glob("t*"))))
    file.write_bytes(file.read_bytes()[:50])
    damaged(name)
    download(name)
    assert comes_back(name)


def test_no_network(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    closed.server_close()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{closed.server_port}/cifar-10-python.tar.gz")
    refused("cifar10", tmp_path / "new", "could not be downloaded.*check the internet connection.*EXPLORER_DATA")


def test_not_found_on_the_server(server: Server, tmp_path: Path) -> None:
    del server.files["/t10k-images-idx3-ubyte.gz"]  # the third of four
    refused("fashion_mnist", tmp_path / "new", "could not be downloaded.*404")


def test_a_connection_that_breaks_off(server: Server, tmp_path: Path) -> None:
    server.cut = 0.6
    refused("cifar10", tmp_path / "new", r"could not be downloaded.*connection ended after [\d,]+ of \d+ bytes")


def test_an_altered_archive_is_not_unpacked(server: Server, data_folder: Path) -> None:
    path = "/cifar-10-python.tar.gz"
    server.files[path] = server.files[path][:-1] + b"\x01"
    refused("cifar10", data_folder, "arrived incomplete or altered from .*: run the download again")


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused("cifar10", tmp_path / "file" / "below", "cannot be stored in .*set EXPLORER_DATA")


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.os, "replace", full)
    with pytest.raises(DataUnavailable, match=r"No space left on device\): free some space"):
        download("cifar10", tmp_path / "new")
    assert not list((tmp_path / "new").glob(f"{folders.STAGE}*"))


def test_an_interrupted_download_leaves_nothing(server: Server, data_folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download("cifar10", progress=interrupt)
    assert list(data_folder.rglob("*.gz")) == list(data_folder.glob(f"{folders.STAGE}*")) == []
    assert load("cifar10").source == "bundled sample"


def test_folders_of_killed_downloads_are_swept_when_old(server: Server, data_folder: Path) -> None:
    old, new = data_folder / f"{folders.STAGE}old", data_folder / f"{folders.STAGE}new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "part.gz").write_bytes(b"x")
    os.utime(old, (time.time() - 2 * folders.STALE,) * 2)
    download("cifar10")
    assert not old.exists() and new.exists()


def test_an_unknown_dataset_cannot_be_downloaded(server: Server) -> None:
    with pytest.raises(UnknownName, match="Known: cifar10, fashion_mnist"):
        download("imagenet")
