"""How often the host waits for the GPU (a synchronisation): each time the GPU has nothing to do until the next launch."""

from collections import Counter

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.attacks.boundary import shortest
from explorer.attacks.square import one_color
from explorer.certify import Smoothed
from explorer.core import Ball, Goal, run
from explorer.core.waits import counts, put, surely_none, where_true
from explorer.engine import attack_work
from explorer.evaluation.verdict import verify
from tests.fakecuda import watching
from tests.gpu.conftest import EVERYTHING, request

LINF = Ball("linf", 8 / 255)


def rng(device="cpu"):
    return torch.Generator(device).manual_seed(0)


def waits_a_unit(work, few, many):
    """Of each unit more: what comes once, at the beginning and the end, is left out."""
    counts = []
    for units in (few, many):
        with watching() as log:
            work(units)
        counts.append(log.waited)
    return (counts[1] - counts[0]) / (many - few)


WALKS = [
    *((key, "steps", 0) for key in ("apgd-dlr", "universal", "apgd-ce", "mifgsm", "minmax", "localized")),
    *(("random-search", "steps", 1), ("difgsm", "steps", 1), ("uniform-noise", "tries", 1), ("square", "queries", 1)),
]


@pytest.mark.parametrize(("key", "steps", "most"), WALKS if EVERYTHING else [WALKS[0], WALKS[-4], WALKS[-1]])
def test_a_step_of_a_walk(attacked, key, steps, most):
    on = attacked()

    def walk(count):
        attack = ATTACKS[key](**{steps: count})
        for _ in attack.walk(on.model, on.x, on.goal, Ball(attack.threats[0], 0.001), rng()):
            pass

    assert waits_a_unit(walk, 3, 5) <= most


SHORT = {"steps": 6, "target_classes": 3}
LOOKING = [  # beside one for each forward pass so many waits: at the beginning, and where a run or a search begins
    ("fab", SHORT | {"steps": 20}, "l2", 3),
    ("fab", SHORT | {"one_by_one": False}, "linf", 1),
    ("cw", {"searches": 3, "steps": 12}, "l2", 3),
    ("apgd-t", SHORT | {"early_stop": True}, "linf", 1),
    ("autoattack", SHORT | {"queries": 20}, "linf", 12),  # where each of its attacks ends, too
    ("square", {"queries": 20}, "l2", 6),  # a new bump for each size of the squares
]


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("key", "settings", "norm", "beside"), LOOKING)
def test_a_look_at_the_network(gpu, key, settings, norm, beside, images):
    """What the loop has to decide, it asks at once: one wait a forward pass."""
    log, passes = walked(key, settings, norm, images)
    assert log.waited <= passes["forward"] + beside, (log.waited, passes, log.waits.most_common(5))


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_pass_of_deepfool(gpu, norm, images):
    """It is asked before each backward pass whether there is to be one; and an image that arrives, whether to draw it back."""
    log, passes = walked("deepfool", {}, norm, images)
    assert log.waited <= passes["forward"] + passes["backward"] + images, (log.waited, passes, log.waits.most_common(5))


