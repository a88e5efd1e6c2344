"""Adding a dataset of one's own: pictures in a known layout become two files of pixels and a card, which `dataset` reads.

Everything is written into a temporary folder and then moved, so that what fails or is stopped leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explorer.core import DataUnavailable, InvalidValue
from explorer.core.device import cores
from explorer.data import decoded, layouts, torchvision_layouts
from explorer.data.decoder import fit
from explorer.data.folders import STAGE, cache_folder, download_folder, sweep
from explorer.data.layouts import Source, Split, Unfit
from explorer.data.specs import CARD, DATASETS, NAME, PHOTOS, SPLITS, Dataset, dataset, known

Progress = Callable[[str, int, int], None]  # which split, pictures done, pictures in all

MOST_CLASSES, LEAST_SIDE, MOST_SIDE = 1000, 8, 512
USUAL_SIDE = 224  # of pictures of several sizes where nobody names one, at most
LOOKED_AT = 1000  # pictures whose headers and borders tell size, colour and background
NEAR = 16  # levels within which a border counts as black or white
PLAIN = 0.8  # share of border pixels that are so, from which on the pictures have a plain background
CHUNK = 64  # pictures decoded between two looks


@dataclass(frozen=True)
class Wish:
    """What somebody says of a dataset; None is found out."""

    title: str | None = None
    licence: str = "not stated"
    size: int | None = None  # pixels a side; the pictures are cropped to squares then
    channels: int | None = None  # 1: grey, 3: colour
    background: int | str | None = "auto"  # level of the plain ground, None for pictures without one
    flips: bool | None = None


def add(name: str, folder: Path | str, wish: Wish = Wish(), progress: Progress | None = None) -> Dataset:
    """Read the dataset in `folder`, keep it as `name` in the data folder, and return what its card says.

    Raises InvalidValue (name, wish), DataUnavailable (the folder, its files, the disk): one sentence each, and nothing is left.
    """
    _check(name, wish)
    place = layouts.checked(Path(folder))
    try:
        source = recognised(place)
        _check_source(source)
        shape, note = _shape(source, wish)
        root = _root(sum(len(split) for split in source.splits.values()) * math.prod(shape))
        return _written(name, source, shape, wish, root, progress, [*source.notes, *note])
    except Unfit as problem:
        raise DataUnavailable(str(problem)) from problem
    except OSError as error:
        raise DataUnavailable(
            f"The dataset {name} cannot be stored ({error.strerror or error}): free some space, or set EXPLORER_DATA to a "
            "folder that can be written."
        ) from error


def remove(name: str) -> Path:
    """Delete an added dataset's card and pixels; returns the folder they were in.

    Raises UnknownName, and InvalidValue for a dataset that came along.
    """
    spec = dataset(name)
    if spec.folder is None:
        raise InvalidValue(f"name must be an added dataset; got {name!r}, which is one of the project's own.")
    for file in (CARD, *(f"{split}.safetensors" for split in SPLITS)):
        (spec.folder / file).unlink(missing_ok=True)
    if not any(spec.folder.iterdir()):  # else it holds the pictures that it was made of
        spec.folder.rmdir()
    return spec.folder


def verified(spec: Dataset) -> bool:
    """Whether an added dataset's pixels and labels are those its card was written for."""
    whole = hashlib.sha256()
    for split in SPLITS:
        found = decoded.read(Path(spec.folder or "") / f"{split}.safetensors")
        if found is None:
            return False
        whole.update(found[1].numpy().tobytes())
        for part in found[0].split(CHUNK):
            whole.update(part.numpy().tobytes())
    return whole.hexdigest() == spec.sha256


def recognised(folder: Path) -> Source:
    """The dataset that lies in a folder, in any layout that is known; raises Unfit."""
    for read in (torchvision_layouts.read, layouts.hugging_face, layouts.image_folder):
        if (found := read(folder)) is not None:
            return found
    raise Unfit(
        layouts.unread_parquet(folder)
        or f"{folder} holds no dataset: it needs train/<class>/* and test/<class>/* with pictures, parquet files of Hugging Face's "
        "`datasets`, or torchvision's files of CIFAR-100, MNIST, SVHN, GTSRB or STL-10."
    )


