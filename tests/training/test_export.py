"""A finished run becomes a model of the zoo, with a card that is true."""

import json
import shutil

import pytest
import torch

from explorer.core import BadCheckpoint, InvalidValue
from explorer.core.device import hardware_name
from explorer.defenses import RECIPES
from explorer.models import zoo
from explorer.training import Result
from explorer.training.export import command_of, export, recipe_hash
from explorer.training.state import build

CPU = torch.device("cpu")


def finished(recipe):
    """A run that trained nothing: the card and the file do not depend on how good the weights are."""
    history = [{"epoch": 1, "loss": 2.3, "seconds": 1.0, "clean": 0.1, "score": 0.1}]
    return Result(build(recipe, CPU).freeze(), 1, history, 1.25, 64, "CIFAR-10 train, 64 of 50,000 images", 16)


@pytest.fixture
def recipe():
    return RECIPES["baseline"](epochs=1, width=4)


def test_an_exported_model_is_found_by_the_zoo_and_computes_the_same(recipe, tmp_path, monkeypatch):
    run = finished(recipe)
    card = export(run, recipe, "baseline", "cifar10/tiny", tmp_path / "cifar10")
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path))
    loaded = zoo.load("cifar10/tiny")
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert card == zoo.card("cifar10/tiny")
    assert card.precision == "float16" and card.bytes == (tmp_path / "cifar10" / card.file).stat().st_size
    assert torch.allclose(loaded(x), run.model(x), atol=2e-3)
    assert zoo.features_file("cifar10/tiny").is_file()  # its map is there at once
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_the_card_says_what_was_done(recipe, tmp_path):
    card = export(
        finished(recipe), recipe, "baseline", "cifar10/tiny", tmp_path / "cifar10", threads=1, hardware="a toaster"
    )
    assert card.parameters == sum(p.numel() for p in build(recipe, CPU).parameters())
    assert (card.architecture, card.arguments) == ("preact-resnet18", {"width": 4})
    assert card.hyper == recipe.to_dict() and card.recipe == "baseline"
    assert card.command == "python -m explorer train baseline --set epochs=1 --set width=4"
    said = card.training
    assert (said["images"], said["held_out"], said["best_epoch"], said["seconds"]) == (64, 16, 1, 1.2)
    assert (said["hardware"], said["threads"], said["torch"]) == ("a toaster", 1, torch.__version__)
    check = said["cast_check"]
    assert check["images"] == 2000 and abs(check["float32"] - check["float16"]) <= 0.002
    assert json.loads(json.dumps(said)) == said


def test_a_model_may_carry_words_of_its_own(recipe, tmp_path):
    words = {"title": "Twin", "summary": "One of two."}
    card = export(finished(recipe), recipe, "baseline", "cifar10/twin", tmp_path / "cifar10", **words)
    assert (card.title, card.summary, card.recipe) == ("Twin", "One of two.", "baseline")


def test_a_random_network_is_compared_over_several_draws_after_the_cast(tmp_path, monkeypatch):
    monkeypatch.setattr("explorer.training.export.CAST_IMAGES", 50)
    recipe = RECIPES["lwta"](epochs=1, width=4)
    check = export(finished(recipe), recipe, "lwta", "cifar10/twin", tmp_path / "cifar10").training["cast_check"]
    assert check["draws"] == 10
    right = check["float32"] * 50 * 10  # of 500 answers
    assert right == pytest.approx(round(right), abs=1e-6)


def test_the_hash_names_the_recipe_and_every_value(recipe):
    other = RECIPES["baseline"](epochs=1, width=4, seed=1)
    assert recipe_hash("baseline", recipe) == recipe_hash("baseline", RECIPES["baseline"](epochs=1, width=4))
    assert len({recipe_hash("baseline", recipe), recipe_hash("baseline", other), recipe_hash("other", recipe)}) == 3


def test_the_smoothed_recipe_leaves_its_sigma_in_the_card(tmp_path):
    recipe = RECIPES["smoothed-0.25"](epochs=1, width=4, start="")
    card = export(finished(recipe), recipe, "smoothed-0.25", "cifar10/smoothed-tiny", tmp_path / "cifar10")
    assert card.sigma == 0.25 and not card.stochastic


def test_weights_that_half_precision_cannot_hold_stay_in_float32(recipe, tmp_path):
    run = finished(recipe)
    with torch.no_grad():
        run.model.head.weight[0, 0] = 1e6  # infinite as float16
    card = export(run, recipe, "baseline", "cifar10/tiny", tmp_path / "cifar10")
    loaded = zoo.load_file(tmp_path / "cifar10" / "tiny.json")
    assert card.precision == "float32" and card.training["cast_check"]["float16"] is None
    assert torch.equal(loaded.head.weight, run.model.head.weight)


def test_weights_whose_accuracy_the_cast_changes_stay_in_float32(recipe, tmp_path, monkeypatch):
    run, seen = finished(recipe), []

    def accuracy(model, *rest):
        seen.append(model)
        return 0.7 if model is run.model else 0.6979

    monkeypatch.setattr("explorer.training.export.accuracy", accuracy)
    card = export(run, recipe, "baseline", "cifar10/tiny", tmp_path / "cifar10")
    assert card.precision == "float32" and len(seen) == 2


@pytest.mark.parametrize(
    "name", ["tiny", "fashion_mnist/tiny", "cifar10/../tiny", "cifar10/", "cifar10/Tiny", "cifar10/.tiny"]
)
def test_a_name_that_the_zoo_could_not_find_is_refused(recipe, tmp_path, name):
    with pytest.raises(InvalidValue, match="name must be cifar10/"):
        export(finished(recipe), recipe, "baseline", name, tmp_path / "cifar10")


def test_a_folder_that_the_zoo_could_not_name_is_refused(recipe, tmp_path):
    with pytest.raises(InvalidValue, match="must be called cifar10"):
        export(finished(recipe), recipe, "baseline", "cifar10/tiny", tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_a_moved_card_and_a_truncated_file_are_refused_in_one_sentence(recipe, tmp_path):
    card = export(finished(recipe), recipe, "baseline", "cifar10/tiny", tmp_path / "cifar10")
    shutil.copytree(tmp_path / "cifar10", tmp_path / "elsewhere")
    with pytest.raises(BadCheckpoint, match="names another model"):
        zoo.load_file(tmp_path / "elsewhere" / "tiny.json")
    weights = tmp_path / "cifar10" / card.file
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint, match="damaged"):
        zoo.load_file(tmp_path / "cifar10" / "tiny.json")


def test_the_command_names_only_what_differs():
    assert command_of("lwta", RECIPES["lwta"]()) == "python -m explorer train lwta"


def test_hardware_is_named_with_its_cores():
    assert "core" in hardware_name(CPU)
