"""The last word on an image, on networks whose logits are known."""

import pytest
import torch
from torch import nn

from explorer.core import Ball, Classifier, Goal, InvalidValue, current_rng, seeded
from explorer.evaluation.verdict import draw_logits, round_to_8bit, verdict_draws, verify

BALL = Ball("linf", 8 / 255)


class Function(Classifier):
    def __init__(self, function, stochastic=False):
        super().__init__([0.5], [0.25], (1, 1, 1), 3)
        self.function, self.stochastic, self.head = function, stochastic, nn.Identity()
        self.freeze()

    def embed(self, normalised):
        return self.function((normalised * self.std + self.mean).flatten(1)[:, 0])


def above(threshold):
    """Class 1 where the pixel exceeds the threshold, else class 0."""
    return Function(lambda p: torch.stack([threshold - p, p - threshold, torch.full_like(p, -9.0)], 1))


def coin(p):
    """Class 2 with probability p, else class 0."""

    def logits(pixels):
        hit = torch.rand(len(pixels), generator=current_rng(pixels.device)) < p
        return torch.nn.functional.one_hot(torch.where(hit, 2, 0), 3).float()

    return Function(logits, stochastic=True)


def image(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def goal(*labels):
    return Goal.untargeted(torch.tensor(labels))


def test_rounding_that_undoes_an_attack_is_seen():
    levels = torch.tensor([100.0, 100.4, 100.6]) / 255
    verdict = verify(above(100.3 / 255), levels.view(-1, 1, 1, 1), image(0.4, 0.4, 0.4), goal(0, 0, 0), BALL, seeded(0))
    assert verdict.reached.tolist() == [False, True, True]
    assert verdict.reached_8bit.tolist() == [False, False, True]
    assert verdict.predicted.tolist() == [0, 1, 1] and verdict.predicted_8bit.tolist() == [0, 0, 1]
    assert verdict.draws == 1 and verdict.share.tolist() == [0, 1, 1]


def test_every_8bit_level_survives_rounding():
    levels = torch.arange(256, dtype=torch.uint8).float() / 255
    assert torch.equal(round_to_8bit(levels), levels)
    assert torch.equal(round_to_8bit(levels + 0.4 / 255), levels)


def test_inside_has_no_tolerance():
    x0 = torch.zeros(5, 1, 1, 1, dtype=torch.float32)
    x = image(8 / 255, 8 / 255 + 1e-6, -1e-7, 0.0, float("nan"))
    x[0] = torch.nextafter(torch.tensor(8 / 255), torch.tensor(0.0))
    verdict_x = x[:4]
    verdict = verify(above(0.5), verdict_x, x0[:4], goal(0, 0, 0, 0), BALL, seeded(0))
    assert verdict.inside.tolist() == [True, False, False, True]
    assert verdict.linf.dtype == verdict.l2.dtype == torch.float64
    over = verify(above(0.5), image(1.0 + 1e-6), image(1.0), goal(1), BALL, seeded(0))
    assert over.inside.tolist() == [False]


def test_distances():
    model = Function(lambda p: torch.stack([p, p, p], 1))
    x0, x = torch.zeros(1, 1, 2, 2), torch.tensor([0.3, 0.4, 0.0, 0.0]).view(1, 1, 2, 2)
    verdict = verify(model, x, x0, goal(0), BALL, seeded(0))
    assert verdict.linf.item() == pytest.approx(0.4) and verdict.l2.item() == pytest.approx(0.5)
    for norm, distance in {"linf": 0.4, "l2": 0.5, "l1": 0.7, "l0": 2}.items():
        verdict = verify(model, x, x0, goal(0), Ball(norm, 1), seeded(0))
        assert verdict.distance.item() == pytest.approx(distance)


def test_stochastic_models_are_judged_by_twenty_fresh_draws():
    x = image(0.5, 0.5, 0.5, 0.5)
    rarely = verify(coin(0.1), x, x, goal(0, 0, 0, 0), BALL, seeded(0))
    mostly = verify(coin(0.9), x, x, goal(0, 0, 0, 0), BALL, seeded(0))
    assert rarely.draws == 20 and not rarely.reached.any() and rarely.predicted.tolist() == [0] * 4
    assert mostly.reached.all() and mostly.predicted.tolist() == [2] * 4
    assert 0 < rarely.share.mean() < 0.5 < mostly.share.mean() < 1
    assert torch.equal(rarely.share * 20, (rarely.share * 20).round())


def test_the_share_estimates_the_probability_and_repeats_under_its_seed():
    x = image(0.5)
    first, again = (verify(coin(0.3), x, x, goal(0), BALL, seeded(5), draws=5000) for _ in range(2))
    assert first.share.item() == again.share.item() == pytest.approx(0.3, abs=0.03)


def test_a_majority_needs_more_than_half():
    alternating = iter(range(100))
    model = Function(
        lambda p: torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])[next(alternating) % 2].expand(len(p), 3).clone()
    )
    x = torch.full((600, 1, 1, 1), 0.5)  # more than one pass holds: one draw at a time
    verdict = verify(model, x, x, Goal.untargeted(torch.zeros(600, dtype=torch.int64)), BALL, seeded(0), draws=2)
    assert verdict.share.unique().tolist() == [0.5] and not verdict.reached.any()


def test_a_tie_is_not_reached():
    model = Function(lambda p: torch.stack([p, p, p], 1))
    assert verify(model, image(0.5), image(0.5), goal(0), BALL, seeded(0)).reached.tolist() == [False]


def test_logits_that_are_not_finite_are_an_error_and_no_verdict():
    for bad in (float("nan"), float("inf")):
        model = Function(lambda p, bad=bad: torch.full((len(p), 3), bad))
        with pytest.raises(FloatingPointError, match="not finite"):
            verify(model, image(0.5), image(0.5), goal(0), BALL, seeded(0))


def test_gradients_stay_on_and_autocast_stays_off():
    seen = []
    conv = nn.Linear(1, 3)

    def logits(p):
        seen.append(conv(p[:, None]).dtype)
        return conv(p[:, None])

    x = image(0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        verify(Function(logits), x, x, goal(0), BALL, seeded(0))
    assert set(seen) == {torch.float32}
    for _ in draw_logits(Function(logits), x, seeded(0), 3):
        assert torch.is_grad_enabled()


def test_draws():
    assert verdict_draws(coin(0.5)) == 20 and verdict_draws(above(0.5)) == 1 and verdict_draws(coin(0.5), 7) == 7
    with pytest.raises(InvalidValue, match="draws.*at least 1; got 0"):
        verdict_draws(coin(0.5), 0)
