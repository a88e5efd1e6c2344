"""Feature adversary: on a network whose features are the pixels it ends at the point of the ball nearest to its guide."""

import pytest
import torch

from explorer.attacks import ATTACKS
from explorer.attacks._features import guides, logits_and_features
from explorer.core import Ball, Goal, InvalidValue, run, seeded
from explorer.data import raw


def case(linear, n=4):
    model = linear(torch.randn(3, 3072, generator=seeded(0)), input_shape=(3, 32, 32))
    pixels = raw("cifar10", "test", "sample")[0][:n].float() / 255
    return model, pixels, Goal.untargeted(model(pixels).argmax(1))


def test_features_are_what_the_last_layer_is_given(linear):
    model, x, _ = case(linear)
    logits, features = logits_and_features(model, x)
    assert torch.allclose(features, x.flatten(1), atol=1e-6) and torch.equal(logits, model(x))
    assert not model.head._forward_pre_hooks
    plain = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 5))
    assert torch.equal(*logits_and_features(plain, x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_a_named_guide_it_ends_where_the_ball_is_nearest_to_it(linear, norm):
    model, x, goal = case(linear)
    ball, guide = Ball(norm, 0.1 if norm == "linf" else 2.0), raw("cifar10", "test", "sample")[0][17].float() / 255
    steps = list(ATTACKS["feature-adversary"](guide="cifar10/17", steps=100).walk(model, x, goal, ball, seeded(0)))
    best = ball.around(x).nearest(guide.expand_as(x))
    end, nearest = (((x - guide).flatten(1).norm(dim=1)) for x in (steps[-1].x, best))
    assert (end <= 1.01 * nearest).all()
    assert steps[0].forwards.tolist() == [3] * 4, "the picture itself, the guide, and the first step"


def test_toward_a_centre_the_features_are_the_mean_of_the_guides_class(linear):
    model, x, goal = case(linear)
    attack = ATTACKS["feature-adversary"](toward="centre", candidates=30)
    towards = attack._chosen(model, x, goal, seeded(0))
    drawn = guides("", x, 30, seeded(0))
    classes = model(drawn.flatten(0, 1)).argmax(1).view(4, 30)
    for k in range(4):
        means = [drawn[k][classes[k] == c].mean(0).flatten() for c in set(classes[k].tolist()) - {int(goal.labels[k])}]
        assert any(torch.allclose(towards[k], mean, atol=1e-5) for mean in means)


def test_a_guide_that_is_none_is_refused(linear):
    for name in ("cifar10", "cifar10/-1", "cifar10/99999", "nothing/3"):
        with pytest.raises(InvalidValue, match="guide must be a dataset and a row of its bundled pictures"):
            ATTACKS["feature-adversary"](guide=name)
    model, x, goal = case(linear)
    with pytest.raises(InvalidValue, match=r"guide must be a picture of shape \(3, 32, 32\); fashion_mnist/3 has"):
        list(ATTACKS["feature-adversary"](guide="fashion_mnist/3").walk(model, x, goal, Ball("linf", 0.1), seeded(0)))


def test_shadow_is_smooth_and_without_colour(linear):
    """Of a linear model whose slope is rough noise on one channel the shadow is a smoother, greyer change than PGD's."""
    model, x, goal = case(linear)
    ball, shadow = Ball("linf", 0.5), ATTACKS["shadow"](steps=60)
    found = {
        key: run(a.walk(model, x, goal, ball, seeded(0)), goal).x - x
        for key, a in (("pgd", ATTACKS["pgd"]()), ("shadow", shadow))
    }
    assert (shadow.penalty(found["shadow"]) < 0.1 * shadow.penalty(found["pgd"])).all()
    dark = torch.full_like(x, -0.2)
    free = ATTACKS["shadow"](colour=0.0)
    assert torch.allclose(free.penalty(dark), torch.zeros(4)) and shadow.penalty(dark).min() > 0
    leaf = found["shadow"].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(shadow.penalty(leaf).sum(), leaf)
    assert torch.allclose(slope, shadow.price(found["shadow"]))
