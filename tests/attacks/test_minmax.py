"""Several models or norms at once: the saddle point of linear networks is known by duality, the weights by a search."""

from types import SimpleNamespace

import pytest
import torch

from explorer.attacks.minmax import Domain, MinMaxModels, MinMaxNorms, onto_simplex
from explorer.attacks.minmax_transformations import MinMaxTransformations, brighter, moved
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Goal, InvalidValue, UnknownName, run, seeded
from explorer.models import zoo
from explorer.testing import small_case

SHAPE = (3, 4, 4)
BALLS = [Ball("linf", 0.03), Ball("l2", 0.4)]
GRID = torch.cartesian_prod(*[torch.linspace(0, 1, 101, dtype=torch.float64)] * 2)
SIMPLEX = torch.cat([GRID, 1 - GRID.sum(1, keepdim=True)], 1)[GRID.sum(1) <= 1 + 1e-9].clamp(min=0)  # (5151,3)


@pytest.fixture(params=BALLS, ids=str)
def ball(request):
    return request.param


def interior(n):
    return 0.5 + 0.2 * (torch.rand(n, *SHAPE, generator=seeded(0)) - 0.5)


def three(linear):
    """Three two-class networks that want different things, with margins of class 1 around -1 at x, one of them steep."""
    made = []
    for seed, steep in ((0, 1.0), (1, 1.0), (2, 3.0)):
        weight = 0.5 * steep * torch.randn(2, 48, generator=seeded(seed))
        middle = float((0.5 * (weight[1] - weight[0])).sum())
        made.append(linear(weight, bias=torch.tensor([middle + 1.0, 0.0])))
    return made


def ascend(attack, models, x, goal, ball):
    domains = [Domain(f"model {i}", model) for i, model in enumerate(models)]
    return list(attack.alternate(domains, goal, ball.around(x), seeded(0)))


def saddle(models, x, ball, gamma):
    """(value, weights (3,)) by duality: min over w of w . m + eps * dual norm of sum w_k a_k + gamma/2 ||w - 1/3||^2."""
    slopes = torch.stack([model.weight[1] - model.weight[0] for model in models])  # (3,48)
    margins = torch.stack([(model(x)[0, 1] - model(x)[0, 0]).double() for model in models])
    mixed = SIMPLEX @ slopes
    reach = mixed.abs().sum(1) if ball.norm == "linf" else mixed.norm(dim=1)
    values = SIMPLEX @ margins + ball.eps * reach + gamma / 2 * (SIMPLEX - 1 / 3).pow(2).sum(1)
    return float(values.min()), SIMPLEX[values.argmin()]


def test_the_worst_model_comes_to_the_value_of_the_saddle_point(ball, linear):
    models, x = three(linear), interior(1)
    goal = Goal.untargeted(torch.zeros(1, dtype=torch.int64))
    value, _ = saddle(models, x, ball, gamma=0)
    attack = MinMaxModels(steps=400, rel_step=0.02, weight_step=0.02, gamma=0.0, random_start=False)
    found = max(float(step.loss) for step in ascend(attack, models, x, goal, ball))
    start = float(min(m(x)[0, 1] - m(x)[0, 0] for m in models))
    assert found <= value + 1e-2 and found - start >= 0.95 * (value - start)


def test_with_a_pull_the_weights_come_near_those_of_the_saddle_point(ball, linear):
    models, x = three(linear), interior(1)
    goal = Goal.untargeted(torch.zeros(1, dtype=torch.int64))
    _, best = saddle(models, x, ball, gamma=5)
    attack = MinMaxModels(steps=600, rel_step=0.01, weight_step=0.01, gamma=5.0, random_start=False)
    late = torch.stack([step.domains.weights[0] for step in ascend(attack, models, x, goal, ball)[300:]]).mean(0)
    assert (late.double() - best).abs().max() < 0.05


def test_learned_weights_beat_equal_ones_on_the_model_that_resists_most(ball, linear):
    models, x = three(linear), interior(8)
    goal = Goal.untargeted(torch.zeros(8, dtype=torch.int64))
    worst = {}
    for weight_step in (0.0, 0.05):
        attack = MinMaxModels(steps=100, rel_step=0.05, weight_step=weight_step, gamma=0.0)
        worst[weight_step] = torch.stack([step.loss for step in ascend(attack, models, x, goal, ball)]).amax(0)
    assert (worst[0.05] > worst[0.0]).all()


