"""PREDICT counted as the report's table 4 counts it, on networks whose answer under noise is known."""

import json

import pytest
import torch
from scipy.stats import norm
from torch import nn

from explorer.certify import Smoothed
from explorer.certify.noise import IMAGES
from explorer.core import Classifier, InvalidValue, wilson
from explorer.core.rng import derived_seed
from explorer.data import Images
from explorer.evaluation.measure import Measure, same_conditions
from explorer.evaluation.predicting import OUTCOMES, outcome, predict_measures

SIGMA = 0.25
CLEAR, WRONG, CLOSE = 0.9, 0.1, 0.5  # first pixels: P(class 0) = Phi((x - 0.5) / sigma)


class Halfspace(Classifier):
    """Class 0 where the first pixel exceeds one half."""

    stochastic = False

    def __init__(self):
        super().__init__([0.5], [0.25], (1, 2, 2), 2)
        self.head = nn.Identity()
        self.freeze()

    def embed(self, normalised):
        first = normalised.flatten(1)[:, 0]
        return torch.stack([first, -first], 1)


@pytest.fixture
def smoothed():
    return Smoothed(Halfspace(), SIGMA)


def picture(first):
    return torch.full((1, 2, 2), first)


def images(*firsts):
    x = torch.stack([picture(first) for first in firsts])
    return Images(
        x, torch.zeros(len(x), dtype=torch.int64), ("zero", "one"), "cifar10", "test", torch.arange(len(x)), "made up"
    )


@pytest.mark.parametrize("batch", [7, 64, 1000])
def test_each_answer_is_that_of_predict_with_its_own_number_of_draws(smoothed, batch):
    found = Smoothed(smoothed.base, SIGMA, batch=batch).predict_each(picture(0.6), [5, 64, 300], seed=3)
    assert found == [smoothed.predict(picture(0.6), n=n, seed=3) for n in (5, 64, 300)]


@pytest.mark.parametrize("ns", [[], [100, 100], [200, 100]])
def test_the_numbers_of_draws_must_rise(smoothed, ns):
    with pytest.raises(InvalidValue, match="must rise"):
        smoothed.predict_each(picture(0.6), ns)


def test_what_is_beyond_doubt_needs_no_more_draws(smoothed):
    found = smoothed.top_class(picture(CLEAR), seed=1)
    assert (found.label, found.n_drawn) == (0, 1000) and found.p_value < 1e-9
    assert found.counts[0] / 1000 == pytest.approx(norm.cdf(0.4 / SIGMA), abs=0.03)
    other = Smoothed(smoothed.base, SIGMA, batch=100)  # where it looks does not depend on the passes
    assert other.top_class(picture(CLEAR), seed=1) == found


def test_what_is_close_gets_all_draws(smoothed):
    found = smoothed.top_class(picture(CLOSE), max_draws=5000, seed=1)
    assert found.n_drawn == sum(found.counts) == 5000 and found.p_value > 1e-9
    assert found.label == int(found.counts[1] > found.counts[0])
    assert smoothed.top_class(picture(CLEAR), max_draws=400, seed=1).n_drawn == 400


def test_the_gold_standard_is_drawn_anew(smoothed):
    """On the draws of PREDICT itself it could not find it inaccurate."""
    assert (
        smoothed.top_class(picture(CLOSE), max_draws=1000, seed=1).counts
        != smoothed.predict(picture(CLOSE), n=1000, seed=1).counts
    )


def test_the_five_outcomes():
    cases = {
        (0, 0, 0): "right_accurate",
        (0, 1, 0): "right_inaccurate",
        (1, 1, 0): "wrong_accurate",
        (1, 0, 0): "wrong_inaccurate",
    }
    assert {case: outcome(*case) for case in cases} == cases and set(cases.values()) | {outcome(None, 0, 0)} == set(
        OUTCOMES
    )


def test_shares_of_images_with_their_intervals(smoothed):
    found = predict_measures(
        smoothed, images(CLEAR, CLEAR, CLEAR, WRONG, CLOSE), [100, 1000], seed=5, max_draws=2000, chosen="all"
    )
    assert [m.draws for m in found] == [100, 1000] and not same_conditions(found[0].to_dict(), found[1].to_dict())
    for m in found:
        shares = m.outcomes
        assert list(shares) == list(OUTCOMES) and sum(one["images"] for one in shares.values()) == m.n == 5
        assert shares["right_accurate"]["images"] == 3 and shares["wrong_accurate"]["images"] == 1
        assert (shares["right_accurate"]["low"], shares["right_accurate"]["high"]) == wilson(3, 5)
        assert shares["abstained"] == dict(
            zip(("images", "share", "low", "high"), (1, 0.2, *wilson(1, 5)), strict=True)
        )
        assert (m.kind, m.correct, m.accuracy, m.sigma, m.alpha, m.seed) == ("predict", 3, 0.6, SIGMA, 0.001, 5)
        assert (
            "top class over 2,000 fresh draws" in m.note
            and "(4 of 5 images)" in m.note
            and "of 1 the top class is less sure" in m.note
        )
    assert Measure(**json.loads(json.dumps(found[0].to_dict()))) == found[0]


def test_an_answer_can_be_inaccurate(smoothed):
    """At alpha 0.499 PREDICT dares to say what far more draws do not bear out: about every second time where it is close."""
    (found,) = predict_measures(smoothed, images(*[0.51] * 40), [9], alpha=0.499, seed=2, max_draws=2000)
    assert found.outcomes["wrong_inaccurate"]["images"] > 0 and found.outcomes["right_inaccurate"]["images"] <= 2


def test_images_have_noise_of_their_own_that_a_seed_repeats(smoothed):
    asked = {"ns": [50], "max_draws": 100}
    one, two = (predict_measures(smoothed, images(*[CLOSE] * 12), **asked, seed=4)[0] for _ in range(2))
    assert one.outcomes == two.outcomes
    seeds = [derived_seed(4, IMAGES, row) for row in range(12)]
    abstained = sum(smoothed.predict(picture(CLOSE), n=50, seed=seed).label is None for seed in seeds)
    assert one.outcomes["abstained"]["images"] == abstained


def test_without_images_it_says_so(smoothed):
    one = images(CLEAR)
    none = Images(one.x[:0], one.y[:0], one.classes, one.name, one.split, one.index[:0], one.source)
    with pytest.raises(InvalidValue, match="one image"):
        predict_measures(smoothed, none, [100])
