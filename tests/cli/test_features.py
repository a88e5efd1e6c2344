"""`features` computes a model's map once, where it was told to, and says what it did."""

import json
import sys
import types

import pytest

from explorer.cli import features as room
from explorer.features import Gathering
from explorer.features.umap_map import places
from explorer.models import zoo


class Flat:
    """In the place of umap-learn, which takes half a minute."""

    def __init__(self, **settings):
        pass

    def fit_transform(self, points):
        return points[:, :2]


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Flat))
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(room, "Gathering", lambda *a, **k: Gathering(*a, n=100, **k))


def test_computed_once_into_the_cache_and_with_write_beside_the_card(cli, tiny, monkeypatch):
    beside, cache = places("cifar10/tiny", tiny.sha256)
    lowered = []
    monkeypatch.setattr(room.os, "nice", lowered.append, raising=False)  # it would be these tests' own
    first = cli("features", "cifar10/tiny", "--background", "--json", "-")
    assert lowered == [19]
    assert first.code == 0 and cache.is_file() and not beside.exists()
    assert (
        "100 of 100 reference images have been through the model" in first.err and "Laying out 100 images" in first.err
    )
    (facts,) = json.loads(first.out)
    assert facts["model"] == "cifar10/tiny" and facts["weights"] == tiny.sha256 and 0 <= facts["trustworthiness"] <= 1
    assert "there already" in cli("features", "cifar10/tiny").out
    assert "Laying out" in cli("features", "cifar10/tiny", "--again", "--write").out and beside.is_file()
    assert zoo.features_file("cifar10/tiny").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "features needs the names of models, or --all"),
        (["cifar10/baseline", "--all"], "features needs the names of models, or --all"),
        (["cifar10/basline"], "Did you mean 'cifar10/baseline'"),
    ],
)
def test_refuses_in_one_sentence(cli, words, says):
    said = cli("features", *words)
    assert said.code == 2 and says in said.err