def test_every_step_says_where_all_models_stand(ball, linear):
    models, x = three(linear), interior(4)
    for goal in (Goal.untargeted(torch.zeros(4, dtype=torch.int64)), Goal.targeted(torch.ones(4, dtype=torch.int64))):
        steps = ascend(MinMaxModels(steps=6, restarts=2, draws=2), models, x, goal, ball)
        assert torch.equal(steps[0].domains.weights, torch.full((4, 3), 1 / 3)) and steps[7].restart == 1
        for step in steps:
            for k, model in enumerate(models):
                logits = model(step.x)
                assert torch.allclose(step.domains.losses[:, k], goal.margin(logits), atol=1e-4)
                assert torch.equal(step.domains.reached[:, k], goal.reached(logits))
            assert torch.equal(step.loss, step.domains.losses.amin(1))
            assert torch.equal(step.reached, step.domains.reached[:, 0])
            assert (ball.distance(step.x, x) <= ball.eps).all()
        assert (
            steps[-1].forwards.tolist() == [2 * 7 * 2 * 3] * 4 and steps[-1].backwards.tolist() == [2 * 6 * 2 * 3] * 4
        )


def test_an_image_walks_alone_as_in_a_batch(ball, linear):
    models, x, attack = three(linear), interior(3), MinMaxModels(steps=10, random_start=False)
    goal = Goal.untargeted(torch.tensor([0, 0, 1]))
    together = ascend(attack, models, x, goal, ball)
    for i in range(3):
        for a, b in zip(ascend(attack, models, x[i : i + 1], goal.rows([i]), ball), together, strict=True):
            assert torch.allclose(a.x[0], b.x[i], atol=1e-5)
            assert torch.allclose(a.domains.weights[0], b.domains.weights[i], atol=1e-4)


def test_one_model_alone_is_pgd(ball, linear):
    model, x, goal = linear(torch.randn(5, 48, generator=seeded(0))), interior(4), Goal.untargeted(torch.arange(4))
    settings = {"steps": 10, "rel_step": 0.125, "loss": "margin"}
    walks = [a(**settings).walk(model, x, goal, ball, seeded(0)) for a in (MinMaxModels, PGD)]
    for ours, plain in zip(*walks, strict=True):
        assert torch.allclose(ours.x, plain.x, atol=1e-6) and torch.equal(ours.forwards, plain.forwards)


def test_a_model_without_slope_does_not_hold_the_others(linear):
    models, x = three(linear), interior(2)
    models[1].blind = 10**9
    goal = Goal.untargeted(torch.zeros(2, dtype=torch.int64))
    steps = ascend(MinMaxModels(steps=20, gamma=100.0, random_start=False), models, x, goal, BALLS[0])
    assert not any(step.degenerate.any() for step in steps)
    assert (steps[-1].domains.losses[:, 0] > steps[0].domains.losses[:, 0]).all()


def test_a_loss_that_is_no_number_holds_its_own_image_only(ball, linear):
    """All models' losses of image 0, and one model's of image 1, are NaN: their weights stay, image 0 moves at random."""
    models, x = three(linear), interior(3)

    def spoilt(model, rows):
        def forward(pixels):
            first = torch.cdist(pixels.detach().flatten(1), x.flatten(1)).argmin(1)
            return torch.where(torch.isin(first, torch.tensor(rows))[:, None], torch.nan, model(pixels))

        return forward

    goal, attack = Goal.untargeted(torch.zeros(3, dtype=torch.int64)), MinMaxModels(steps=20, random_start=False)
    steps = ascend(attack, [spoilt(m, rows) for m, rows in zip(models, ([0], [0, 1], [0]), strict=True)], x, goal, ball)
    sound = ascend(attack, models, x[2:], goal.rows([2]), ball)
    for step, alone in zip(steps, sound, strict=True):
        assert torch.equal(step.domains.weights[:2], torch.full((2, 3), 1 / 3))
        assert step.degenerate.tolist() == [step.index < step.total, False, False]
        assert torch.allclose(step.x[2], alone.x[0], atol=1e-5) and torch.isfinite(step.x).all()
    assert (steps[-1].distance[:2] > 0.3 * ball.eps).all()
    assert float(goal.margin(models[0](steps[-1].x))[1]) > float(goal.margin(models[0](x))[1])


