"""A UMAP that was computed ahead: found again, refused if it is another's, and a place for new points."""

import json
import sys
import time
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from explorer.core import InvalidValue
from explorer.features import Embedding, Gathering, K, Maps, NoMap, feature_path
from explorer.features import umap_map as room
from explorer.features.reference import metadata
from explorer.features.umap_map import UmapSettings, compute, keep, places
from explorer.models import zoo
from tests.features.clouds import as_reference, cloud

WEIGHTS = "ab" * 32


class Flat:
    """In the place of umap-learn: the first two features, and what it was asked."""

    asked = {}

    def __init__(self, **settings):
        Flat.asked = settings

    def fit_transform(self, points):
        return points[:, :2].astype(np.float64)


@pytest.fixture
def reference():
    return as_reference(*cloud())


@pytest.fixture
def no_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Flat))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the model "cifar10/made-up" and the cache lie."""
    monkeypatch.setenv("EXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(room.zoo, "card_path", lambda name: tmp_path / "cifar10" / "made-up.json")
    return tmp_path


@pytest.fixture
def stored(reference, no_umap, folder):
    file = keep("cifar10/made-up", WEIGHTS, compute(reference, WEIGHTS), beside=True)
    return Maps(reference, "cifar10/made-up", WEIGHTS), file


@pytest.mark.usefixtures("no_umap")
def test_the_file_holds_arrays_and_says_how_they_were_made(reference):
    said = []
    data = compute(reference, WEIGHTS, UmapSettings(neighbours=7, seed=3), said.append)
    assert Flat.asked["n_neighbors"] == 7 and Flat.asked["random_state"] == 3 and Flat.asked["metric"] == "euclidean"
    assert torch.equal(load(data)["points"], reference.features[:, :2])
    assert torch.equal(load(data)["index"], reference.index)
    about = metadata(data)
    facts = json.loads(about["facts"])
    assert about["weights"] == WEIGHTS and facts["recipe"]["neighbours"] == 7
    assert facts["images"] == 90 and facts["trustworthiness_k"] == K and 0.5 < facts["trustworthiness"] <= 1
    assert "umap-learn" in facts["versions"] and len(said) == 3


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.usefixtures("no_umap")
def test_found_beside_the_card_and_in_the_cache(reference, folder, beside):
    maps = Maps(reference, "cifar10/made-up", WEIGHTS)
    with pytest.raises(NoMap, match="no UMAP map of cifar10/made-up yet: `python -m explorer features") as error:
        maps.umap()
    assert error.value.reason == "missing"
    keep("cifar10/made-up", WEIGHTS, compute(reference, WEIGHTS), beside)
    assert torch.equal(maps.umap().points, reference.features[:, :2])
    assert maps.umap() is maps.umap() and maps.kept("umap") == maps.umap().trustworthiness


def _other_images(tensors):
    return tensors | {"index": tensors["index"] + 1}


def _not_finite(tensors):
    return tensors | {"points": tensors["points"] * torch.nan}


@pytest.mark.parametrize(
    ("change", "weights", "reason", "says"),
    [
        (lambda tensors: tensors, "cd" * 32, "stale", "made with other weights than cifar10/made-up has now"),
        (_other_images, WEIGHTS, "stale", "does not show the reference images"),
        (_not_finite, WEIGHTS, "damaged", "cannot be read"),
        (lambda tensors: {"points": tensors["points"]}, WEIGHTS, "damaged", "cannot be read"),
        (None, WEIGHTS, "damaged", "cannot be read"),
    ],
)
def test_a_stale_or_damaged_one_is_refused_in_one_sentence(stored, change, weights, reason, says):
    maps, file = stored
    data = file.read_bytes()
    if change is None:
        file.write_bytes(data[:-100])
    else:
        file.write_bytes(save(change(load(data)), metadata=metadata(data) | {"weights": weights}))
    with pytest.raises(NoMap, match=says) as error:
        maps.umap()
    assert error.value.reason == reason and "`python -m explorer features cifar10/made-up`" in str(error.value)


def test_a_good_one_in_the_cache_stands_in_for_a_stale_one_beside_the_card(stored, reference):
    maps, file = stored
    keep("cifar10/made-up", WEIGHTS, file.read_bytes(), beside=False)
    file.write_bytes(b"")
    assert isinstance(maps.umap(), Embedding)
    assert len({path.parent for path in places("cifar10/made-up", WEIGHTS)}) == 2


def test_a_reference_image_lands_on_its_own_point_and_all_others_between_their_neighbours(stored, reference):
    ground = stored[0].umap()
    assert torch.allclose(ground.place(reference.features), ground.points, atol=1e-6)
    assert torch.allclose(ground.centroids[1], ground.points[reference.labels == 1].mean(0), atol=1e-5)
    far = ground.place(reference.features[:5] * 50)
    assert (far >= ground.points.min(0).values).all() and (far <= ground.points.max(0).values).all()


def test_weights_by_hand():
    """Sixteen neighbours on a line at distances 1, 2 and (fourteen times) 4: weights ((4 - d) / (4 d))^2 = 9/16, 1/16, 0."""
    features = torch.tensor([[1.0, 0], [0, 2]] + [[-4.0, 0]] * 14)
    labels = torch.arange(16) % 3
    points = torch.zeros(16, 2)
    points[0], points[1], points[2:] = torch.tensor([10.0, 0]), torch.tensor([0, 10.0]), 77.0
    ground = _embedding(features, labels, points)
    assert torch.allclose(ground.place(torch.zeros(1, 2)), torch.tensor([[9.0, 1.0]]))


def test_points_all_equally_far_count_the_same():
    turn = torch.linspace(0, 2 * torch.pi, 33)[:-1]
    features = torch.stack([turn.cos(), turn.sin()], 1)
    ground = _embedding(torch.cat([features, torch.zeros(20, 2)]), torch.arange(52) % 3, torch.ones(52, 2))
    assert torch.allclose(ground.place(torch.zeros(1, 2)), torch.ones(1, 2))  # twenty stand right here
    assert torch.isfinite(ground.place(torch.full((1, 2), 1e6))).all()


def _embedding(features, labels, points):
    ground = Maps(as_reference(features, labels)).neighbours
    centers = torch.zeros(3, features.shape[1], dtype=torch.float64)
    return Embedding(points, labels, ("cat", "dog", "frog"), centers, points[:3], ground)


def test_nothing_jumps_where_one_neighbour_replaces_another():
    """A path of 4,001 points moves in small steps only."""
    features, labels = cloud(200)
    ground = _embedding(features, labels, features[:, :2].contiguous())
    way = torch.linspace(0, 1, 4001)[:, None]
    path = ground.place(features[0] + (features[1] - features[0]) * way + 0.5)
    assert (path[1:] - path[:-1]).norm(dim=1).max() < 0.02 * float(ground.points.std())


def test_the_same_alone_and_in_a_batch():
    features, labels = cloud(400, d=64)
    ground = _embedding(features, labels, features[:, :2].contiguous())
    walk = features[:101] + 0.3
    batch = ground.place(walk)
    assert (batch - torch.cat([ground.place(row[None]) for row in walk])).abs().max() <= 1e-5
    assert (batch - ground.place(walk.flip(0).numpy()).flip(0)).abs().max() <= 1e-5


def test_a_walk_is_placed_while_one_blinks():
    """101 points on 2,000 reference images of 256 features: five times the promised 20 ms, for slower computers."""
    features = torch.randn(2000, 256, generator=torch.Generator().manual_seed(0))
    ground = _embedding(features, torch.arange(2000) % 3, features[:, :2].contiguous())
    spent = []
    for _ in range(5):
        began = time.process_time()
        ground.place(features[:101] + 0.1)
        spent.append(time.process_time() - began)
    assert min(spent) < 0.1


def test_turned_onto_another_it_shows_the_same_and_places_the_same(stored, reference):
    ground = stored[0].umap()
    turn = torch.tensor([[0.0, -1], [1, 0]])
    other = _embedding(reference.features, reference.labels, ground.points @ turn + 3)
    turned = ground.turned_onto(other)
    assert torch.allclose(turned.points, other.points, atol=1e-4)
    asked = reference.features[:7] * 1.2
    assert torch.allclose(turned.place(asked), other.place(asked), atol=1e-4)


def test_refuses_too_few_points_and_points_that_are_not_finite(no_umap, reference):
    few = as_reference(reference.features[:15], reference.labels[:15])
    with pytest.raises(InvalidValue, match="15 neighbours needs more than 15 points; got 15"):
        compute(few, WEIGHTS)
    broken = as_reference(reference.features * torch.nan, reference.labels)
    with pytest.raises(InvalidValue, match="finite"):
        compute(broken, WEIGHTS)
    ground = _embedding(few.features, few.labels, few.features[:, :2])
    with pytest.raises(InvalidValue, match="between 1 and 15, the number of other points; got 16"):
        ground.place(few.features)


def test_the_shipped_maps_belong_to_their_models_and_need_no_umap_learn(monkeypatch):
    for module in ("umap", "numba"):
        monkeypatch.setitem(
            sys.modules, module, None
        )  # whoever imports it fails; another test may have imported it before
    for card in zoo.cards():
        if not places(card.name, card.sha256)[0].is_file():
            continue
        model = types.SimpleNamespace(stochastic=card.stochastic)  # never asked: the features are shipped, too
        gathering = Gathering(model, card.dataset, key=card.sha256, shipped=zoo.features_file(card.name))
        reference = gathering.advance()
        assert len(reference.labels) == 2000
        ground = Maps(reference, card.name, card.sha256).umap()
        assert ground.facts["weights"] == card.sha256 and ground.facts["images"] == 2000
        assert ground.facts["trustworthiness"] > 0.8
    walk = feature_path(ground, reference.features[:41], int(reference.labels[0]))
    assert walk.method == "UMAP" and walk.path.shape == (41, 2) and walk.points.shape == (2000, 2)
