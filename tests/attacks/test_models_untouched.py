"""One model, many users: an attack changes nothing about it, whatever state it was handed over in."""

import threading
from itertools import zip_longest

import pytest
import torch
import torch.nn.functional as F

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import in_eval_mode
from explorer.core import Goal, run, seeded


@pytest.fixture
def fresh(trained, small_net):
    """(model, x, y): an unfrozen copy in eval mode, whose parameters ask for gradients."""
    model, x, y = trained
    copy = small_net()
    copy.load_state_dict(model.state_dict())
    return copy.eval(), x[:8], y[:8]


@pytest.fixture
def exhaust(quick, ball_for):
    """`exhaust("pgd", model, x, y)`: the outcome, in the first norm the attack is defined for."""

    def made(key, model, x, y, seed=0):
        attack, goal = quick(key), Goal.untargeted(y)
        return run(attack.walk(model, x, goal, ball_for(attack), seeded(seed)), goal, attack.budget == "minimal")

    return made


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_gradients_of_the_weights_are_neither_made_nor_changed(key, fresh, exhaust):
    model, x, y = fresh
    exhaust(key, model, x, y)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    F.cross_entropy(model(x), y).backward()
    before = [p.grad.clone() for p in model.parameters()]
    exhaust(key, model, x, y)
    assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_frozen_or_not_gives_the_same_images(key, fresh, trained, exhaust):
    model, x, y = fresh
    assert torch.equal(exhaust(key, model, x, y).x, exhaust(key, trained[0], x, y).x)


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_an_attack_during_training_leaves_statistics_and_modes_alone(key, fresh, exhaust):
    model, x, y = fresh
    model.train()
    model.norm.eval()  # a mixed state, which a blanket .train() afterwards would destroy
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = {name: m.training for name, m in model.named_modules()}
    with in_eval_mode(model):
        assert not any(m.training for m in model.modules())
        images = exhaust(key, model, x, y).x
    assert {name: m.training for name, m in model.named_modules()} == modes
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(images, exhaust(key, model.eval(), x, y).x)


def test_modes_return_after_an_error(fresh):
    model = fresh[0].train()
    with pytest.raises(RuntimeError), in_eval_mode(model):
        raise RuntimeError
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_a_caller_without_gradients_gets_the_same_and_stays_without(key, fresh, exhaust):
    model, x, y = fresh
    expected = exhaust(key, model, x, y).x
    with torch.no_grad():
        assert torch.equal(exhaust(key, model, x, y).x, expected)
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_an_image_that_asks_for_gradients_is_left_alone(key, fresh, exhaust):
    model, x, y = fresh
    leaf = x.clone().requires_grad_(True)
    outcome = exhaust(key, model, leaf, y)
    assert leaf.grad is None and not outcome.x.requires_grad and not outcome.distance.requires_grad


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_interleaved_walks_do_not_disturb_each_other(key, masked, quick, ball_for):
    """Two sessions on one stochastic model: each gets what it would get alone."""
    model = masked(torch.randn(4, 48, generator=seeded(0)), p=0.6)
    x, goal = torch.full((2, 3, 4, 4), 0.5), Goal.untargeted(torch.tensor([0, 1]))

    def walk(seed):
        return quick(key).walk(model, x, goal, ball_for(quick(key)), seeded(seed))

    alone = [[s.x for s in walk(seed)] for seed in (1, 2)]
    for expected, seen in zip(alone, zip(*zip_longest(walk(1), walk(2)), strict=True), strict=True):
        steps = [step.x for step in seen if step is not None]  # one may end before the other
        assert len(steps) == len(expected) and all(map(torch.equal, expected, steps))


@pytest.mark.parametrize("key", ATTACKS.keys())
def test_threads_do_not_disturb_each_other(key, masked, quick, ball_for):
    model = masked(torch.randn(4, 48, generator=seeded(0)), p=0.6)
    x, goal, found = torch.full((2, 3, 4, 4), 0.5), Goal.untargeted(torch.tensor([0, 1])), {}

    def work(seed):
        found[seed] = [s.x for s in quick(key).walk(model, x, goal, ball_for(quick(key)), seeded(seed))]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        expected = [s.x for s in quick(key).walk(model, x, goal, ball_for(quick(key)), seeded(seed))]
        assert all(torch.equal(a, b) for a, b in zip(found[seed], expected, strict=True))
