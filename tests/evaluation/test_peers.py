"""Passes are counted exactly; other libraries are called only where they are, and then do what ours do."""

import sys
import types
import warnings

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.core import Ball, Classifier, Goal, seeded
from explorer.core.ball import EPS_LIMIT
from explorer.evaluation.beside import ours
from explorer.evaluation.peers import adapter, attacked
from explorer.evaluation.peers.library import PEERS, Counted, Peer
from explorer.evaluation.peers.setting import ADAPTERS, FIRST_C, Setting

SHAPE = (3, 8, 8)
EPS = {"linf": 0.05, "l2": 0.7}


class Linear(Classifier):
    def __init__(self, classes=5):
        super().__init__([0.5] * 3, [0.25] * 3, SHAPE, classes)
        self.head = nn.Linear(192, classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(classes, 192, generator=seeded(1)) / 10)
            self.head.bias.zero_()
        self.freeze()

    def embed(self, normalised):
        return normalised.flatten(1)


@pytest.fixture(scope="module")
def task():
    """(model, x, y): six images a little way from the boundaries."""
    model = Linear()
    x = 0.3 + 0.4 * torch.rand(6, *SHAPE, generator=seeded(2))
    return model, x, model(x).argmax(1)


def setting(key, norm, **hyper):
    attack = ATTACKS[key](**hyper)
    return Setting(attack, Ball(norm, EPS_LIMIT[norm] if attack.budget == "minimal" else EPS[norm]), 5, seed=3)


@pytest.mark.parametrize(
    ("key", "hyper", "forwards", "backwards"),
    [
        ("fgsm", {}, 2, 1),
        ("pgd", {"steps": 10}, 11, 10),
        ("pgd", {"steps": 4, "restarts": 3}, 15, 12),
        ("mifgsm", {"steps": 10}, 11, 10),
        ("apgd-ce", {"steps": 10}, 11, 10),
        ("square", {"queries": 20, "early_stop": False}, 20, 0),
        ("deepfool", {"classes": 2}, 2, 1),  # a linear model: one update, to the one boundary
    ],
)
def test_passes_are_counted_exactly(key, hyper, forwards, backwards, task):
    model, x, y = task
    counted = Counted(model)
    ours(counted, x, y, setting(key, "l2" if key == "deepfool" else "linf", **hyper))
    assert (counted.forwards, counted.backwards) == (forwards * len(x), backwards * len(x))


@pytest.mark.parametrize("key", ["deepfool", "cw", "apgd-t"])
def test_the_steps_of_our_attacks_tell_the_passes_that_are_counted(key, task):
    model, x, y = task
    counted, goal, how = Counted(model), Goal.untargeted(y), setting(key, "l2", **ATTACKS[key].presets["weak"])
    *_, last = how.attack.walk(counted, x, goal, how.ball, seeded(0))
    assert counted.forwards == int(last.forwards.sum()) > 0
    # where all of the batch succeed at once nothing is pulled back
    assert 0 < counted.backwards <= int(last.backwards.sum())


def test_a_part_of_the_batch_counts_as_many_images_and_backward_counts_both_ways(task):
    model, x, _ = task
    counted = Counted(model)
    assert not counted.training
    counted(x), counted(x[:2])
    assert (counted.forwards, counted.backwards) == (8, 0)
    leaf = x.clone().requires_grad_(True)
    logits = counted(leaf)
    torch.autograd.grad(logits.sum(), leaf, retain_graph=True)
    logits[:, 0].sum().backward()
    assert (counted.forwards, counted.backwards) == (14, 12)
    assert torch.equal(counted(x), model(x)) and all(p.grad is None for p in model.parameters())
    counted.reset()
    assert (counted.forwards, counted.backwards) == (0, 0)


def test_gradients_arrive_in_the_usual_layout_whatever_the_models():
    seen, leaf = [], torch.rand(2, *SHAPE, generator=seeded(4)).requires_grad_(True)
    leaf.register_hook(seen.append)
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    model = nn.Sequential(conv, nn.Flatten(1)).requires_grad_(False)
    model(leaf).square().sum().backward()
    Counted(model)(leaf).square().sum().backward()
    assert torch.equal(*seen)
    assert not seen[0].is_contiguous()  # what a library would meet without
    assert seen[1].is_contiguous()


def test_a_library_that_is_not_here_says_why():
    assert "no_such_library" in Peer("x", "x", "no_such_library").missing()


def test_every_adapter_translates_an_attack_that_exists():
    names = {peer.name for peer in PEERS}
    for library, key, norm in ADAPTERS:
        assert library in names and norm in ATTACKS[key].norms
    assert {library for library, _, _ in ADAPTERS} == names
    assert adapter("adv-lib", "fgsm", Ball("linf", 0.1)) is None


def test_a_library_is_seeded_silenced_and_leaves_the_generator_alone(task, capsys):
    model, x, y = task

    def noisy(model, x, y, s):
        sys.stdout.write("look at me")
        warnings.warn("and me", stacklevel=1)
        return x + s.ball.eps * torch.rand_like(x)

    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = (attacked(noisy, model, x, y, setting("pgd", "linf")) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, x)
    assert torch.equal(torch.random.get_rng_state(), before) and capsys.readouterr().out == ""


def test_the_first_c_of_another_library_is_a_weight_in_logits_whatever_ours_is_relative_to(task, monkeypatch):
    model, x, y = task
    told = []
    fake = types.ModuleType("adv_lib.attacks")
    fake.carlini_wagner_l2 = lambda model, x, y, **options: (told.append(options["initial_const"]), x)[1]
    monkeypatch.setitem(sys.modules, "adv_lib", types.ModuleType("adv_lib"))
    monkeypatch.setitem(sys.modules, "adv_lib.attacks", fake)
    for first_c in (0.1, 5.0):
        how = setting("cw", "l2", first_c=first_c)
        attacked(adapter("adv-lib", "cw", how.ball), model, x, y, how)
    assert told == [FIRST_C, FIRST_C]


SMALL = {
    "apgd-ce": {"steps": 10},
    "apgd-t": {"steps": 10, "target_classes": 4},
    "cw": {"searches": 4, "steps": 50},
    "fab": {"steps": 10},
    "square": {"queries": 50},
}


@pytest.mark.parametrize(("library", "key", "norm"), [where for where in ADAPTERS if where[1] != "autoattack"])
def test_where_a_library_is_installed_it_fools_what_ours_fools(library, key, norm, task):
    """On a linear model; ART's numpy draws and Square's luck aside, every image falls or none does."""
    (peer,) = (peer for peer in PEERS if peer.name == library)
    reason = peer.missing()
    if reason is not None:
        pytest.skip(f"{library}: {reason}")
    model, x, y = task
    how = setting(key, norm, **SMALL.get(key, {}))
    theirs = attacked(adapter(library, key, how.ball), model, x, y, how)
    assert theirs.shape == x.shape and theirs.dtype == x.dtype and not theirs.requires_grad
    fooled = model(theirs).argmax(1) != y
    mine = model(ours(model, x, y, how)).argmax(1) != y
    assert bool(mine.any()) and int(fooled.sum()) <= int(mine.sum())
    if key in ("fgsm", "pgd", "mifgsm", "apgd-ce", "apgd-t"):
        assert torch.equal(fooled, mine)
