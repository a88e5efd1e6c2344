"""The bundled sample, full sets in parquet, and what is said when data is missing or damaged."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from explorer.core import DataUnavailable, InvalidValue, UnknownName
from explorer.data import DATASETS, as_needed, build_sample, bundled, load, loading, parquet, raw

TINY = {"train": 40, "test": 20}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both datasets shrunk, so that a full set is quickly made."""
    for name, spec in list(DATASETS.items()):
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(spec, rows=TINY))


def made_up(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Balanced labels and random pixels of the dataset's shape."""
    rng = np.random.default_rng(len(name) + len(split))
    n = TINY[split]
    return rng.integers(0, 256, (n, *DATASETS[name].shape), dtype=np.uint8), rng.permutation(np.arange(n) % 10)


def encode(pixels: np.ndarray, kind: str = "WEBP") -> bytes:
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def write_parquet(
    file: Path, blobs: list[bytes | None], labels: np.ndarray, names: tuple[str, ...] | None = None
) -> None:
    """What the `datasets` library writes for an image classification set."""
    image = pa.StructArray.from_arrays([pa.array(blobs, pa.binary()), pa.array([None] * len(blobs), pa.string())],
                                       ["bytes", "path"])  # fmt: skip
    table = pa.table({"image": image, "label": pa.array(labels)})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


def write_split(folder: Path, name: str, split: str, shards: int = 1) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = made_up(name, split)
    blobs = [encode(image) for image in pixels]
    for k, rows in enumerate(np.array_split(np.arange(len(labels)), shards)):
        file = folder / name / f"{split}-{k:05d}-of-{shards:05d}.parquet"
        write_parquet(file, [blobs[i] for i in rows], labels[rows], DATASETS[name].classes)
    return pixels, labels


def is_one_helpful_sentence(error: BaseException) -> bool:
    text = str(error)
    helps = any(hint in text for hint in ("download", "EXPLORER_DATA", "install the project again"))
    return helps and text.endswith(".") and "\n" not in text and "Traceback" not in text


# The bundled sample


@pytest.mark.parametrize("name", DATASETS)
def test_sample_is_balanced_and_lossless_pixels(name: str) -> None:
    images, spec = load(name), DATASETS[name]
    assert images.x.shape == (2000, *spec.shape) and images.x.dtype == torch.float32
    assert images.y.dtype == images.index.dtype == torch.int64
    assert images.y.bincount().tolist() == [200] * 10
    assert len(images.index.unique()) == 2000 and 0 <= images.index.min() <= images.index.max() < 10_000
    assert 0 <= images.x.min() < images.x.max() <= 1
    assert torch.equal((images.x * 255).round() / 255, images.x)
    assert (images.name, images.split, images.source, images.classes) == (name, "test", "bundled sample", spec.classes)


@pytest.mark.parametrize("name", DATASETS)
def test_sample_looks_like_the_dataset(name: str) -> None:
    x = load(name).x.double()
    for channel, (mean, std) in enumerate(zip(DATASETS[name].mean, DATASETS[name].std, strict=True)):
        assert abs(x[:, channel].mean() - mean) < 0.02
        assert abs(x[:, channel].std() - std) < 0.02


def test_samples_are_under_eight_megabytes_together() -> None:
    assert sum(file.stat().st_size for name in DATASETS for file in bundled.files(name, bundled.FOLDER)) < 8_000_000


@pytest.mark.parametrize("k", [10, 50, 1000])
def test_every_prefix_of_the_sample_is_balanced(k: int) -> None:
    _, labels, _ = raw("cifar10", "test", source="sample")
    assert labels[:k].bincount(minlength=10).tolist() == [k // 10] * 10


def test_a_damaged_sample_says_install_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "sample"
    shutil.copytree(bundled.FOLDER, copy)
    monkeypatch.setattr(bundled, "FOLDER", copy)
    sheet, description = bundled.files("cifar10", copy)
    about = json.loads(description.read_text())
    about["labels"][7] = (about["labels"][7] + 1) % 10
    whole = sheet.read_bytes()

    def breaks(word: str) -> None:
        with pytest.raises(DataUnavailable, match=word) as caught:
            load("cifar10")
        assert "install the project again" in str(caught.value) and is_one_helpful_sentence(caught.value)

    description.write_text(json.dumps(about))
    breaks("checksum")
    description.write_text("{}")
    breaks("cannot be read")
    sheet.write_bytes(whole[: len(whole) // 2])
    breaks("cannot be read")
    sheet.unlink()
    breaks("missing")


def test_building_the_sample_again_gives_the_images_of_its_index(
    data_folder: Path, tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_sample, "PER_CLASS", 1)
    monkeypatch.setattr(bundled, "COLUMNS", 5)
    pixels, labels = write_split(data_folder, "cifar10", "test")
    for attempt in ("one", "two"):
        build_sample.build("cifar10", tmp_path / attempt)
    found, found_labels, index = bundled.read(DATASETS["cifar10"], tmp_path / "one")
    assert sorted(found_labels.tolist()) == list(range(10))
    assert (found == pixels[index]).all() and (found_labels == labels[index]).all()
    for one, two in zip(*(bundled.files("cifar10", tmp_path / attempt) for attempt in ("one", "two")), strict=True):
        assert one.read_bytes() == two.read_bytes()


# Choosing images


@pytest.mark.parametrize("n", [1, 7, 10, 105, 1000, 2000])
def test_a_choice_is_balanced_without_repeats(n: int) -> None:
    images = load("cifar10", n=n, seed=3)
    counts = images.y.bincount(minlength=10)
    assert len(images) == n == len(images.index.unique())
    assert counts.max() - counts.min() <= 1


def test_a_choice_repeats_under_its_seed_and_changes_with_it() -> None:
    one, same, other = load("cifar10", n=100, seed=5), load("cifar10", n=100, seed=5), load("cifar10", n=100, seed=6)
    assert torch.equal(one.x, same.x) and torch.equal(one.y, same.y) and torch.equal(one.index, same.index)
    assert not torch.equal(one.index, other.index)


def test_a_larger_choice_begins_with_the_smaller_one() -> None:
    assert torch.equal(load("cifar10", n=500, seed=2).index[:60], load("cifar10", n=60, seed=2).index)


def test_pixels_and_labels_stay_together() -> None:
    whole, some = load("fashion_mnist"), load("fashion_mnist", n=50, seed=9)
    for k in range(50):
        row = int((whole.index == some.index[k]).nonzero())
        assert torch.equal(whole.x[row], some.x[k]) and whole.y[row] == some.y[k]


def test_changing_what_was_returned_does_not_change_what_comes_next() -> None:
    first = load("cifar10")
    before = first.x.clone(), first.y.clone(), first.index.clone()
    for tensor in (first.x, first.y, first.index):
        tensor.zero_()
    again = load("cifar10")
    assert all(torch.equal(a, b) for a, b in zip(before, (again.x, again.y, again.index), strict=True))


@pytest.mark.parametrize("n", [0, -1, 10_001, 2.5, "ten", True])
def test_a_wrong_n_is_refused(n: object) -> None:
    with pytest.raises(InvalidValue, match=r"n must be a whole number in \[1, 10000\].*got"):
        load("cifar10", n=n)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, None])
def test_a_wrong_seed_is_refused(seed: object) -> None:
    with pytest.raises(InvalidValue, match="seed must be a whole number"):
        load("cifar10", n=10, seed=seed)  # type: ignore[arg-type]


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        load("cifar-10")
    with pytest.raises(UnknownName, match="split 'validation'"):
        load("cifar10", split="validation")
    with pytest.raises(InvalidValue, match="auto, sample, full; got 'web'"):
        load("cifar10", source="web")


# Full sets in parquet


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("shards", [1, 3])
def test_parquet_comes_back_exactly_and_in_order(name: str, shards: int, data_folder: Path, tiny: None) -> None:
    for split in TINY:
        pixels, labels = write_split(data_folder, name, split, shards)
        found, found_labels, classes = raw(name, split)
        assert found.dtype == torch.uint8 and found_labels.dtype == torch.int64
        assert (found.numpy() == pixels).all() and (found_labels.numpy() == labels).all()
        assert classes == DATASETS[name].classes
        images = load(name, split)
        assert images.source == f"full {split} set (parquet)"
        assert images.index.tolist() == list(range(TINY[split]))


def test_png_in_parquet_is_read_too(data_folder: Path, tiny: None) -> None:
    pixels, labels = made_up("cifar10", "test")
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"
    write_parquet(file, [encode(image, "PNG") for image in pixels], labels)
    assert (raw("cifar10", "test")[0].numpy() == pixels).all()


def test_the_full_set_wins_over_the_sample_unless_asked(data_folder: Path, tiny: None) -> None:
    write_split(data_folder, "cifar10", "test")
    assert len(load("cifar10")) == 20
    assert load("cifar10", source="sample").source == "bundled sample"
    assert load("fashion_mnist").source == "bundled sample"  # the folder does not hold it


def test_the_download_folder_is_looked_in_as_well(tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(tmp_path / "cache" / "data", "cifar10", "train")
    assert len(load("cifar10", "train")) == 40
    monkeypatch.delenv("EXPLORER_DATA")
    assert len(load("cifar10", "train")) == 40


def test_a_replaced_file_is_read_again(data_folder: Path, tiny: None) -> None:
    pixels, labels = write_split(data_folder, "cifar10", "test")
    assert (raw("cifar10", "test")[0].numpy() == pixels).all()
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"
    write_parquet(file, [encode(255 - image) for image in pixels], labels)
    assert (raw("cifar10", "test")[0].numpy() == 255 - pixels).all()


def test_the_next_process_finds_the_decoded_pixels(
    data_folder: Path, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(data_folder, "cifar10", "train", 2)
    pixels, labels, _ = raw("cifar10", "train")
    (kept,) = (tmp_path / "cache" / "decoded").iterdir()
    calls, read = [], parquet.read
    monkeypatch.setattr(parquet, "read", lambda *given: (calls.append(1), read(*given))[1])

    loading._read.cache_clear()  # as a new process
    again = raw("cifar10", "train")
    assert not calls and torch.equal(again[0], pixels) and torch.equal(again[1], labels)

    kept.write_bytes(kept.read_bytes()[:-7])
    loading._read.cache_clear()
    assert torch.equal(raw("cifar10", "train")[0], pixels) and len(calls) == 1  # damaged: decoded again
    loading._read.cache_clear()
    assert torch.equal(raw("cifar10", "train")[0], pixels) and len(calls) == 1

    file = data_folder / "cifar10" / "train-00000-of-00002.parquet"
    shutil.copy(data_folder / "cifar10" / "train-00001-of-00002.parquet", file)
    with pytest.raises(DataUnavailable):  # its classes are not equally many now: nothing kept hides that
        raw("cifar10", "train")


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    data_folder: Path, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "not a folder").write_text("")
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "not a folder"))
    pixels, _ = write_split(data_folder, "cifar10", "test")
    assert torch.equal(raw("cifar10", "test")[0], torch.from_numpy(pixels))


def test_many_threads_decode_once(data_folder: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(data_folder, "cifar10", "train")
    calls, read = [], parquet.read
    monkeypatch.setattr(parquet, "read", lambda *given: (calls.append(1), read(*given))[1])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: raw("cifar10", "train")[0], range(16)))
    assert len(calls) == 1 and all(pixels is found[0] for pixels in found)


