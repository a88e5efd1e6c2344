"""TLA: its triplet loss worked out by hand, whom it chooses, and that a killed run goes on with the same bank."""

import math

import pytest
import torch
import torch.nn.functional as F

from explorer.core import seeded
from explorer.data import DATASETS
from explorer.defenses import RECIPES
from explorer.defenses.tla import angular, another_of_its_class, nearest_of_another_class, triplet_loss
from explorer.training.data import split
from explorer.training.result import Stop
from explorer.training.trainer import Trainer
from tests.defenses.test_contrastive import Seen


def at(*degrees):
    """(N,2) unit vectors at these angles, of different lengths."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, len(degrees) + 1)[:, None]


def test_the_distance_is_one_minus_the_absolute_cosine_whatever_the_lengths():
    found = angular(at(0.0, 0.0, 0.0, 0.0), at(0.0, 60.0, 90.0, 180.0))
    assert found.tolist() == pytest.approx([0, 0.5, 1, 0], abs=1e-6)


def test_triplets_cost_what_the_negative_lacks_to_the_margin_and_nothing_beyond_it():
    anchor, positive = at(0.0, 0.0), at(60.0, 60.0)  # D(a,p) = 0.5
    negative = at(60.0, 90.0).requires_grad_(True)  # D(a,n) = 0.5 and 1
    found = triplet_loss(anchor, positive, negative, margin=0.03)
    assert found.tolist() == pytest.approx([0.03, 0.0], abs=1e-6)
    (pull,) = torch.autograd.grad(found.sum(), negative)
    assert float(pull[0].norm()) > 0.1 and float(pull[1].norm()) == 0


def test_the_negative_is_the_nearest_of_the_bank_and_never_of_the_anchor_s_class():
    bank, labels = at(1.0, 40.0, 30.0, 170.0), torch.tensor([0, 1, 2, 1])
    rows, there = nearest_of_another_class(at(0.0, 0.0, 0.0), torch.tensor([0, 1, 2]), bank, labels)
    assert rows.tolist() == [2, 0, 0] and there.all()
    _, there = nearest_of_another_class(at(0.0), torch.tensor([1]), bank[[1, 3]], labels[[1, 3]])
    assert there.tolist() == [False]
    random, own = torch.randn(200, 8, generator=seeded(0)), torch.arange(200) % 5
    rows, _ = nearest_of_another_class(random[:50], own[:50], random[50:], own[50:])
    assert (own[50:][rows] != own[:50]).all()


def test_the_other_positive_is_of_the_class_never_the_anchor_and_every_mate_comes_up():
    labels = torch.tensor([0, 1, 0, 0, 2, 1])
    drawn = set()
    for seed in range(60):
        rows, there = another_of_its_class(labels, seeded(seed))
        assert there.tolist() == [True, True, True, True, False, True]
        here = torch.arange(6)[there]
        assert (labels[rows[there]] == labels[there]).all() and (rows[there] != here).all()
        drawn.add(int(rows[0]))
    assert drawn == {2, 3}


X = torch.tensor([[0.5, 0.1], [0.4, 0.2], [0.1, 0.6]]).view(3, 1, 1, 2)
Y = torch.tensor([0, 0, 1])
BANK = torch.tensor([[0.3, 0.3], [0.9, 0.1], [0.2, 0.3]]).view(3, 1, 1, 2), torch.tensor([1, 1, 0])


class Planted(RECIPES["tla"]):
    """The attack adds 0.05 to the second pixel."""

    def training_inputs(self, model, x, y, rng, epoch=0):
        return x + torch.tensor([0.0, 0.05])


def test_the_loss_worked_out_by_hand():
    recipe, model = Planted(weight=2.0, margin=0.3, norm_weight=0.1, label_smoothing=0.0), Seen()
    attacked = recipe.training_inputs(model, X, Y, seeded(0))
    a, x, bank = (t.flatten(1) for t in (attacked, X, BANK[0]))
    nearest, mates = [1, 0, 2], {0: 1, 1: 0}  # by angle, of the other class; image 2 has no mate

    def cosine(u, v):
        return abs(float(u @ v / (u.norm() * v.norm())))

    def cost(i, p):
        n = bank[nearest[i]]
        hinge = max(0.0, cosine(a[i], n) - cosine(a[i], p) + 0.3)
        return hinge + 0.1 * float((a[i] ** 2 + p**2 + n**2).mean())

    clean = sum(cost(i, x[i]) for i in range(3)) / 3
    other = sum(cost(i, x[j]) for i, j in mates.items()) / 2
    expected = float(F.cross_entropy(model(attacked), Y).detach()) + 2 * (clean + other)
    assert float(recipe.loss(model, X, Y, seeded(0), extra_batch=BANK).detach()) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_one_class_without_a_negative_is_adversarial_training():
    recipe, model = Planted(label_smoothing=0.0), Seen()
    expected = F.cross_entropy(model(recipe.training_inputs(model, X, Y, seeded(0))[:2]), Y[:2])
    assert float(recipe.loss(model, X[:2], Y[:2], seeded(0)).detach()) == pytest.approx(float(expected.detach()))


class Watched(RECIPES["tla"]):
    """Keeps what it is given."""

    def loss(self, model, x, y, rng, epoch=0, extra_batch=None):
        images, labels = extra_batch
        GIVEN.append((images.clone(), labels.clone()))
        return super().loss(model, x, y, rng, epoch, extra_batch)


GIVEN = []


def small_trainer():
    recipe = Watched(**RECIPES["tla"].smoke, batch=8)
    shape, rng = DATASETS["cifar10"].shape, seeded(0)
    pixels = torch.randint(0, 256, (2000, *shape), generator=rng, dtype=torch.uint8)
    images = split(pixels, torch.arange(2000) % 10, 32, torch.device("cpu"))
    return Trainer(recipe, images, torch.device("cpu"), bf16=False)


def test_the_bank_is_new_for_every_update_and_a_resumed_run_draws_the_same():
    GIVEN.clear()
    trainer = small_trainer()
    trainer.state.model.train()

    def update(trainer):
        loss = trainer.update(trainer.next_rows(), 0.05)
        trainer.state.index += 1
        return loss

    update(trainer)
    kept = {key: value.clone() for key, value in trainer.state.tensors().items()}
    facts = trainer.state.facts()
    second = update(trainer)
    again = small_trainer()
    again.state.model.train()
    again.state.restore(kept, facts)
    assert update(again) == second
    first, after, resumed = GIVEN
    assert first[0].shape == (2 * 8, 3, 32, 32) and not torch.equal(first[1], after[1])
    assert torch.equal(after[0], resumed[0]) and torch.equal(after[1], resumed[1])
    states = (trainer.state.model.state_dict(), again.state.model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


@pytest.mark.parametrize("key", ["contrastive", "contrastive-adversarial", "tla"])
def test_a_stop_is_heard_in_every_update(key):
    recipe = RECIPES[key](**RECIPES[key].smoke, batch=8)
    trainer = small_trainer()
    stopping = Trainer(recipe, trainer.images, torch.device("cpu"), bf16=False, should_stop=lambda: True)
    with pytest.raises(Stop):
        stopping.update(stopping.next_rows(), 0.05)