def _check(name: str, wish: Wish) -> None:
    if not NAME.fullmatch(name):
        raise InvalidValue(
            f"name must be small letters, digits and underscores, a letter first, 40 at most; got {name!r}."
        )
    if name in DATASETS or name == PHOTOS.name:
        raise InvalidValue(f"name must be another than those of the project's own datasets; got {name!r}.")
    if name in known():
        raise InvalidValue(
            f"name must be a new one, or `python -m explorer data remove {name}` goes first; got {name!r}."
        )
    if wish.size is not None and not LEAST_SIDE <= wish.size <= MOST_SIDE:
        raise InvalidValue(f"size must be a whole number in [{LEAST_SIDE}, {MOST_SIDE}]; got {wish.size!r}.")
    if wish.channels not in (None, 1, 3):
        raise InvalidValue(f"channels must be 1 (grey) or 3 (colour); got {wish.channels!r}.")


def _check_source(source: Source) -> None:
    count = len(source.classes)
    if not 2 <= count <= MOST_CLASSES:
        raise Unfit(f"A dataset must have 2 to {MOST_CLASSES:,} classes; this one has {count:,}.")
    if len(set(source.classes)) < count:
        double = Counter(source.classes).most_common(1)[0][0]
        raise Unfit(f"Classes must have names of their own; {double!r} is there twice.")
    for name, split in source.splits.items():
        if not len(split):
            raise Unfit(f"The {name} split has no picture.")
        if split.labels.min() < 0 or split.labels.max() >= count:
            raise Unfit(f"The {name} split has labels outside of its {count:,} classes.")
    missing = np.setdiff1d(np.arange(count), source.splits["train"].labels)
    if len(missing):
        raise Unfit(f"Each class needs a training picture; {source.classes[missing[0]]!r} has none.")


def _some(split: Split) -> np.ndarray:
    """Rows evenly spread over a split."""
    return np.unique(np.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).astype(int))


def _decoded(split: Split, row: int) -> Image.Image:
    """One picture, its pixels loaded; raises Unfit."""
    try:
        image = split.picture(row)
        image.load()
        return image
    except Exception as error:  # on damaged files Pillow raises nearly anything
        raise Unfit(f"{split.name(row)} cannot be decoded as a picture: repair or remove it.") from error


def _shape(source: Source, wish: Wish) -> tuple[tuple[int, int, int], list[str]]:
    """(C,H,W) that the pictures get, and a note where sizes differ."""
    split = source.splits["train"]
    sizes, grey = Counter[tuple[int, int]](), True
    for row in _some(split):
        try:
            image = split.picture(int(row))
        except Exception as error:
            raise Unfit(f"{split.name(int(row))} cannot be decoded as a picture: repair or remove it.") from error
        sizes[image.size] += 1
        grey = grey and image.mode in ("1", "L", "LA", "I;16")
    channels = wish.channels or (1 if grey else 3)
    if wish.size is not None:
        return (channels, wish.size, wish.size), []
    (width, height), _ = sizes.most_common(1)[0]
    if len(sizes) == 1 and min(width, height) >= LEAST_SIDE and max(width, height) <= MOST_SIDE:
        return (channels, height, width), []
    middle = int(np.median([min(size) for size, times in sizes.items() for _ in range(times)]))
    side = min(max(middle, LEAST_SIDE), USUAL_SIDE)
    return (channels, side, side), [
        f"The pictures have several sizes, or are too large: each was cropped and resized to {side} x {side}."
    ]


def _root(size: int) -> Path:
    """Where it goes: the folder of downloads, or the cache folder where that cannot be written. Raises OSError."""
    for root in (download_folder(), cache_folder() / "data"):
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=STAGE, dir=root):
                pass
        except OSError:
            continue
        if (free := shutil.disk_usage(root).free) < size:
            raise Unfit(f"{root} has {free / 1e9:.1f} GB free, and the dataset needs {size / 1e9:.1f} GB.")
        return root
    raise PermissionError(13, "no data folder can be written")