# Norms


@pytest.mark.parametrize("own", BALLS, ids=str)
def test_the_pattern_is_judged_in_the_asked_ball_and_drawn_into_the_other(own, linear):
    model, x = linear(torch.randn(4, 48, generator=seeded(0))), interior(5)
    goal = Goal.untargeted(torch.arange(5) % 4)
    attack = MinMaxNorms(linf_eps=0.04, l2_eps=0.1)
    other = Ball("l2", 0.1) if own.norm == "linf" else Ball("linf", 0.04)
    for step in attack.walk(model, x, goal, own, seeded(0)):
        assert (own.distance(step.x, x) <= own.eps).all()
        second = other.project(step.x, x)
        assert (other.distance(second, x) <= other.eps).all() and (own.distance(second, x) <= own.eps).all()
        both = torch.stack([goal.margin(model(step.x)), goal.margin(model(second))], 1)
        assert torch.allclose(step.domains.losses, both, atol=1e-4)


def test_the_harder_norm_gets_the_weight_and_its_optimum(linear):
    """Two classes: a tiny L2 ball decides the worst case, and the best pattern there is along the weights."""
    model, x = linear(torch.randn(2, 48, generator=seeded(0))), interior(3)
    goal = Goal.untargeted(torch.zeros(3, dtype=torch.int64))
    attack = MinMaxNorms(l2_eps=0.05, steps=200, rel_step=0.02, weight_step=0.2, gamma=0.0, random_start=False)
    *_, end = attack.walk(model, x, goal, Ball("linf", 0.03), seeded(0))
    assert (end.domains.weights[:, 1] > 0.99).all()
    slope = model.weight[1] - model.weight[0]
    gained = end.domains.losses[:, 1].double() - goal.margin(model(x)).double()
    assert (gained <= 0.05 * slope.norm() * (1 + 1e-4)).all() and (gained > 0.75 * 0.05 * slope.norm()).all()


# The simplex


def test_the_projection_onto_the_simplex_is_the_nearest_point():
    v = torch.cat(
        [2 * torch.randn(60, 3, generator=seeded(0)), torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.0, 0.0], [9, 9, -9.0]])]
    )
    w = onto_simplex(v).double()
    assert (w >= 0).all() and torch.allclose(w.sum(1), torch.ones(63).double(), atol=1e-5)
    brute = torch.cdist(v.double(), SIMPLEX).min(1)
    assert ((v.double() - w).norm(dim=1) <= brute.values + 1e-6).all()
    assert (w - SIMPLEX[brute.indices]).abs().max() < 0.01


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_projection_keeps_what_is_on_the_simplex_and_the_order(count):
    v = torch.rand(20, count, generator=seeded(1))
    inside = v / v.sum(1, keepdim=True)
    assert torch.allclose(onto_simplex(inside), inside, atol=1e-6)
    assert torch.equal(onto_simplex(v + 5).argmax(1), v.argmax(1))


# Names of models


@pytest.fixture
def two_models(monkeypatch, linear):
    """`a/one` and `a/two`, as if they stood in the zoo."""
    nets = {f"a/{name}": linear(torch.randn(4, 48, generator=seeded(s))) for s, name in enumerate(("one", "two"))}

    def known(name):
        if name not in nets:
            raise UnknownName("model", name, nets)
        return nets[name]

    monkeypatch.setattr(
        "explorer.attacks.minmax.zoo", SimpleNamespace(card_path=known, load=lambda name, device: known(name))
    )
    return nets


