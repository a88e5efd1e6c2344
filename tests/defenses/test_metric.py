"""Metric learning: the head is the nearest class mean, the loss by hand, an attack that moves features, recall at 1 by hand."""

import pytest
import torch

from explorer.core import Ball, InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.defenses.metric import left_out
from explorer.evaluation.retrieval import attacked, found
from explorer.models.metric_net import SCALE, MetricNet, NearestMean

SHAPE = (1, 8, 8)


def network(seed=0):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        return MetricNet((0.5,), (0.25,), SHAPE, 4, convolutions=((4, 3, 1),), hidden=(8,), embedding=3)


def test_the_head_says_how_near_each_class_mean_is():
    head = NearestMean(2, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]))
    logits = head(torch.tensor([[0.6, 0.8]])).detach()
    assert torch.allclose(logits, -SCALE * torch.tensor([[0.8, 0.4, 0.0]]), atol=1e-5)


def test_the_loss_by_hand():
    """Two seen pictures of one class and one of another; the unseen one trains its class mean alone."""
    model, x, y = network(), torch.rand(4, *SHAPE, generator=seeded(0)), torch.tensor([0, 0, 2, 1])
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(4, 3))
        f = model.features(x)
    d = (f[:3, None] - f[None, :3]).norm(dim=2)
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    pairs = torch.where(same, d**2, (1.0 - d).clamp(min=0) ** 2).mean()
    means = (f - torch.eye(4, 3)[y]).square().sum(1).mean()
    found_loss = RECIPES["metric"](unseen="1").loss(model, x, y, seeded(0))
    assert float(found_loss.detach()) == pytest.approx(float(pairs + means), rel=1e-5)


def test_attacked_pairs_cost_more_and_the_embedding_learns_nothing_of_the_means():
    model, x, y = network(1), torch.rand(8, *SHAPE, generator=seeded(1)), torch.tensor([0, 2] * 4)
    plain, robust = (RECIPES[key](unseen="1-3").loss(model, x, y, seeded(2)) for key in ("metric", "metric-robust"))
    assert float(robust.detach()) > float(plain.detach())
    none_seen = RECIPES["metric"](unseen="0-2").loss(model, x, y, seeded(2))
    none_seen.backward()
    assert model.head.weight.grad.abs().sum() > 0
    assert all(p.grad is None or not p.grad.any() for p in model.layers.parameters())


def test_the_stronger_attack_changes_more_neighbours():
    model = network(3).freeze()
    x, labels = torch.rand(60, *SHAPE, generator=seeded(3)), torch.arange(60) % 2
    known, queries, y = model.features(x[20:]).detach(), x[:20], labels[:20]
    own = known[:5].clone()
    assert found(own, labels[20:25], known, labels[20:]).all()  # a picture's nearest is itself
    moved = {
        toward: attacked(model, queries, y, known, labels[20:], Ball("linf", 0.1), 5, toward, seeded(0))
        for toward in (False, True)
    }
    kept = {k: int(found(model.features(v), y, known, labels[20:]).sum()) for k, v in moved.items()}
    assert all(float((v - queries).abs().max()) <= 0.1 + 1e-6 for v in moved.values())
    assert kept[True] <= kept[False] and kept[True] < int(found(model.features(queries), y, known, labels[20:]).sum())


def test_unseen_classes_are_numbers():
    assert left_out("") == [] and left_out("1-3") == [1, 3]
    with pytest.raises(InvalidValue, match="unseen must be numbers"):
        RECIPES["metric"](unseen="shoes").architecture()
