"""A dataset of one's own: added from any known layout, read as the published ones are, and refused in one sentence."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from explorer.core import DataUnavailable, ExplorerError, InvalidValue, UnknownName
from explorer.data import adding, as_needed, dataset, known, layouts, load, loading, raw, specs
from explorer.data.adding import Wish, add
from explorer.data.folders import STAGE
from tests.data import own

COUNTS = {"train": (6, 3, 2), "test": (2, 1, 3)}


@pytest.fixture
def three(tmp_path):
    return own.image_folder(tmp_path / "three", COUNTS, 96)


def refused(name, folder, wish=Wish(), words="") -> None:
    before = set(known())
    with pytest.raises(ExplorerError) as caught:
        add(name, folder, wish)
    text = str(caught.value)
    assert words in text and "\n" not in text and text.endswith(".") and len(text) < 350
    assert set(known()) == before
    root = adding.download_folder()
    assert not list(root.glob(f"{STAGE}*")) and not (name and (root / name).exists())


def test_pictures_in_folders_become_a_dataset_with_its_own_counts_and_normalisation(three):
    told = []
    spec = add("three", three, Wish(licence="CC0-1.0"), lambda *now: told.append(now))
    assert spec == dataset("three") and "three" in known()
    assert (spec.shape, spec.rows, spec.licence) == ((3, 96, 96), {"train": 11, "test": 6}, "CC0-1.0")
    images = load("three", split="train")
    assert images.y.bincount().tolist() == [6, 3, 2] and images.classes == ("class000", "class001", "class002")
    assert torch.allclose(images.x.mean((0, 2, 3)), torch.tensor(spec.mean), atol=1e-4)
    assert torch.allclose(images.x.std((0, 2, 3), correction=0), torch.tensor(spec.std), atol=1e-4)
    with Image.open(three / "train" / "class001" / "2.png") as picture:
        assert (raw("three", "train")[0][8].permute(1, 2, 0).numpy() == np.asarray(picture)).all()
    assert told[-1] == ("test", 6, 6) and ("train", 11, 11) in told
    card = json.loads((spec.folder / specs.CARD).read_text("utf-8"))
    assert card["counts"] == {"train": [6, 3, 2], "test": [2, 1, 3]} and adding.verified(spec)


def test_the_sample_and_few_images_are_even_over_unequal_classes(three):
    add("three", three)
    few = load("three", n=3)
    assert few.y.sort().values.tolist() == [0, 1, 2]
    sample = load("three", source="sample")
    assert len(sample) == 6 and sample.source == "sample of the test set"
    with as_needed("three", "train") as (pixels, labels):
        assert pixels.shape == (11, 3, 96, 96) and len(labels) == 11
    loading.check("three", "train")


def test_a_hundred_classes_and_grey_pictures_on_black(tmp_path):
    many = add("many", own.image_folder(tmp_path / "m", {"train": [1] * 100, "test": [1] * 100}, 16))
    assert len(many.classes) == 100 and many.background is None
    digits = add("digits", own.mnist(tmp_path / "digits"))
    assert (digits.shape, digits.background, digits.flips) == ((1, 28, 28), 0, False)


@pytest.mark.parametrize(
    ("make", "shape", "rows", "classes"),
    [
        (own.cifar100, (3, 32, 32), {"train": 200, "test": 100}, 100),
        (own.mnist, (1, 28, 28), {"train": 30, "test": 20}, 10),
        (own.svhn, (3, 32, 32), {"train": 20, "test": 10}, 10),
        (own.gtsrb, (3, 20, 20), {"train": 6, "test": 3}, 3),
        (own.stl10, (3, 96, 96), {"train": 4, "test": 2}, 2),
    ],
)
def test_torchvisions_file_layouts_are_read(tmp_path, make, shape, rows, classes):
    spec = add("other", make(tmp_path / "there"), Wish(size=20) if make is own.gtsrb else Wish())
    assert (spec.shape, spec.rows, len(spec.classes)) == (shape, rows, classes)


def test_what_these_files_hold_is_what_is_read(tmp_path):
    add("signs", own.stl10(tmp_path / "stl"))
    pixels, labels, classes = raw("signs", "train")
    first = own.picture(0, 96, np.random.default_rng(0))
    assert (pixels[0].permute(1, 2, 0).numpy() == first).all() and labels.tolist() == [0, 1, 0, 1]
    add("house_numbers", own.svhn(tmp_path / "svhn"))
    assert raw("house_numbers", "test")[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert classes == ("airplane", "bird")


def test_parquet_of_hugging_face(tmp_path):
    spec = add("animals", own.parquet(tmp_path / "p", {"train": 8, "validation": 4}, ("cat", "dog")))
    assert spec.classes == ("cat", "dog") and raw("animals", "test")[1].tolist() == [0, 1, 0, 1]


def test_without_a_test_split_every_fifth_picture_of_a_class_is_held_out(tmp_path):
    folder = own.image_folder(tmp_path / "o", {"train": (10, 5, 2)}, 16)
    spec = add("one", folder / "train")
    assert spec.rows == {"train": 13, "test": 4}
    assert "no test split" in json.loads((spec.folder / specs.CARD).read_text("utf-8"))["notes"][0]


def test_parquet_without_a_test_split_holds_out_the_same_pictures(tmp_path):
    folder = own.parquet(tmp_path / "p", {"train": 24}, ("cat", "dog", "emu"), shards=3)
    spec = add("animals", folder)
    assert (spec.rows, spec.classes) == ({"train": 21, "test": 3}, ("cat", "dog", "emu"))
    assert "no test split" in json.loads((spec.folder / specs.CARD).read_text("utf-8"))["notes"][0]
    assert raw("animals", "test")[1].sort().values.tolist() == [0, 1, 2]
    rows = layouts.held_out(np.arange(24) % 3)
    pictures, _, _ = raw("animals", "test")
    rng = np.random.default_rng(0)
    drawn = [own.picture(k % 3, 16, rng) for k in range(24)]  # in the order of the files' rows
    for found, row in zip(pictures, rows, strict=True):
        assert (found.permute(1, 2, 0).numpy() == drawn[row]).all()


def test_parquet_that_cannot_be_read_says_what_it_needs(tmp_path):
    def made(name, splits=None, names=("cat", "dog"), **rest):
        return own.parquet(tmp_path / name, splits or {"train": 6}, names, **rest)

    refused(
        "fine", made("nameless", {"images": 6}), words="images-00000-of-00001.parquet, and none of a training split"
    )
    part = made("part", shards=3)
    (part / "train-00001-of-00003.parquet").unlink()
    refused("fine", part, words="holds 2 parquet files where train-00000-of-00003.parquet promises 3")
    refused("fine", made("paths", held=False), words="6 of its pictures by a path")
    refused("fine", made("single", {"train": 3}), words="a single picture")
    broken = made("broken")
    file = broken / "train-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:100])
    refused("fine", broken, words="cannot be read as parquet")


def test_pictures_of_several_sizes_get_one_and_transparent_parts_the_background(tmp_path):
    folder = own.image_folder(tmp_path / "s", {"train": (1, 1), "test": (1, 1)}, 40)
    clear = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    clear.save(folder / "train" / "class000" / "z.png")
    spec = add("sizes", folder, Wish(background=0))
    assert spec.shape == (3, 40, 40) and spec.background == 0
    assert int(raw("sizes", "train")[0][1].max()) == 0
    assert add("small", folder, Wish(size=20, channels=1)).shape == (1, 20, 20)


def test_bad_input_is_one_sentence_and_leaves_nothing(three, tmp_path):
    for name in ("Three", "../x", "", "cifar10", "photos", "a" * 41):
        refused(name, three, words="name must be")
    refused("fine", tmp_path / "nowhere", words="is not a folder")
    refused("fine", three, Wish(size=513), words="[8, 512]")
    refused("fine", three / "train" / "class000", words="holds no dataset")
    one = own.image_folder(tmp_path / "one", {"train": (2,), "test": (1,)}, 16)
    refused("fine", one, words="2 to 1,000 classes")
    (three / "test" / "stranger").mkdir()
    Image.new("RGB", (96, 96)).save(three / "test" / "stranger" / "a.png")
    refused("fine", three, words="stranger")
    shutil.rmtree(three / "test" / "stranger")
    damaged = three / "test" / "class000" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    refused("fine", three, words=f"{damaged} cannot be decoded")


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    folder = own.cifar100(tmp_path / "evil")
    (folder / "cifar-100-python" / "train").write_bytes(pickle.dumps({b"data": Evil()}))
    refused("evil", folder, words="damaged or incomplete: it names")
    assert not (tmp_path / "written").exists()


def test_a_stop_leaves_nothing_and_a_second_one_of_a_name_is_refused(three):
    def stop(split, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add("three", three, progress=stop)
    assert "three" not in known() and not list(adding.download_folder().iterdir())
    add("three", three)
    with pytest.raises(InvalidValue, match="must be a new one"):
        add("three", three)


def test_removed_it_is_forgotten_and_damaged_it_says_so(three):
    spec = add("three", three)
    (spec.folder / specs.CARD).write_text("{}", "utf-8")
    with pytest.raises(DataUnavailable, match="is damaged"):
        dataset("three")
    shutil.rmtree(spec.folder)
    spec = add("three", three)
    file = spec.folder / "test.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert not adding.verified(spec)
    adding.remove("three")
    with pytest.raises(UnknownName):
        load("three")
    with pytest.raises(InvalidValue, match="the project's own"):
        adding.remove("photos")