@pytest.mark.parametrize("text", ["a/one+a/two", "a/one,a/two", " a/one, a/two ", "a/one a/two"])
def test_models_are_named_in_one_text(two_models, text):
    attack = MinMaxModels(models=text, steps=5)
    assert attack.models == "a/one+a/two" and attack.partners == ("a/one", "a/two")
    assert attack == MinMaxModels.from_dict(attack.to_dict())
    model, x, goal = two_models["a/one"], interior(2), Goal.untargeted(torch.tensor([0, 1]))
    steps = list(attack.walk(model, x, goal, BALLS[0], seeded(0)))
    assert steps[0].domains.names == ("this model", "a/one", "a/two")
    assert torch.equal(steps[3].domains.losses[:, 0], steps[3].domains.losses[:, 1])
    assert int(steps[-1].forwards[0] + steps[-1].backwards[0]) == attack.expected_passes == 3 * 11
    assert run(steps, goal).x.shape == x.shape


@pytest.mark.parametrize(
    "text", ["neither", "a/one+a/one", "a/one;a/two", "+".join(f"a/m{i}" for i in range(6)), "a/b/c"]
)
def test_a_list_that_is_none_is_refused_in_one_sentence(two_models, text):
    with pytest.raises(
        InvalidValue, match="models must be up to 5 different names such as cifar10/baseline"
    ) as refusal:
        MinMaxModels(models=text)
    assert repr(text) in str(refusal.value)


def test_an_unknown_model_is_refused_with_the_nearest(two_models):
    with pytest.raises(UnknownName, match="Unknown model 'a/ones'. Did you mean 'a/one'?"):
        MinMaxModels(models="a/ones")


def test_a_model_for_other_pictures_is_refused(two_models, linear):
    model = linear(torch.randn(4, 12, generator=seeded(0)), input_shape=(3, 2, 2))
    with pytest.raises(InvalidValue, match=r"models must take pictures of shape \(3, 2, 2\); a/two takes \(3, 4, 4\)"):
        MinMaxModels(models="a/two").walk(
            model, torch.full((1, 3, 2, 2), 0.5), Goal.untargeted(torch.tensor([0])), BALLS[0], seeded(0)
        )


def test_the_real_zoo_is_asked():
    assert zoo.cards()
    name = zoo.cards()[0].name
    assert MinMaxModels(models=name).partners == (name,)


def views(attack, x):
    return [
        x,
        *(moved(x, theta) for theta in ((attack.angle, 0.0, 0.0), (0.0, attack.shift, attack.shift))),
        brighter(x, attack.brightness),
    ]


def test_a_change_found_over_transformations_survives_them():
    """On a trained network it fools under more of the views than PGD's does, and its weights are those of the worst view."""
    model, x, y = small_case()
    x, y, goal, ball = x[:24], y[:24], Goal.untargeted(y[:24]), Ball("linf", 0.12)
    attack = MinMaxTransformations(steps=30, shift=1.0, angle=15.0, noise=0.0)
    assert attack.expected_passes == 4 * 61
    steps = list(attack.walk(model, x, goal, ball, seeded(0)))
    domains = steps[-1].domains
    assert domains.names == ("as it is", "turned", "shifted", "brighter")
    assert torch.allclose(steps[-1].loss, domains.losses.amin(1)) and torch.allclose(
        domains.weights.sum(1), torch.ones(24)
    )
    seen = torch.stack([goal.margin(model(view)) for view in views(attack, steps[-1].x)], 1)
    assert torch.allclose(seen, domains.losses, atol=1e-5)  # the views are those that it says
    plain = run(PGD(steps=30, loss="margin").walk(model, x, goal, ball, seeded(0)), goal).x
    all_views = [
        int(torch.stack([goal.reached(model(view)) for view in views(attack, there)]).all(0).sum())
        for there in (steps[-1].x, plain)
    ]
    assert all_views[0] > all_views[1]


def test_a_view_that_changes_nothing_is_left_out():
    model, x, y = small_case()
    attack = MinMaxTransformations(steps=2, angle=0.0, shift=0.0, noise=0.1, brightness=0.0)
    *_, last = attack.walk(model, x[:2], Goal.untargeted(y[:2]), Ball("linf", 0.1), seeded(0))
    assert last.domains.names == ("as it is", "noisy") and int(last.forwards[0]) == 2 * 3
