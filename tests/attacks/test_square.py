"""Square attack: what it tries, what it keeps, what it costs, and that it needs no gradient."""

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks.square import two_bumps
from explorer.core import Ball, Goal, InvalidValue, run, seeded

SQUARE, PGD = ATTACKS["square"], ATTACKS["pgd"]
SHAPE = (3, 4, 4)


def interior(n, shape=SHAPE):
    return 0.5 + 0.2 * (torch.rand(n, *shape, generator=seeded(0)) - 0.5)


def zeros(n):
    return torch.zeros(n, dtype=torch.int64)


class Witness(nn.Module):
    """Two classes; keeps every image it is asked about, and refuses to be differentiated. Class 1 never wins."""

    stochastic = False

    def __init__(self, weight):
        super().__init__()
        self.weight, self.asked = weight, []

    def forward(self, pixels):
        assert not torch.is_grad_enabled() and not pixels.requires_grad, "asked for a gradient"
        self.asked.append(pixels.clone())
        z = ((pixels - 0.5) * self.weight).flatten(1).sum(1)
        return torch.stack([torch.full_like(z, 1e3), z], dim=1)


def witnessed(ball, shape, queries, n=3, **options):
    """(model, x0, steps) of a walk that never succeeds."""
    model, x0 = Witness(torch.randn(shape, generator=seeded(1))), interior(n, shape)
    attack = SQUARE(queries=queries, **options)
    return model, x0, list(attack.walk(model, x0, Goal.untargeted(zeros(n)), ball, seeded(0)))


# The schedule


def test_the_squares_shrink_as_planned():
    attack = SQUARE(queries=10_000)
    shares = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 200: 4, 201: 8, 500: 8, 501: 16, 1000: 16, 1001: 32, 2000: 32, 2001: 64}
    shares |= {4000: 64, 4001: 128, 6000: 128, 6001: 256, 8000: 256, 8001: 512, 9999: 512}
    assert {tried: 0.8 / attack.share(tried) for tried in shares} == shares
    assert SQUARE(queries=1000).share(200) == attack.share(2000) and SQUARE(queries=1000).share(999) == 0.8 / 512
    assert SQUARE(queries=1000, rescale=False).share(200) == attack.share(200)
    assert SQUARE(p_init=0.4).share(0) == 0.4


# What is tried, Linf


def test_in_linf_the_start_is_stripes_and_each_try_is_one_square(ball):
    ball = Ball("linf", 0.03)
    model, x0, steps = witnessed(ball, (3, 8, 8), 400)
    start = (model.asked[0] - x0) / ball.eps
    assert torch.allclose(start.abs(), torch.tensor(1.0), atol=1e-4)
    assert torch.allclose(start, start[:, :, :1].expand_as(start), atol=1e-4)  # every column has one sign a channel
    assert len({tuple(row) for row in start[:, :, 0].round().flatten(1).tolist()}) == 3
    seen, sides = set(), []
    for tried, before in zip(model.asked[1:], steps, strict=False):
        changed = (tried != before.x).any(1)  # (n,H,W)
        assert changed.flatten(1).any(1).all(), "a query that asks nothing new"
        signs = (tried - x0) / ball.eps
        assert torch.allclose(signs.abs(), torch.tensor(1.0), atol=1e-4)
        side = max(round((SQUARE(queries=400).share(before.index) * 64) ** 0.5), 1)
        sides.append(side)
        for image, sign in zip(changed, signs, strict=True):
            rows, columns = image.any(1).nonzero()[:, 0], image.any(0).nonzero()[:, 0]
            assert int(rows[-1] - rows[0]) < side and int(columns[-1] - columns[0]) < side
            for channel in sign[:, image]:
                assert len(set(channel.round().tolist())) == 1, "one color"
            seen |= {tuple(at) for at in image.nonzero().tolist()} if side == 1 else set()
    assert sides[0] == 7 and sides[-1] == 1 and sides == sorted(sides, reverse=True)
    assert len(seen) > 55 and {(0, 0), (7, 7)} & seen  # everywhere, the last row and column too


# What is tried, L2


