"""`python -m explorer train`: a run ends, learns, exports, goes on after a stop, and refuses what it cannot do."""

import json
import os
import signal

import pytest
import torch

from explorer.cli import main
from explorer.core import Cancelled
from explorer.data import DATASETS
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Recipe
from explorer.features.reference import reference, save_features
from explorer.jobs import Store
from explorer.models import zoo
from explorer.training import METRICS, newest, read_metrics, train


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Fewer images than a smoke run of a person has, and of those that a map is drawn on; everything else is the same."""
    monkeypatch.setattr(Recipe, "smoke_images", 256)
    monkeypatch.setattr("explorer.training.export.CAST_IMAGES", 100)
    monkeypatch.setattr("explorer.training.export.write_features", few_features)


def few_features(model, dataset, key, file):
    save_features(reference(model, dataset, n=50), key, file)


@pytest.mark.parametrize("key", RECIPES.keys())
def test_every_recipe_has_a_smoke_run_that_learns_and_exports(key, cli, training_images, tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "smoke_images", 96)
    cls, spec = RECIPES[key], DATASETS[RECIPES[key].dataset]
    small = {"epochs": 3, "batch": 32, "width": 4, "selection_steps": 2}
    least = {p.name: p.lo for p in cls.params()}
    small = {name: max(value, least[name]) for name, value in small.items() if name in least}
    more = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    more += ["--precision", "float32"]
    said = cli("train", key, "--smoke", *more, "--out", tmp_path / "run", "--json", tmp_path / "done.json")
    assert said.code == 0, said.err
    card = json.loads((tmp_path / "done.json").read_text("utf-8"))["card"]
    assert [entry["epoch"] for entry in card["history"]] == [1, 2, 3]
    assert card["history"][-1]["loss"] < card["history"][0]["loss"]
    monkeypatch.setenv("EXPLORER_CHECKPOINTS", str(tmp_path / "run" / "export"))
    model = zoo.load(f"{spec.name}/{key}-smoke")
    assert card == json.loads((tmp_path / f"run/export/{spec.name}/{key}-smoke.json").read_text("utf-8"))
    assert torch.isfinite(model(torch.rand(2, *spec.shape))).all()
    assert card["training"]["images"] == 96 and card["training"]["precision"] == "float32"
    assert f"kept epoch {card['training']['best_epoch']} of 3" in said.out


def test_a_stopped_run_goes_on_to_the_very_weights_of_an_uninterrupted_one(training_images, tmp_path):
    recipe = RECIPES["lwta"](epochs=2, width=4, batch=32)  # random in training and in its score: the hardest to repeat
    options = {"limit": 128, "bf16": False}
    whole = train(recipe, tmp_path / "whole", **options)
    seen = []

    def stop_after_some_passes():
        seen.append(1)
        return len(seen) > 10  # 4 updates an epoch, 2 passes an update

    with pytest.raises(Cancelled, match="after update .* of 8; it can go on from there"):
        train(recipe, tmp_path / "parts", should_stop=stop_after_some_passes, **options)
    parts = train(recipe, tmp_path / "parts", **options)
    a, b = whole.model.state_dict(), parts.model.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)

    def facts(run):
        return [{key: value for key, value in entry.items() if key != "seconds"} for entry in run.history]

    assert facts(whole) == facts(parts) and whole.best_epoch == parts.best_epoch


def test_two_seeds_give_two_models_and_one_seed_one(training_images, tmp_path):
    def weights(seed, folder):
        recipe = RECIPES["baseline"](epochs=1, width=4, batch=64, seed=seed)
        return train(recipe, tmp_path / folder, limit=64, bf16=False).model.head.weight

    first, again, other = weights(0, "a"), weights(0, "b"), weights(1, "c")
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_ctrl_c_saves_and_the_same_command_goes_on(cli, training_images, tmp_path, monkeypatch):
    words = ("train", "baseline", "--smoke", "--set", "epochs=2", "--out", tmp_path / "run", "--precision", "float32")
    updates, original = [], RECIPES["baseline"].loss

    def interrupted(self, *rest, **options):
        updates.append(1)
        if len(updates) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *rest, **options)

    monkeypatch.setattr(RECIPES["baseline"], "loss", interrupted)
    said = cli(*words)
    assert said.code == 130, said.err
    assert said.err.strip().splitlines()[-1].endswith("it can go on from there. The same command goes on.")
    assert json.loads((tmp_path / "run" / "state.json").read_text("utf-8"))["status"] == "cancelled"

    def recorded(kind):
        records = newest(read_metrics(tmp_path / "run" / METRICS)[0])
        return [record[kind] for record in records if record["kind"] == kind]

    assert recorded("epoch") == [1] and recorded("update") == [1, 2, 3]
    assert cli(*words).code == 0
    assert recorded("epoch") == [1, 2] and recorded("update") == [1, 2, 3, 4]
    assert len(updates) == 5  # the one that was stopped was done again, no other


def test_a_run_without_a_folder_of_its_own_is_listed_and_taken_up_and_its_model_published(
    cli, training_images, tmp_path, monkeypatch
):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("explorer.jobs.train.SMOKE_MEASURED_IMAGES", 2)
    words = ("train", "baseline", "--smoke", "--set", "width=4", "--precision", "float32", "--device", "cpu")
    updates, original = [], RECIPES["baseline"].loss

    def interrupted(self, *rest, **options):
        updates.append(1)
        if len(updates) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *rest, **options)

    monkeypatch.setattr(RECIPES["baseline"], "loss", interrupted)
    assert cli(*words).code == 130
    (run,) = Store().runs()
    assert run.state.status == "cancelled"
    said = cli(*words, "--json", "-")
    assert said.code == 0, said.err
    assert json.loads(said.out)["run"] == run.id and [one.id for one in Store().runs()] == [run.id]
    assert run.state.status == "finished" and run.state.attempt == 2
    card = zoo.card(run.state.model)
    assert card.name == f"cifar10/baseline-smoke-{run.id[:6]}" and card.measures[0]["kind"] == "clean"


def test_truncated_checkpoints_are_refused_in_one_sentence(cli, training_images, tmp_path):
    words = ("train", "baseline", "--smoke", "--out", tmp_path / "run")
    assert cli(*words).code == 0
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    said = cli(*words)
    assert said.code == 2 and said.err.count("\n") == 1 and "delete the folder to start over" in said.err


def test_a_folder_of_another_run_is_refused(cli, training_images, tmp_path):
    assert cli("train", "baseline", "--smoke", "--out", tmp_path / "run").code == 0
    said = cli("train", "baseline", "--smoke", "--set", "seed=1", "--out", tmp_path / "run")
    assert said.code == 2 and "another recipe or other values" in said.err


def test_without_the_training_set_one_sentence_says_what_to_do(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    said = cli("train", "baseline", "--smoke", "--out", tmp_path / "run")
    assert said.code == 2 and "python -m explorer data download cifar10" in said.err and said.err.count("\n") == 1


def test_a_loss_that_is_not_finite_fails_in_one_sentence(cli, training_images, tmp_path, monkeypatch):
    original = RECIPES["baseline"].loss
    monkeypatch.setattr(
        RECIPES["baseline"], "loss", lambda self, *rest, **options: original(self, *rest, **options) / 0
    )
    said = cli("train", "baseline", "--smoke", "--out", tmp_path / "run")
    assert said.code == 2 and "The loss became inf in epoch 1 of 1: lower the learning rate" in said.err
    assert said.err.count("\n") == 1


def test_the_list_names_every_recipe_and_its_values(cli):
    said = cli("train", "--list", "--json", "-")
    assert said.code == 0 and [one["key"] for one in json.loads(said.out)] == RECIPES.keys()
    said = cli("train", "--list", "lwta")
    assert all(p.name in said.out for p in RECIPES["lwta"].params())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["basline"], "Did you mean 'baseline'?"),
        (["baseline", "--set", "epohs=3"], "Did you mean 'epochs'?"),
        (["baseline", "--set", "epochs=0"], "epochs must be a whole number in [1, 1000]; got '0'."),
        (["baseline", "--set", "epochs"], "--set takes name=value; got 'epochs'."),
        (["baseline", "--set", "epochs=1", "--set", "epochs=2"], "--set names epochs twice."),
        (["baseline", "--name", "fashion_mnist/x"], "name must be cifar10/"),
        (["baseline", "--export", "/tmp/elsewhere"], "must be called cifar10"),
        (["baseline", "--out", "/dev/null/run"], "cannot be used"),
        (["pgd-linf", "--set", "start=cifar10/nobody"], "Unknown model 'cifar10/nobody'"),
        (["baseline", "--precision", "float8"], "Unknown precision 'float8'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(words, part, cli, training_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = cli("train", *words)
    assert said.code == 2 and part in said.err
    assert said.err.count("\n") == 1 and said.out == ""


def test_main_reads_the_process_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["explorer", "train", "--list"])
    assert main() == 0 and "baseline" in capsys.readouterr().out
