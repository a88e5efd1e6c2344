"""Detection on planted features: what must be told apart is, what cannot be is not, and an attack that knows evades."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Cancelled, Classifier, InvalidValue, seeded
from explorer.data import Images
from explorer.evaluation import detection
from explorer.evaluation.detection import Evasion, both_sides, caught_at
from explorer.features import Neighbours, Reference
from explorer.features.measures import DETECTORS, Detection, auc_interval, detect, roc
from explorer.models import zoo


class Flat(Classifier):
    """Two pixels are the two features; class 1 where the first is the larger."""

    def __init__(self):
        super().__init__((0.0,), (1.0,), (1, 1, 2), 2)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-4.0, 4.0], [4.0, -4.0]]))
            self.head.bias.zero_()

    def embed(self, normalised):
        return normalised.flatten(1)


def clusters(n, seed):
    """n points a class around (0.3, 0.7) and (0.7, 0.3), as images with labels."""
    middle = torch.tensor([[0.3, 0.7], [0.7, 0.3]]).repeat_interleave(n, 0)
    x = (middle + 0.05 * torch.randn(2 * n, 2, generator=seeded(seed))).clamp(0, 1)
    return x.view(-1, 1, 1, 2), torch.arange(2).repeat_interleave(n)


MODEL = Flat().freeze()
X, Y = clusters(30, seed=0)


def images_of(x, y, index=None):
    index = torch.arange(len(y)) if index is None else index
    return Images(x=x, y=y, classes=("a", "b"), name="planted", split="test", index=index, source="here")


IMAGES = images_of(X, Y)


def ground():
    x, y = clusters(100, seed=1)
    return Neighbours(x.flatten(1), y)


def measured(key, walk):
    sides = both_sides(MODEL, IMAGES, walk, Ball("linf", 1.0), seed=0, batch=17)
    return sides, detect(key, ground(), sides.clean, sides.clean_predicted, sides.attacked, sides.attacked_predicted)


def test_images_that_land_far_from_every_class_are_all_told_apart():
    far = torch.tensor([[0.99, 0.9], [0.9, 0.99]]).view(2, 1, 1, 2)
    sides, found = measured("centre", lambda x0, y, ball, rng, stop: far[y])
    assert len(sides.clean) == len(sides.attacked) == 60 and set(sides.attacked_predicted) == {0, 1}
    assert found.auc.value == 1 and caught_at(found, 0.05) == 1


@pytest.mark.parametrize("key", DETECTORS)
def test_images_that_land_where_clean_ones_stand_are_not_told_apart_at_all(key):
    def onto_the_others(x0, y, ball, rng, stop):
        return x0.flip(-1)  # the other cluster's place

    x, y = clusters(30, seed=0)
    whole = torch.cat([x, x.flip(-1)]), torch.cat([y, 1 - y])  # as many images, mirrored
    images = images_of(*whole)
    sides = both_sides(MODEL, images, onto_the_others, Ball("linf", 1.0), seed=0, batch=50)
    found = detect(key, ground(), sides.clean, sides.clean_predicted, sides.attacked, sides.attacked_predicted)
    assert found.auc.value == 0.5 and found.auc.low < 0.5 < found.auc.high


def test_only_what_was_right_is_attacked_and_only_what_fell_inside_the_ball_is_a_positive():
    wrong = X.clone()
    wrong[:5] = wrong[:5].flip(-1)  # five of class 0 that the model takes for class 1
    images = images_of(wrong, Y)

    def walk(x0, y, ball, rng, stop):
        moved = x0.clone()
        moved[y == 1] = x0[y == 1].flip(-1)  # these fall
        return moved

    sides = both_sides(MODEL, images, walk, Ball("linf", 1.0), seed=0, batch=60)
    assert len(sides.clean) == 55 and len(sides.attacked) == 30
    with pytest.raises(InvalidValue, match="no image fell"):  # all of it outside so small a ball
        both_sides(MODEL, images, walk, Ball("linf", 0.01), seed=0, batch=60)


def test_the_share_caught_is_read_at_the_largest_allowed_share_of_false_alarms():
    clean, attacked = np.arange(20.0), np.array([18.5, 18.5, 10.0, 30.0])
    found = Detection("centre", clean, attacked, *roc(clean, attacked), auc_interval(clean, attacked))
    assert caught_at(found, 0.05) == 0.75 and caught_at(found, 0.0) == 0.25 and caught_at(found, 1.0) == 1


def test_an_attack_that_knows_the_detector_fools_the_model_and_is_less_suspicious():
    ball, reference = Ball("linf", 0.6), ground()
    plain = partial(detection._unaware, MODEL, ATTACKS["pgd"](steps=20))
    evading = Evasion(MODEL, reference, steps=20, rel_step=0.1)
    unaware, aware = (both_sides(MODEL, IMAGES, walk, ball, seed=0, batch=60) for walk in (plain, evading.images))
    scores = [DETECTORS["centre"].score(reference, s.attacked, s.attacked_predicted, None) for s in (unaware, aware)]
    assert len(unaware.attacked) == len(aware.attacked) == 60  # so far, all can be turned
    assert scores[1].mean() < scores[0].mean() / 2
    x = evading.images(X, Y, ball, seeded(0))
    assert bool((ball.distance(x, X) <= ball.eps).all()) and float(x.min()) >= 0 and float(x.max()) <= 1


def test_the_gradient_is_the_margin_s_until_the_image_falls_and_then_the_score_s():
    evading = Evasion(MODEL, ground(), steps=1, rel_step=0.1)
    right, fallen = torch.tensor([[0.3, 0.7], [0.9, 0.7]]).view(2, 1, 1, 2)
    margin, score, gradient = evading._look(torch.stack([right, fallen]), torch.tensor([0, 0]), seeded(0))
    assert margin.tolist() == pytest.approx([-3.2, 1.6], abs=1e-5)
    assert gradient[0].flatten().tolist() == pytest.approx([8, -8])
    toward = evading.centres[1] - fallen.flatten()
    torch.testing.assert_close(gradient[1].flatten(), toward / toward.norm() / evading.sizes[1])
    assert float(score[1]) == pytest.approx(float(toward.norm() / evading.sizes[1]))


@pytest.mark.parametrize("attack", [None, Evasion(MODEL, ground(), 5, 0.1).images])
def test_a_stop_is_heard(attack):
    walk = attack or partial(detection._unaware, MODEL, ATTACKS["pgd"](steps=5))
    with pytest.raises(Cancelled):
        both_sides(MODEL, IMAGES, walk, Ball("linf", 0.1), seed=0, batch=60, should_stop=lambda: True)


def test_a_detector_is_fitted_to_no_image_that_it_is_measured_on_and_needs_every_class(monkeypatch):
    x, y = clusters(10, seed=3)
    whole = Reference(x.flatten(1), y, torch.arange(20), torch.arange(100, 120), "planted", ("a", "b"))
    monkeypatch.setattr(detection, "reference", lambda model, dataset, key: whole)
    some = images_of(x[:4], y[:4], torch.tensor([100, 101, 7, 119]))
    about = zoo.cards()[0]
    found = detection.ground_without(MODEL, about, some)
    assert len(found) == 17 and torch.equal(found.points, whole.features[2:19].double())
    everything = images_of(x[:10], y[:10], torch.arange(100, 110))
    with pytest.raises(InvalidValue, match="every class"):
        detection.ground_without(MODEL, about, everything)
