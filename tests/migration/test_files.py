"""A run folder and a card written by version 29dbefe are read as they were meant, and its run goes on."""

import json
from contextlib import nullcontext
from dataclasses import asdict

import pytest
import torch

from explorer.data import load, raw
from explorer.evaluation import tables
from explorer.jobs import Store
from explorer.models import zoo
from explorer.training import train

ID, MODEL = "gqloqq0zf0ll", "fashion_mnist/fashion-mlp-smoke-gqloqq"
LOGITS = [
    0.27204,
    0.28216,
    -1.31814,
    0.67256,
    -0.75314,
    0.54816,
    -0.52213,
    -0.92269,
    0.87142,
    0.92027,
]  # then, of a ramp
CARD = "cifar10/smoothed-0.25"


@pytest.fixture
def run(runs):
    return Store(runs).run(ID)


def test_the_run_is_listed_as_finished_with_its_records(run, runs):
    assert [one.id for one in Store(runs).runs()] == [ID]
    assert run.state.status == "finished" and run.state.model == MODEL and run.state.attempt == 1
    assert run.state.message == "Kept epoch 2 of 2: clean 41.4 % of 128 held-out images."
    records, end = run.metrics()
    assert [one["kind"] for one in records] == ["start", *["update"] * 4, "epoch", *["update"] * 4, "epoch"]
    assert records[-1]["clean"] == 0.4140625 and end == (run.folder / "metrics.jsonl").stat().st_size
    assert "Kept epoch 2 of 2" in run.log() and run.environment["commit"] == "29dbefe6e148"
    assert run.sights() == [0, 1, 2] and run.sight(2)["trained_on"].shape == (8, 1, 28, 28)


def test_the_run_still_says_what_it_was_to_do(run):
    recipe = run.spec.build()
    assert run.spec.recipe == "fashion-mlp" and run.spec.smoke and run.spec.limit == 512
    assert recipe.to_dict() == run.spec.hyper == zoo.card(MODEL).hyper
    assert recipe.architecture() == ("mlp", {"hidden": [5]}) and recipe.epochs == 2
    assert run.spec.model_name(ID) == MODEL


def test_the_model_it_published_answers_as_it_did(run):
    assert len(run.published()) == 3
    model = zoo.load(MODEL)
    assert model(torch.linspace(0, 1, 784).view(1, 1, 28, 28))[0].tolist() == pytest.approx(LOGITS, abs=1e-4)
    sample = load("fashion_mnist", split="test", source="sample")
    assert int((model(sample.x).argmax(1) == sample.y).sum()) == pytest.approx(949, abs=2)
    assert "[43.3, 62.5], n=100" in tables.headlines(zoo.card(MODEL))["Clean"]


def test_the_run_goes_on_from_its_first_checkpoint(run, monkeypatch):
    """The sample stands for the training images, which are not part of the project: what is tested is that it goes on."""
    monkeypatch.setattr(
        "explorer.training.trainer.as_needed", lambda name, split: nullcontext(raw(name, "test", source="sample")[:2])
    )
    (run.folder / "checkpoints" / "0002-0000008.safetensors").unlink()
    said = []
    result = train(run.spec.build(), run.folder, limit=run.spec.limit, bf16=False, say=said.append)
    assert result.history[0]["clean"] == 0.2421875 and len(result.history) == 2 and not said
    assert [one["epoch"] for one in run.metrics()[0] if one["kind"] == "epoch"] == [1, 2, 2]


def test_a_card_reads_as_it_did(checkpoints):
    written = json.loads((checkpoints / f"{CARD}.json").read_text())
    card = zoo.card(CARD)
    assert asdict(card) == written
    assert zoo.card_path(CARD).parent.parent == checkpoints and card.sigma == 0.25
    assert tables.headlines(card) == {
        "Clean": "72.5 % [71.6, 73.4], n=10,000",
        "PGD, L∞ 8/255": "24.0 % [18.6, 30.4], n=200",
        "PGD, L2 0.5": "55.5 % [48.6, 62.2], n=200",
        "Certified, L2 0.25": "67.4 % [63.2, 71.4], n=500",
    }