def _written(
    name: str, source: Source, shape: tuple[int, int, int], wish: Wish, root: Path, progress: Progress | None,
    notes: list[str],
) -> Dataset:  # fmt: skip
    sweep(root)
    stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=root))
    try:
        background = wish.background if wish.background != "auto" else _background(source.splits["train"])
        whole, sums = hashlib.sha256(), np.zeros((2, shape[0]))
        for split in SPLITS:
            told = None if progress is None else (lambda done, total, split=split: progress(split, done, total))
            found = _pixels(stage / f"{split}.safetensors", source.splits[split], shape, background, whole, told)
            sums = found if split == "train" else sums
        count = len(source.splits["train"]) * shape[1] * shape[2]
        mean = sums[0] / count
        std = np.sqrt(np.maximum(sums[1] / count - mean**2, 0.0)).clip(min=1e-3)
        counts = {split: np.bincount(source.splits[split].labels, minlength=len(source.classes)) for split in SPLITS}
        card: dict[str, Any] = {
            "title": wish.title or source.title or name,
            "shape": list(shape),
            "classes": list(source.classes),
            "mean": [round(float(value), 4) for value in mean],
            "std": [round(float(value), 4) for value in std],
            "rows": {split: len(source.splits[split]) for split in SPLITS},
            "counts": {split: numbers.tolist() for split, numbers in counts.items()},
            "background": background,
            "flips": source.flips if wish.flips is None else wish.flips,
            "licence": wish.licence,
            "source": source.paper or source.layout,
            "layout": source.layout,
            "sha256": whole.hexdigest(),
            "notes": notes,
        }
        (stage / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
        target = root / name  # it may hold the pictures themselves: a folder of EXPLORER_DATA
        target.mkdir(exist_ok=True)
        for file in (*(f"{split}.safetensors" for split in SPLITS), CARD):  # the card last: whoever finds it finds all
            os.replace(stage / file, target / file)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return dataset(name)


def _pixels(
    file: Path, split: Split, shape: tuple[int, int, int], background: int | str | None, whole: Any,
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:  # fmt: skip
    """Write one split as `decoded.read` reads it, a chunk at a time; (2,C): the sums of the pixels and of their squares in [0,1].

    `whole` is updated with the labels and the pixels.
    """
    count, sums = len(split), np.zeros((2, shape[0]))
    labels = np.ascontiguousarray(split.labels, "<i8")
    places = {"labels": [0, labels.nbytes], "pixels": [labels.nbytes, labels.nbytes + count * math.prod(shape)]}
    head = json.dumps({
        "labels": {"dtype": "I64", "shape": [count], "data_offsets": places["labels"]},
        "pixels": {"dtype": "U8", "shape": [count, *shape], "data_offsets": places["pixels"]},
    }).encode()  # fmt: skip
    head = head.ljust(-(-len(head) // 8) * 8)
    whole.update(labels.tobytes())
    with file.open("wb") as out:
        out.write(len(head).to_bytes(8, "little") + head + labels.tobytes())
        for done, chunk in _chunks(split, shape, background):
            out.write(chunk.tobytes())
            whole.update(chunk.tobytes())
            scaled = chunk.astype(np.float64) / 255
            sums += np.stack([scaled.sum((0, 2, 3)), (scaled**2).sum((0, 2, 3))])
            if progress is not None:
                progress(done, count)
    return sums


def _chunks(
    split: Split, shape: tuple[int, int, int], background: int | str | None
) -> Iterator[tuple[int, np.ndarray]]:
    """How many are done, and the next (n,C,H,W) uint8."""

    def one(row: int) -> np.ndarray:
        return _seen(_decoded(split, row), shape, background)

    with ThreadPoolExecutor(max(1, min(8, cores()))) as pool:
        for start in range(0, len(split), CHUNK):
            rows = range(start, min(start + CHUNK, len(split)))
            yield rows.stop, np.stack(list(pool.map(one, rows)))


def _seen(image: Image.Image, shape: tuple[int, int, int], background: int | str | None) -> np.ndarray:
    """(C,H,W) uint8: transparent parts on the background, the largest centred part of the proportions, resized."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, (background if isinstance(background, int) else 255,) * 3)
        image.paste(layer, mask=layer)
    seen = np.asarray(fit(image.convert("L" if shape[0] == 1 else "RGB"), shape[2], shape[1]))
    return seen[None] if shape[0] == 1 else seen.transpose(2, 0, 1)


def _background(split: Split) -> int | None:
    """0 or 255 where most pixels at the borders of the training pictures are black or white; None where they are neither."""
    dark = bright = pixels = 0
    for row in _some(split):
        grey = np.asarray(_decoded(split, int(row)).convert("L"))
        border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
        dark, bright, pixels = dark + (border < NEAR).sum(), bright + (border > 255 - NEAR).sum(), pixels + len(border)
    return 0 if dark > PLAIN * pixels else 255 if bright > PLAIN * pixels else None
