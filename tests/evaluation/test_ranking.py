"""ROC curves of classes: areas are the pairs that rank right, curves enclose them, and attacked pictures are the ones named."""

import numpy as np
import pytest
import torch

from explorer.core import Linf, seeded
from explorer.data import load
from explorer.evaluation.boundary import class_auc
from explorer.evaluation.ranking import SETS, class_curves, log_odds, ranked_pictures
from explorer.models import zoo

NET, OTHER = "fashion_mnist/fashion-mlp", "fashion_mnist/deep-defense"


def test_a_curve_encloses_its_area_and_the_area_is_the_share_of_pairs():
    scores = np.round(torch.rand(60, 3, generator=seeded(1)).numpy(), 1)  # with ties
    labels = np.arange(60) % 3
    scores[np.arange(60), labels] += 0.3
    for curve in class_curves(scores, labels):
        own, rest = scores[labels == curve.label, curve.label], scores[labels != curve.label, curve.label]
        pairs = (own[:, None] > rest).mean() + 0.5 * (own[:, None] == rest).mean()
        assert curve.auc.value == pytest.approx(pairs) == np.trapezoid(curve.true_positive, curve.false_positive)
        assert curve.positives == 20 and (curve.false_positive[-1], curve.true_positive[-1]) == (1, 1)
    assert class_curves(scores[:1], labels[:1]) == []  # a class of all has no other to be told from


def test_log_odds_rank_as_probabilities_and_do_not_saturate():
    model, x = zoo.load(NET), load("fashion_mnist", n=30, source="sample").x
    odds, p = log_odds(model, x), model(x).detach().double().softmax(1)
    assert torch.allclose(odds.sigmoid(), p, atol=1e-9)
    sure = log_odds(lambda x: torch.tensor([[90.0, 0, 0], [95.0, 0, 0]]), x)  # type: ignore[arg-type]
    assert sure[1, 0] > sure[0, 0] > 80  # where float32 says 1 for both


def test_the_pictures_are_those_of_the_attacks():
    model, images = zoo.load(NET), load("fashion_mnist", n=20, source="sample")
    clean, fgsm, deepfool = (ranked_pictures(key, model, images.x, images.y, 0.05, seeded(0)) for key in SETS)
    assert torch.equal(clean, images.x) and not torch.equal(fgsm, images.x)
    assert Linf(0.05).around(images.x).contains(fgsm).all()
    assert (model(deepfool).argmax(1) != model(images.x).argmax(1)).float().mean() > 0.9


def test_the_area_on_deepfool_s_pictures_is_the_card_s_measure():
    model, source = zoo.load(OTHER), zoo.load(NET)
    images = load("fashion_mnist", n=200, source="sample")
    moved = ranked_pictures("deepfool", source, images.x, images.y, 0.05, seeded(0))
    found = class_curves(log_odds(model, moved).numpy(), images.y.numpy())
    due = class_auc(model, images, source, NET).classes
    assert [one.auc.value for one in found] == pytest.approx([area for area, _, _ in due], abs=1e-3)
