"""A dataset of one's own from folder to certificate: added, trained on, attacked, mapped and certified by commands alone."""

import json

import pytest

from explorer.data import dataset
from explorer.models import zoo
from tests.data import own


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty EXPLORER_DATA."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("EXPLORER_DATA", str(folder))
    return folder


def trained(cli, recipe, name, folder, monkeypatch):
    small = [word for pair in ("batch=8", "width=4", "epochs=1") for word in ("--set", pair)]
    said = cli("train", recipe, "--dataset", name, "--smoke", *small, "--out", folder / recipe)
    assert said.code == 0, said.err
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(folder / recipe / "export"))
    return f"{name}/{recipe}-smoke"


@pytest.mark.parametrize("recipe", ["baseline", "nfgsm"])
def test_three_classes_of_96_pixels_in_unequal_numbers(recipe, cli, data, tmp_path, monkeypatch):
    place = own.image_folder(tmp_path / "three", {"train": (8, 5, 3), "test": (3, 2, 4)}, 96)
    said = cli("data", "add", "three", place, "--licence", "CC0-1.0", "--json", "-")
    assert said.code == 0 and "CC0-1.0" in said.out and dataset("three").rows == {"train": 16, "test": 9}
    name = trained(cli, recipe, "three", tmp_path, monkeypatch)
    card = zoo.card(name)
    assert card.training["images"] == 13 and f"train {recipe} --dataset three" in card.command
    said = cli("attack", "--model", name, "--image", 2, "--set", "steps=1", "--json", tmp_path / "a.json")
    assert said.code == 0 and json.loads((tmp_path / "a.json").read_text())["classes"] == list(dataset("three").classes)
    said = cli("certify", name, "--sigma", "0.25", "--n0", 10, "--n", 40, "--images", 1, "--json", tmp_path / "c.json")
    assert said.code == 0, said.err
    said = cli("evaluate", name, "--clean")
    assert said.code == 0 and "all 9" in said.out
    assert zoo.features_file(name).is_file()  # the map's reference


def test_a_hundred_classes_and_grey_pictures(cli, data, tmp_path, monkeypatch):
    own.image_folder(data / "many", {"train": [2] * 100, "test": [1] * 100}, 16)
    own.image_folder(tmp_path / "grey", {"train": (6, 6), "test": (2, 2)}, 28, grey=True)
    for name, folder, classes in (("many", (), 100), ("grey", (tmp_path / "grey",), 2)):  # one lies in EXPLORER_DATA
        assert cli("data", "add", name, *folder).code == 0
        model = zoo.load(trained(cli, "baseline", name, tmp_path / name, monkeypatch))
        assert model.num_classes == classes
        said = cli("attack", "--model", f"{name}/baseline-smoke", "--set", "steps=1")
        assert said.code == 0, said.err
    listed = cli("data", "list", "many").out
    assert "added" in listed and "100" in listed
    assert cli("data", "remove", "many").code == 0 and len(list((data / "many" / "train").iterdir())) == 100


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("add", "cifar10", "."), "another than those of the project's own"),
        (("add", "mine"), "holds no dataset"),
        (("add", "mine", "nowhere"), "is not a folder"),
        (("add", "mine", ".", "--size", "5"), "[8, 512]"),
        (("remove", "cifar10"), "one of the project's own"),
        (("remove", "cifar1"), "Did you mean 'cifar10'"),
        (("download", "photos"), "can be downloaded"),
    ],
)
def test_bad_words_are_answered_in_one_sentence(words, sentence, cli, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (data / "mine").mkdir()
    said = cli("data", *words)
    assert said.code == 2 and sentence in said.err and said.err.count("\n") == 1
    assert sorted(path.name for path in data.iterdir()) == ["mine"]


def test_a_dataset_that_cannot_be_trained_on_is_refused(cli, data):
    said = cli("train", "baseline", "--dataset", "photos", "--smoke")
    assert said.code == 2 and "training images" in said.err