# Pixels that arrive


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of pictures decoded, in order."""
    rows: list[int] = []
    decode = parquet.Pictures.decode
    monkeypatch.setattr(parquet.Pictures, "decode", lambda self, row: (rows.append(row), decode(self, row))[1])
    return rows


def test_only_what_is_needed_is_decoded(data_folder: Path, tiny: None, decodings: list[int], tmp_path: Path) -> None:
    pixels, labels = write_split(data_folder, "cifar10", "train", 3)
    rows = torch.tensor([39, 0, 14, 13, 14])
    for _ in range(2):
        with as_needed("cifar10", "train") as (found, found_labels):
            assert found.shape == pixels.shape and len(found) == 40 and (found_labels.numpy() == labels).all()
            assert not decodings
            assert (found[rows].numpy() == pixels[rows]).all() and (found[rows[:2]].numpy() == pixels[rows[:2]]).all()
            assert found.whole is None
        assert sorted(decodings) == [0, 13, 14, 39]
        decodings.clear()
    assert not (tmp_path / "cache" / "decoded").exists()  # what is kept is kept whole


def test_the_others_are_decoded_meanwhile_and_kept(data_folder: Path, tiny: None, decodings: list[int]) -> None:
    pixels, labels = write_split(data_folder, "cifar10", "train", 3)
    with as_needed("cifar10", "train") as (found, _):
        assert (found[torch.tensor([7])].numpy() == pixels[[7]]).all()
        found.decode_all()
        found._thread.join()
        assert (found.whole.numpy() == pixels).all()
    assert sorted(decodings) == list(range(40))
    decodings.clear()
    with as_needed("cifar10", "train") as (found, found_labels):
        assert (found.numpy() == pixels).all() and (found_labels.numpy() == labels).all()
    assert (raw("cifar10", "train")[0].numpy() == pixels).all() and not decodings


def test_leaving_ends_the_decoding(
    data_folder: Path, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(data_folder, "cifar10", "train")
    monkeypatch.setattr("explorer.data.lazy._CHUNK", 1)
    begun, left = threading.Event(), threading.Event()
    decode = parquet.Pictures.decode

    def waits(self: parquet.Pictures, row: int) -> np.ndarray:
        begun.set()
        left.wait(60)
        return decode(self, row)

    monkeypatch.setattr(parquet.Pictures, "decode", waits)
    with as_needed("cifar10", "train") as (found, _):
        found.decode_all()
        begun.wait(60)
        monkeypatch.setattr(found._closing, "set", lambda: (type(found._closing).set(found._closing), left.set()))
    assert not found._thread.is_alive() and found.whole is None
    assert not (tmp_path / "cache" / "decoded").exists()


def test_a_damaged_picture_is_told_where_pixels_are_asked_for(data_folder: Path, tiny: None) -> None:
    pixels, labels = made_up("cifar10", "train")
    blobs = [b"not an image" if row == 4 else encode(image) for row, image in enumerate(pixels)]
    write_parquet(data_folder / "cifar10" / "train-00000-of-00001.parquet", blobs, labels)
    with as_needed("cifar10", "train") as (found, _):
        assert (found[torch.tensor([3])].numpy() == pixels[[3]]).all()
        for _ in range(2):
            with pytest.raises(DataUnavailable, match="image 4 of .* cannot be decoded") as caught:
                found[torch.tensor([3, 4])]
            assert is_one_helpful_sentence(caught.value)
        found.decode_all()
        found._thread.join()
        with pytest.raises(DataUnavailable, match="image 4"):
            found[torch.tensor([3])]  # nobody trains for hours on a set that is damaged


def test_as_needed_takes_what_raw_takes(data_folder: Path, tiny: None) -> None:
    with pytest.raises(DataUnavailable, match="EXPLORER_DATA"), as_needed("cifar10", "train"):
        pass
    with pytest.raises(UnknownName), as_needed("cifar", "train"):
        pass
    with as_needed("cifar10", "test") as (pixels, labels):
        assert pixels is raw("cifar10", "test", "sample")[0] and len(labels) == 2000
    write_split(data_folder, "cifar10", "test")
    (data_folder / "cifar10" / "test-00000-of-00001.parquet").write_bytes(b"nothing")
    with pytest.raises(DataUnavailable, match="cannot be read"), as_needed("cifar10", "test"):
        pass


# Missing data


def test_no_training_data_says_what_to_do() -> None:
    for source in ("auto", "full", "sample"):
        with pytest.raises(DataUnavailable, match="explorer data download cifar10.*EXPLORER_DATA") as caught:
            load("cifar10", split="train", source=source)
        assert is_one_helpful_sentence(caught.value)
    with pytest.raises(DataUnavailable, match="full test set"):
        load("cifar10", source="full")


def test_more_than_the_sample_holds_says_what_to_do() -> None:
    with pytest.raises(DataUnavailable, match="2,000 images, fewer than the 2,001") as caught:
        load("cifar10", n=2001)
    assert is_one_helpful_sentence(caught.value)


def test_a_wrong_explorer_data_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXPLORER_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataUnavailable, match="nowhere, which is not a folder"):
        load("cifar10")
    assert len(load("cifar10", source="sample")) == 2000


# Damaged data


def damaged(match: str) -> None:
    """Loading the tiny test set must fail with one sentence that contains `match`."""
    with pytest.raises(DataUnavailable, match=match) as caught:
        raw("cifar10", "test")
    assert is_one_helpful_sentence(caught.value)
    assert "explorer data download cifar10" in str(caught.value)


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file(keep: float, data_folder: Path, tiny: None) -> None:
    write_split(data_folder, "cifar10", "test")
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    damaged("cannot be read")


def test_a_missing_shard(data_folder: Path, tiny: None) -> None:
    write_split(data_folder, "cifar10", "test", shards=3)
    (data_folder / "cifar10" / "test-00001-of-00003.parquet").unlink()
    damaged("holds 2 of the test files where .* promises 00003")


def test_a_link_to_nowhere(data_folder: Path, tiny: None) -> None:
    write_split(data_folder, "cifar10", "test")
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"
    file.unlink()
    file.symlink_to(data_folder / "gone")
    damaged("No such file")


def test_wrong_contents(data_folder: Path, tiny: None) -> None:
    pixels, labels = made_up("cifar10", "test")
    blobs: list[bytes | None] = [encode(image) for image in pixels]
    names = DATASETS["cifar10"].classes
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"

    def holds(match: str, blobs: list[bytes | None], labels: object, names: tuple[str, ...] | None = names) -> None:
        write_parquet(file, blobs, labels, names)
        damaged(match)

    holds("19 images instead of 20", blobs[:19], labels[:19])
    holds("not equally many", blobs, np.where(labels == 3, 4, labels))
    holds("labels that are not whole numbers from 0 to 9", blobs, labels + 1)
    holds("labels that are not whole numbers from 0 to 9", blobs, labels - 1)
    holds("labels that are not whole numbers from 0 to 9", blobs, labels.astype(np.float64))
    holds("labels that are not whole numbers from 0 to 9", [], np.empty(0, np.int64))
    holds("other classes", blobs, labels, names[::-1])
    holds("image 4 of .* cannot be decoded", [*blobs[:4], None, *blobs[5:]], labels)
    holds("image 4 of .* cannot be decoded", [*blobs[:4], b"not an image", *blobs[5:]], labels)
    holds("image 4 of .* cannot be decoded", [*blobs[:4], blobs[4][:-30], *blobs[5:]], labels)
    holds("image 4 of .* is 28x28 pixels", [*blobs[:4], encode(pixels[4, :, :28, :28]), *blobs[5:]], labels)
    pq.write_table(pa.table({"img": blobs, "label": labels}), file)
    damaged("cannot be read")
    pq.write_table(pa.table({"image": blobs, "label": labels}), file)
    damaged("cannot be read")
    file.write_text("<html>Not found</html>")
    damaged("cannot be read")


def test_flipped_bytes_never_get_through_as_another_error(data_folder: Path, tiny: None) -> None:
    write_split(data_folder, "cifar10", "test")
    file = data_folder / "cifar10" / "test-00000-of-00001.parquet"
    whole, rng, refused = file.read_bytes(), random.Random(0), 0
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for k in range(80):
        flipped = bytearray(whole)
        flipped[rng.randrange(footer if k % 2 else 0, len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(flipped)
        try:
            raw("cifar10", "test")
        except DataUnavailable as error:
            assert is_one_helpful_sentence(error)
            refused += 1
    assert refused > 0  # not every flip can be noticed: parquet files usually carry no checksums


# The full sets themselves

MEANS = {"cifar10": (0.49139968, 0.48215841, 0.44653091), "fashion_mnist": (0.28604,)}


@pytest.mark.parametrize("name", DATASETS)
def test_full_training_sets_have_the_published_means(name: str, full_data: str) -> None:
    try:
        pixels, labels, _ = raw(name, "train", source="full")
    except DataUnavailable as error:
        pytest.skip(str(error))
    sums = pixels.flatten(2).long().sum((0, 2))  # exact
    means = sums.double() / (255 * pixels[:, 0].numel())
    assert means.tolist() == pytest.approx(MEANS[name], abs=5e-6)
    assert labels.bincount().tolist() == [DATASETS[name].rows["train"] // 10] * 10


@pytest.mark.parametrize("name", DATASETS)
def test_full_test_sets_hold_every_image_of_the_sample(name: str, full_data: str) -> None:
    try:
        pixels, labels, _ = raw(name, "test", source="full")
    except DataUnavailable as error:
        pytest.skip(str(error))
    ours = load(name, source="sample")
    known = {image.numpy().tobytes(): int(label) for image, label in zip(pixels, labels, strict=True)}
    found = [known.get(image.numpy().tobytes()) for image in (ours.x * 255).round().byte()]
    assert found == ours.y.tolist()