def walked(key, settings, norm, images):
    """A whole walk, in a ball in which it reaches nothing, or, for the smallest change, in a large one; and its batches' passes."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.Tanh(), nn.Linear(24, 10))
    drawn = torch.Generator().manual_seed(3)
    for p in network.parameters():
        p.requires_grad_(False).copy_(torch.randn(p.shape, generator=drawn) / p[:1].numel() ** 0.5)
    network, x = network.to("cuda"), torch.rand(images, 3, 8, 8, generator=drawn).to("cuda")
    goal, passes = Goal.untargeted(network(x).argmax(1)), Counter()

    def count(module, inputs, output):
        passes.update(["forward"])
        if output.requires_grad:
            output.register_hook(lambda grad: passes.update(["backward"]))

    network[-1].register_forward_hook(count)
    attack = ATTACKS[key](**settings)
    eps = {"linf": 1.0, "l2": 50.0}[norm] if attack.budget == "minimal" else 1e-4
    with watching() as log:
        for _ in attack.walk(network, x, goal, Ball(norm, eps), rng()):
            pass
    return log, passes


def test_counts_and_masks_take_one_wait(gpu):
    mask, whole = torch.tensor([True, False, True]).to("cuda"), torch.zeros(4, 2, device="cuda")
    with watching() as log:
        (two,) = counts(mask)
        rows = where_true(mask, two)
        put(whole, rows, torch.ones(2, 2, device="cuda"), mask[:2])
        assert not surely_none(~(mask | ~mask))  # not asked on a GPU
    assert two == 2 and log.waited == 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_shortest_way_on_a_gpu_is_that_of_a_cpu_and_waits_for_nothing(gpu, norm):
    drawn = torch.Generator().manual_seed(0)
    way = torch.randn(60, 3072, generator=drawn, dtype=torch.float64) * torch.randn(60, 3072, generator=drawn).exp()
    x = torch.rand(60, 3072, generator=drawn, dtype=torch.float64).round(decimals=1)  # some at their limits
    reach = torch.where(way > 0, way * (1 - x), -way * x).sum(1)  # the most that [0, 1] allows
    need = reach * torch.linspace(0.001, 1.1, 60, dtype=torch.float64)
    here, there = shortest(way, need, x, norm), [t.to("cuda") for t in (way, need, x)]
    with watching() as log:
        found = shortest(*there, norm)
    assert log.waited == 0 and torch.equal(found.cpu(), here)


def test_each_square_changes_its_image_and_waits_for_nothing(gpu):
    drawn = torch.Generator("cuda").manual_seed(0)
    region = LINF.around(torch.rand(40, 1, 6, 6, device="cuda", generator=drawn))
    x = one_color(region, region.x0, 6, drawn)  # all is one square now: half of the next draws would change nothing
    with watching() as log:
        tried = one_color(region, x, 3, drawn)
    assert log.waited == 0 and bool((tried != x).flatten(1).any(1).all())
    still = Ball("linf", 1e-5).around(region.x0.round())  # where a clamp leaves one sign only
    moved = one_color(still, still.x0, 3, drawn)
    assert bool((moved != still.x0).flatten(1).any(1).float().mean() > 0.9)


@pytest.mark.parametrize(
    ("name", "loss"),
    [(f"cifar10/{name}", loss) for name in ("tiny", "tiny-lwta") for loss in ("ce", "margin", "dlr")][
        :: 1 if EVERYTHING else 4
    ],
)
def test_a_step_of_pgd_could_be_captured_as_a_cuda_graph(attacked, name, loss):
    """It waits for nothing, draws from a generator on the GPU, and does the same each time."""
    on, done = attacked(name), []
    for norm in ("linf", "l2"):
        walk = ATTACKS["pgd"](steps=4, loss=loss).walk(on.model, on.x, on.goal, Ball(norm, 0.1), rng("cuda"))
        next(walk)
        for _ in range(3):
            with watching() as log:
                step = next(walk)
            assert log.waited == 0 and step.x.shape == on.x.shape
            done.append((norm, log.operators))
    assert all(operators == done[0][1] for norm, operators in done if norm == "linf") and done[0][1]["randn"] == 1


def test_a_run_to_its_outcome(attacked):
    on = attacked(images=3)
    with watching() as log:
        run(ATTACKS["pgd"](steps=10).walk(on.model, on.x, on.goal, LINF, rng()), on.goal)
    assert log.waited <= 3  # for all 11 steps


def test_a_pages_trace(engine):
    engine.model("cifar10/tiny")
    with watching() as log:
        for item in attack_work(engine, request(hyper={"steps": 10}))():
            if item.result is not None:
                break
    assert len(item.trace) == 12 and log.waited <= 12 + 9  # one a frame, and what comes once: below 2 a frame


def test_a_verdict_is_fetched_at_once(attacked):
    on = attacked(images=5)
    with watching() as log:
        verify(on.model, on.x, on.x, on.goal, LINF, rng())
    assert log.waited == 2


def test_a_pass_of_certify_and_an_item_of_the_pages_certificate(attacked):
    on = attacked()
    smoothed = Smoothed(on.model, 0.25, batch=8)

    def certify(passes):
        smoothed.certify(on.x[0], n0=8, n=8 * passes, alpha=0.4, seed=1)

    def watch(passes):
        list(smoothed.iter_certify(on.x[0], n0=8, n=8 * passes, alpha=0.4, seed=1))

    assert waits_a_unit(certify, 2, 6) == 0 and waits_a_unit(watch, 2, 6) == 1
    with watching() as log:
        certify(29)
    assert log.waited == 3  # 0.1 a pass
