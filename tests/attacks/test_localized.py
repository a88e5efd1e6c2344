"""An attack that may touch only a mask: exactly nothing outside, the known optimum inside."""

import pytest
import torch

from explorer.attacks.localized import LocalizedPGD
from explorer.attacks.masks import background, painted_mask
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Goal, InvalidValue, run, seeded

SHAPE = (3, 8, 8)
HALF = "f0f0f0f0f0f0f0f0"  # the left half
AREAS = [
    LocalizedPGD(area="border", thickness=1, steps=60),
    LocalizedPGD(area="border", thickness=3, steps=60, rel_step=0.1),
    LocalizedPGD(area="background", steps=60),
    LocalizedPGD(area="drawn", mask=HALF, steps=60),
    LocalizedPGD(area="drawn", mask="0000000000000001", random_start=False),
]


@pytest.fixture
def net(linear):
    return linear(torch.randn(2, 192, generator=seeded(0)), input_shape=SHAPE)


def interior(n):
    return 0.5 + 0.2 * (torch.rand(n, *SHAPE, generator=seeded(0)) - 0.5)


@pytest.mark.parametrize("attack", AREAS, ids=lambda a: f"{a.area}-{a.thickness}-{a.mask}")
def test_the_margin_moves_by_the_dual_norm_of_the_weights_inside_the_mask(attack, ball, net):
    """Linf: eps times the sum of |w| over the mask. L2: eps times the length of w there."""
    x = interior(5)
    mask = attack.allowed(x).expand_as(x)
    difference = (net.weight[1] - net.weight[0]).view(1, *SHAPE)
    for goal in (Goal.untargeted(torch.zeros(5, dtype=torch.int64)), Goal.targeted(torch.ones(5, dtype=torch.int64))):
        outcome = run(attack.walk(net, x, goal, ball, seeded(1)), goal)
        moved = ((outcome.x.double() - x.double()) * difference).sum((1, 2, 3))
        inside = torch.where(mask, difference, 0.0).flatten(1)
        best = ball.eps * (inside.abs().sum(1) if ball.norm == "linf" else inside.norm(dim=1))
        assert (moved <= best * (1 + 1e-6)).all() and torch.allclose(moved, best, rtol=3e-3)


@pytest.mark.parametrize("attack", AREAS, ids=lambda a: f"{a.area}-{a.thickness}-{a.mask}")
def test_outside_the_mask_every_step_is_the_original_to_the_last_bit(attack, ball, net):
    x = torch.cat([interior(2), torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE)])
    mask = attack.allowed(x).expand_as(x)
    goal = Goal.untargeted(torch.zeros(4, dtype=torch.int64))
    for blind in (0, 3, 10**9):  # random steps stay inside, too
        net.blind, net.passes = blind, 0
        for step in attack.walk(net, x, goal, ball, seeded(0)):
            assert torch.equal(step.x[~mask], x[~mask])
            assert (ball.distance(step.x, x) <= ball.eps).all()
        if blind > 3:
            assert step.distance.min() > 0


def test_a_gradient_that_is_not_a_number_outside_the_mask_matters_to_nobody(linear):
    class Poisoned(linear):
        def embed(self, normalised):
            features = super().embed(normalised).view(-1, *SHAPE)
            right = features[..., 4:] + 0 * (0 * features[..., 4:]).sqrt()  # slope 0 * infinity
            return torch.cat([features[..., :4], right], 3).flatten(1)

    model = Poisoned(torch.randn(2, 192, generator=seeded(0)), input_shape=SHAPE)
    x, goal = interior(2), Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    attack = LocalizedPGD(area="drawn", mask=HALF)
    assert run(attack.walk(model, x, goal, Ball("linf", 0.03), seeded(0)), goal).degenerate_share == 0


def test_a_mask_over_everything_is_pgd(ball, net):
    x, goal = interior(3), Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    everywhere = LocalizedPGD(area="drawn", mask="f" * 16, random_start=False)
    walks = [a.walk(net, x, goal, ball, seeded(0)) for a in (everywhere, PGD(random_start=False))]
    for ours, plain in zip(*walks, strict=True):
        assert torch.equal(ours.x, plain.x) and torch.equal(ours.forwards, plain.forwards)


def test_the_digits_of_a_drawn_mask_are_rows_from_the_top_left_cell_first():
    mask = painted_mask("8000000000000001", 8, 8)
    assert mask.nonzero().tolist() == [[0, 0], [7, 7]]
    assert painted_mask("ff00000000000000", 8, 8).sum(1).tolist() == [8, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (17, 40), (8, 8)])
def test_a_drawn_mask_fits_any_picture(height, width):
    cells = [f"{1 << bit:016x}" for bit in range(64)]
    count = sum(painted_mask(cell, height, width).int() for cell in cells)
    assert (count == 1).all(), "each pixel belongs to exactly one cell"


def test_the_border_has_the_thickness_asked_for():
    mask = LocalizedPGD(thickness=2).allowed(interior(1))[0, 0]
    assert int(mask.sum()) == 64 - 16 and not mask[2:6, 2:6].any()
    assert LocalizedPGD(thickness=16).allowed(interior(1)).all()


def test_the_background_of_an_object_on_even_ground_is_the_ground():
    """A bright square, an even slope of the ground, and a hole in the square that is not joined to the rim."""
    x = torch.linspace(0.1, 0.4, 32).expand(1, 3, 32, 32).clone()
    x[..., 8:24, 8:24] = 0.9
    x[..., 14:18, 14:18] = 0.25
    mask = background(x, 0.03)[0, 0]
    assert mask[:6].all() and mask[26:].all() and mask[:, :6].all() and mask[:, 26:].all()
    assert not mask[10:22, 10:22].any()
    assert torch.equal(background(torch.cat([x, torch.rand(1, 3, 32, 32, generator=seeded(0))]), 0.03)[0, 0], mask)


@pytest.mark.parametrize(("mask", "sentence"), [
    ("", "mask must be 16 hexadecimal digits"), ("ff", "mask must be 16 hexadecimal digits"),
    ("g" * 16, "mask must be 16 hexadecimal digits"), ("f" * 17, "mask must be 16 hexadecimal digits"),
    ("0" * 16, "mask must have at least one painted cell"),
])  # fmt: skip
def test_a_mask_that_is_none_is_refused_in_one_sentence(mask, sentence):
    with pytest.raises(InvalidValue, match=sentence) as refusal:
        LocalizedPGD(area="drawn", mask=mask)
    assert repr(mask) in str(refusal.value)


def test_a_mask_between_the_pixels_of_a_tiny_picture_is_refused(linear):
    model = linear(torch.randn(2, 12, generator=seeded(0)), input_shape=(3, 2, 2))
    attack = LocalizedPGD(area="drawn", mask="0040000000000000")
    with pytest.raises(InvalidValue, match="mask must cover a pixel of a picture of 2 x 2; got '0040000000000000'"):
        attack.walk(
            model, torch.full((1, 3, 2, 2), 0.5), Goal.untargeted(torch.tensor([0])), Ball("linf", 0.03), seeded(0)
        )


def test_capital_digits_are_the_same_mask():
    assert LocalizedPGD(mask="FF818181818181FF") == LocalizedPGD()
