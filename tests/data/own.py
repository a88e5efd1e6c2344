"""Small datasets on the disk in the layouts of others, for tests."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(k: int, side: int, rng: np.random.Generator, grey: bool = False) -> np.ndarray:
    """(H,W) or (H,W,3) uint8: noise on black, and a bright bar whose place says the class."""
    pixels = rng.integers(0, 50, (side, side) if grey else (side, side, 3)).astype(np.uint8)
    at = k * 7 % (side - side // 3)
    pixels[at : at + side // 3] += 150
    return pixels


def image_folder(
    root: Path, counts: Mapping[str, Sequence[int]], side: int, grey: bool = False, kind: str = "png"
) -> Path:
    """`root/<split>/<class>/*`; counts: of each split's classes a, b, c ..."""
    rng = np.random.default_rng(0)
    for split, numbers in counts.items():
        for k, number in enumerate(numbers):
            folder = root / split / f"class{k:03d}"
            folder.mkdir(parents=True)
            for i in range(number):
                Image.fromarray(picture(k, side, rng, grey)).save(folder / f"{i}.{kind}")
    return root


def parquet(
    root: Path, splits: Mapping[str, int], names: Sequence[str], side: int = 16, shards: int = 1, held: bool = True
) -> Path:
    """`root/<split>-0000k-of-0000n.parquet`; counts: of each split's pictures. Not `held`: by their paths alone."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    for split, count in splits.items():
        blobs, labels = [], [k % len(names) for k in range(count)]
        for label in labels:
            buffer = io.BytesIO()
            Image.fromarray(picture(label, side, rng)).save(buffer, "PNG")
            blobs.append({"bytes": buffer.getvalue() if held else None, "path": None if held else "elsewhere.png"})
        about = {"info": {"features": {"label": {"names": list(names)}}}}
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array(blobs, kind), "label": pa.array(labels, pa.int64())})
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        for k, rows in enumerate(np.array_split(np.arange(count), shards)):
            pq.write_table(table.take(rows), root / f"{split}-{k:05d}-of-{shards:05d}.parquet")
    return root


def cifar100(root: Path) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 200), ("test", 100)):
        found = {
            b"data": rng.integers(0, 256, (count, 3072), np.uint8),
            b"fine_labels": [k % 100 for k in range(count)],
        }
        (folder / name).write_bytes(pickle.dumps(found, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [f"thing {k}" for k in range(100)]}, protocol=2))
    return root


def mnist(root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for start, count in (("train", 30), ("t10k", 20)):
        pixels = np.stack([picture(k % 10, 28, rng, grey=True) for k in range(count)])
        pixels[:, [0, -1]] = pixels[:, :, [0, -1]] = 0
        (folder / f"{start}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, count, 28, 28) + pixels.tobytes())
        labels = np.array([k % 10 for k in range(count)], np.uint8)
        (folder / f"{start}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, count) + labels.tobytes())
    return root


def svhn(root: Path) -> Path:
    from scipy.io import savemat

    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 20), ("test", 10)):
        labels = np.array([[1 + k % 10] for k in range(count)], np.uint8)  # 10 is the digit 0
        savemat(root / f"{name}_32x32.mat", {"X": rng.integers(0, 256, (32, 32, 3, count), np.uint8), "y": labels})
    return root


def gtsrb(root: Path) -> Path:
    rng = np.random.default_rng(0)
    base = root / "gtsrb" / "GTSRB"
    for k in range(3):
        folder = base / "Training" / f"{k:05d}"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(picture(k, 20 + 3 * i, rng)).save(folder / f"{i:05d}_00000.ppm")
    images = base / "Final_Test" / "Images"
    images.mkdir(parents=True)
    rows = ["Filename;Width;Height;ClassId"]
    for k in range(3):
        Image.fromarray(picture(k, 24, rng)).save(images / f"{k:05d}.ppm")
        rows.append(f"{k:05d}.ppm;24;24;{k}")
    (root / "gtsrb" / "GT-final_test.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return root


def stl10(root: Path) -> Path:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "class_names.txt").write_text("airplane\nbird\n", "utf-8")
    for name, count in (("train", 4), ("test", 2)):
        pixels = np.stack([picture(k % 2, 96, rng) for k in range(count)])  # (N,H,W,3)
        pixels.transpose(0, 3, 2, 1).tofile(folder / f"{name}_X.bin")
        np.array([1 + k % 2 for k in range(count)], np.uint8).tofile(folder / f"{name}_y.bin")
    return root
