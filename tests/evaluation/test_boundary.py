"""rho_2, the classes' AUC and the eps of reference, where they can be worked out by hand."""

import dataclasses

import pytest
import torch
from torch import nn

from explorer.core import Cancelled, Classifier, seeded
from explorer.data import Images, load
from explorer.defenses import RECIPES
from explorer.evaluation import boundary
from explorer.evaluation.boundary import class_auc, eps_of_reference, rho_2
from explorer.evaluation.measure import same_conditions
from explorer.evaluation.tables import measures, value
from explorer.models import zoo
from explorer.training.state import build


class Linear(Classifier):
    def __init__(self, weight, bias):
        super().__init__((0.0,), (1.0,), (1, 2, 2), len(weight))
        self.head = nn.Linear(4, len(weight))
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor(weight))
            self.head.bias.copy_(torch.tensor(bias))
        self.freeze()

    def embed(self, normalised):
        return normalised.flatten(1)


THREE = Linear([[1.0, 0.0, -0.5, 0.2], [-0.3, 1.0, 0.4, 0.0], [0.2, -0.6, 1.0, 0.3]], [0.0, 0.1, -0.1])


def images(n=40, low=0.35, high=0.65, model=THREE):
    """Far enough from 0 and 1 that no change is cut off."""
    x = low + (high - low) * torch.rand(n, 1, 2, 2, generator=seeded(0))
    y = model(x).argmax(1)
    classes = tuple(map(str, range(model.num_classes)))
    return Images(x, y, classes, "none", "test", torch.arange(n), "made up")


def closed_form(model, x):
    """(N,) the distance to the nearest of the flat boundaries."""
    logits, weight = model(x), model.head.weight
    own = logits.argmax(1)
    leads = logits.gather(1, own[:, None]) - logits
    sizes = (weight[own][:, None] - weight[None]).norm(dim=2)
    return (leads / sizes).scatter(1, own[:, None], float("inf")).amin(1).detach()


def test_rho_2_of_a_linear_model_is_the_distance_to_its_planes():
    some = images()
    expected = (closed_form(THREE, some.x) / some.x.flatten(1).norm(dim=1)).mean()
    found = rho_2(THREE, some, batch=7)
    assert found.value == pytest.approx(1.02 * float(expected), rel=1e-4) and found.changed == 1.0
    assert found.low < found.value < found.high and found.n == 40 and found.kind == "rho_2"
    ours = rho_2(THREE, some, bounded=True)
    assert float(expected) <= ours.value <= 1.021 * float(expected)  # never farther
    assert not same_conditions(found.to_dict(), ours.to_dict())


def test_rho_2_does_not_ask_for_the_true_class():
    some = images()
    wrong = dataclasses.replace(some, y=(some.y + 1) % 3)
    assert rho_2(THREE, wrong).value == rho_2(THREE, some).value


def test_the_auc_of_each_class_is_how_often_its_images_rank_above_the_others():
    some = dataclasses.replace(images(), y=torch.arange(40) % 3)
    other = Linear([[0.5, 0.1, 0.0, 0.0], [0.0, 0.4, 0.1, 0.0], [0.0, 0.0, 0.3, 0.4]], [0.0, 0.0, 0.0])
    found = class_auc(THREE, some, other, "another", batch=11)
    moved = some.x + boundary.to_boundary(other, some.x, other(some.x).argmax(1))
    p = THREE(moved).softmax(1).detach()
    for k, (area, low, high) in enumerate(found.classes):
        own, rest = p[some.y == k, k], p[some.y != k, k]
        pairs = (own[:, None] > rest[None]).double() + 0.5 * (own[:, None] == rest[None]).double()
        assert area == pytest.approx(float(pairs.mean()), abs=1e-6) and low <= area <= high
    assert found.value == pytest.approx(sum(c[0] for c in found.classes) / 3) and found.source_model == "another"


def test_the_eps_of_reference_leaves_half_of_the_images_right():
    model = Linear([[0.0] * 4, [1.0, -2.0, 3.0, 0.5]], [0.0, 0.0])
    some = images(60, 0.3, 0.7, model)
    flat = some.x.flatten(1)
    margins = (flat @ torch.tensor([1.0, -2.0, 3.0, 0.5])).abs().sort().values
    expected = float(margins[29]) / 6.5  # one signed step moves the lead by eps times the slope's 1-norm
    assert eps_of_reference(model, some) == pytest.approx(expected, abs=2e-4)


def test_a_stop_is_heard():
    with pytest.raises(Cancelled):
        rho_2(THREE, images(), should_stop=lambda: True)


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Three untrained networks under the names of the report's."""
    monkeypatch.setattr(zoo, "roots", lambda: [tmp_path])
    for seed, key in enumerate(("fashion-mlp", "fashion-deepfool", "deep-defense")):
        recipe = RECIPES[key](start="", seed=seed, hidden="20")
        name, arguments = recipe.architecture()
        about = zoo.Card(
            name=f"fashion_mnist/{key}", title=key, summary="", dataset="fashion_mnist", architecture=name, arguments=arguments,
            parameters=0, stochastic=False, recipe=key, hyper={}, recipe_hash="", training={}, history=[], file="",
            precision="float32", sha256="", bytes=0, command="",
        )  # fmt: skip
        zoo.write(tmp_path / "fashion_mnist", about, build(recipe, torch.device("cpu")).freeze())
    return tmp_path


def test_what_a_fashion_network_s_card_gets(models, monkeypatch):
    monkeypatch.setattr(boundary, "HALF", 0.0)  # untrained networks are right on fewer than half of the images
    found = list(boundary.boundary_measures("fashion_mnist/fashion-deepfool", n=60, source="sample"))
    assert [m.kind for m in found] == ["clean", "rho_2", "rho_2", "class AUC", "white-box", "white-box", "white-box"]
    assert found[3].source_model == "fashion_mnist/fashion-mlp" and len(found[3].classes) == 10
    assert [m.eps_share for m in found[4:]] == [0.2, 0.5, 1.0]
    assert found[4].eps == pytest.approx(0.2 * found[6].eps) and all(m.n == 60 for m in found)
    own = list(boundary.boundary_measures("fashion_mnist/fashion-mlp", n=60, source="sample"))
    assert own[3].source_model is None
    assert own[6].eps == found[6].eps  # the eps of reference is one for all
    from explorer.evaluation import write_measures

    card = write_measures("fashion_mnist/fashion-deepfool", found)
    card = write_measures("fashion_mnist/fashion-deepfool", [dataclasses.replace(found[6], eps=0.5)])
    assert (
        len(card.measures) == 7 and card.measures[6]["eps"] == 0.5
    )  # the eps of reference is another: the cell is the same
    assert (
        "ρ₂" in measures(card)
        and "mean AUC" in value(card.measures[3])
        and "0.2 of the eps of reference" in measures(card)
    )
    assert load("fashion_mnist", n=60, source="sample").x.shape == (60, 1, 28, 28)