def by_the_book(side):
    """eta of algorithm 3, from the sums in the paper; indices from 0, the middle of n cells at floor(n/2)."""

    def rings(height, width):
        table, most = torch.zeros(height, width, dtype=torch.float64), max(height, width) // 2
        for r in range(height):
            for s in range(width):
                m = max(abs(r - height // 2), abs(s - width // 2))
                table[r, s] = sum(1 / (j + 1) ** 2 for j in range(m, most + 1))
        return table / table.norm()

    upper, lower = rings(side // 2, side), rings(side - side // 2, side)
    return torch.cat([upper, -lower]) / 2**0.5


@pytest.mark.parametrize("side", [2, 3, 4, 5, 7, 11])
def test_a_tile_is_a_bump_up_and_a_bump_down(side):
    tile = two_bumps(side)
    assert torch.allclose(tile.double(), by_the_book(side), atol=1e-6)
    assert float(tile.norm()) == pytest.approx(1, abs=1e-6)
    assert (tile[: side // 2] > 0).all() and (tile[side // 2 :] < 0).all()
    middle = tile[side // 4, side // 2]
    assert middle == tile.max()


def test_in_l2_all_that_is_allowed_is_used_and_moved_between_two_windows():
    ball = Ball("l2", 0.5)
    model, x0, steps = witnessed(ball, (3, 10, 10), 300)
    for tried in model.asked:
        assert torch.allclose((tried - x0).flatten(1).norm(dim=1), torch.tensor(0.5), rtol=1e-4)
    start = model.asked[0] - x0
    tiles = start.unfold(2, 2, 2).unfold(3, 2, 2)  # (n,3,5,5,2,2)
    heights = tiles.flatten(-2).sort().values / tiles.max()  # of 2 x 2: a half up and a half down
    assert torch.allclose(heights, torch.tensor([-1.0, -0.2, 0.2, 1.0]), atol=1e-3)
    small = 0
    for tried, before in zip(model.asked[1:], steps, strict=False):
        if max(round((SQUARE(queries=300).share(before.index) * 100) ** 0.5), 3) > 3:
            continue
        small += 1
        for old, new in zip(before.x - x0, tried - x0, strict=True):
            scale = (new / old)[old != 0].median()
            changed = ((new - scale * old).abs() > 1e-5).any(0)
            assert 0 < int(changed.sum()) <= 18, "more than two windows of 3 x 3"
            assert 0.9 < float(scale) < 1.1
    assert small > 100


def test_images_of_any_shape(ball):
    for shape in ((1, 1, 1), (1, 2, 2), (3, 4, 6), (3, 9, 4), (1, 3, 12)):
        _, _, steps = witnessed(ball, shape, 60)
        assert len(steps) == 60 and all(torch.isfinite(s.x).all() for s in steps)
        assert float(steps[-1].loss.min()) >= float(steps[0].loss.min())


def test_at_the_edge_of_the_pixel_range(ball):
    model = Witness(torch.randn(SHAPE, generator=seeded(1)))
    x0 = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE), torch.full(SHAPE, 0.5)])
    for step in SQUARE(queries=200).walk(model, x0, Goal.untargeted(zeros(3)), ball, seeded(0)):
        assert step.x.min() >= 0 and step.x.max() <= 1 and (step.distance <= ball.eps).all()
    assert (step.x != x0).flatten(1).any(1).all()


# What is kept


def test_a_try_is_kept_exactly_where_it_raises_the_loss(ball):
    model, _, steps = witnessed(ball, SHAPE, 200)
    best = torch.full((3,), float("-inf"))
    for tried, step in zip(model.asked, steps, strict=True):
        margin = ((tried - 0.5) * model.weight).flatten(1).sum(1) - 1e3
        better = margin > best
        expected = torch.where(better.view(-1, 1, 1, 1), tried, step.x)
        assert torch.equal(step.x, expected)
        best = torch.maximum(best, margin)
        assert torch.equal(step.loss, best)


def test_in_linf_a_linear_model_is_driven_to_the_worst_corner():
    ball, model = Ball("linf", 0.03), Witness(10 * torch.randn(SHAPE, generator=seeded(1)))
    x0 = interior(2)
    *_, last = SQUARE(queries=1500).walk(model, x0, Goal.untargeted(zeros(2)), ball, seeded(0))
    assert torch.allclose(last.x, x0 + 0.03 * model.weight.sign(), atol=1e-6)


def test_in_l2_a_linear_model_is_driven_near_the_worst_point():
    ball, x0 = Ball("l2", 0.2), interior(2, (1, 8, 8))
    weight = torch.zeros(1, 8, 8)
    weight[:, 1:4, 2:5] = 10.0  # one patch matters
    model = Witness(weight)
    *_, last = SQUARE(queries=1000).walk(model, x0, Goal.untargeted(zeros(2)), ball, seeded(0))
    gained = ((last.x - x0) * weight).flatten(1).sum(1) / (0.2 * weight.norm())
    assert (gained > 0.8).all() and (gained <= 1 + 1e-5).all()


def test_in_l1_all_that_is_allowed_is_used_and_a_linear_model_is_driven_near_the_worst_point():
    ball, x0 = Ball("l1", 2.0), interior(2, (1, 8, 8))
    weight = torch.zeros(1, 8, 8)
    weight[:, 1:4, 2:5] = 10.0  # values of equal slope: to move all of eps among them gains the most
    walk = SQUARE(queries=1000).walk(Witness(weight), x0, Goal.untargeted(zeros(2)), ball, seeded(0))
    for step in walk:
        assert (step.distance <= 2.0).all() and (step.distance > 1.9).all()
    gained = ((step.x - x0) * weight).flatten(1).sum(1) / 20
    assert (gained > 0.7).all() and (gained <= 1 + 1e-5).all()


def test_the_first_success_is_kept_even_if_another_loss_does_not_rise():
    """Three classes: the cross-entropy of class 0 can be larger where it still wins than where it loses."""

    class Turn(nn.Module):
        stochastic = False

        def __init__(self):
            super().__init__()
            self.passes = 0

        def forward(self, pixels):
            self.passes += 1
            wins, loses = torch.tensor([1.0, 0.99, 0.99]), torch.tensor([1.0, 1.01, -5.0])
            return (loses if self.passes == 3 else wins).repeat(len(pixels), 1)

    goal = Goal.untargeted(zeros(1))
    steps = list(SQUARE(queries=10, loss="ce").walk(Turn(), interior(1), goal, Ball("linf", 0.03), seeded(0)))
    assert [bool(s.reached) for s in steps] == [False, False, True] and float(steps[2].loss) < float(steps[1].loss)
    steps = list(
        SQUARE(queries=10, loss="ce", early_stop=False).walk(Turn(), interior(1), goal, Ball("linf", 0.03), seeded(0))
    )
    assert len(steps) == 10 and run(steps, goal).success.all()


# What it costs


@pytest.mark.parametrize("early_stop", [True, False])
def test_queries_are_counted_until_an_image_is_fooled(early_stop, trained):
    model, x, y = trained
    goal, asked = Goal.untargeted(y), []
    handle = model.register_forward_hook(lambda module, inputs, output: asked.append(len(output)))
    try:
        attack = SQUARE(queries=150, early_stop=early_stop)
        steps = list(attack.walk(model, x, goal, Ball("linf", 0.06), seeded(0)))
    finally:
        handle.remove()
    last = steps[-1]
    assert 5 < int(last.reached.sum()) < 48 and len(steps) == 150
    assert int(last.forwards.sum()) == sum(asked) and not last.backwards.any()
    assert not any(s.degenerate.any() for s in steps)
    first = torch.tensor([next((s.index for s in steps if s.reached[i]), 149) for i in range(48)])
    expected = first + 1 if early_stop else torch.full_like(first, 150)
    assert torch.equal(last.forwards, expected)
    assert early_stop == (asked[-1] < 48)


def test_the_walk_ends_with_the_last_image_it_fools(trained):
    model, x, y = trained
    steps = list(SQUARE().walk(model, x, Goal.untargeted(y), Ball("linf", 0.4), seeded(0)))
    assert steps[-1].reached.all() and len(steps) < 900
    assert steps[-1].total == steps[-1].index and {s.total for s in steps[:-1]} == {999}


def test_a_query_is_one_pass_for_each_draw(masked, ball):
    model = masked(torch.randn(3, 48, generator=seeded(0)), p=0.5)
    attack = SQUARE(queries=20, draws=4, early_stop=False)
    *_, last = attack.walk(model, interior(2), Goal.untargeted(zeros(2)), ball, seeded(0))
    assert last.forwards.tolist() == [80, 80] and attack.expected_passes == 80 and attack.expected_frames == 20


def test_it_repeats_under_its_seed_and_only_then(trained, ball):
    model, x, y = trained
    one, same, other = (
        list(SQUARE(queries=40).walk(model, x, Goal.untargeted(y), ball, seeded(seed))) for seed in (0, 0, 1)
    )
    assert all(torch.equal(a.x, b.x) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0].x, other[0].x)


# What it is for


def test_a_rounding_layer_stops_gradients_and_not_squares(trained, ball):
    class Rounded(nn.Module):
        stochastic = False

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model((pixels * 50).round() / 50)

    model, x, y = trained
    hidden, goal, ball = Rounded(model), Goal.untargeted(y), Ball(ball.norm, 2.5 * ball.eps)
    blind = run(PGD().walk(hidden, x, goal, ball, seeded(0)), goal)
    seen = run(SQUARE(queries=300).walk(hidden, x, goal, ball, seeded(0)), goal)
    assert blind.degenerate_share == 1 and seen.degenerate_share == 0
    assert int(seen.success.sum()) >= int(blind.success.sum()) + 10


def test_toward_a_class(trained, ball):
    model, x, y = trained
    goal, ball = Goal.targeted((y + 1) % 4), Ball(ball.norm, 3 * ball.eps)
    outcome = run(SQUARE(queries=300).walk(model, x, goal, ball, seeded(0)), goal)
    assert int(outcome.success.sum()) > 5
    assert torch.equal(model(outcome.x).argmax(1)[outcome.success], goal.labels[outcome.success])


def test_what_is_refused():
    with pytest.raises(InvalidValue, match=r"queries must be a whole number in \[1, 100000\]; got 0"):
        SQUARE(queries=0)
