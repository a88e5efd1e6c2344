"""Exact answers: those of enumerating all sign patterns of a tiny network, none inside a proof, and a picture that is what it claims."""

import itertools

import pytest
import torch
from scipy.optimize import linprog

from explorer.certify.certifiers.crown import Crown
from explorer.certify.exact import narrow, settle, settle_all
from explorer.core import InvalidValue, seeded
from explorer.models.intervals import around
from explorer.models.mlp import MLP

from .test_linear_bounds import points, tiny


def largest_lead(model, low, high, y, rival) -> float:
    """The largest z_rival - z_y in a box, by one linear program for each pattern of the hidden units' signs."""
    first, head = model.layers[0][0], model.head
    w, b = (
        first.weight.double() / float(model.std),
        first.bias.double() - first.weight.double().sum(1) * float(model.mean / model.std),
    )
    apart = (head.weight[rival] - head.weight[y]).double()
    shift = float(head.bias[rival] - head.bias[y])
    bounds = list(zip(low.flatten().tolist(), high.flatten().tolist(), strict=True))
    best = -float("inf")
    for signs in itertools.product([0.0, 1.0], repeat=len(b)):
        s = torch.tensor(signs, dtype=torch.float64)
        side = (1 - 2 * s)[:, None]  # on: -(w x + b) <= 0
        found = linprog(-((apart * s) @ w).numpy(), (side * w).numpy(), -(side[:, 0] * b).numpy(), bounds=bounds)
        if found.status == 0:
            best = max(best, -found.fun + float((apart * s) @ b) + shift)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_answer_is_that_of_enumeration(seed):
    torch.random.default_generator.manual_seed(seed)
    model = MLP((0.4,), (0.25,), (1, 2, 2), 3, hidden=(6,)).freeze()
    x = torch.rand(1, 2, 2, generator=seeded(seed))
    y = int(model(x[None]).argmax())
    settled = set()
    for rival in {0, 1, 2} - {y}:
        for eps in (0.05, 0.3, 0.6):
            low, high = around(x.double()[None], eps)
            truth = largest_lead(model, low, high, y, rival)
            answer = settle(model, x, y, rival, eps)
            assert answer.settled == ("found" if truth > 0 else "none"), (truth, eps)
            settled.add(answer.settled)
            if answer.picture is not None:
                assert float((answer.picture - x).abs().max()) <= eps + 1e-6
                z = model(answer.picture[None])[0]
                assert z[rival] >= z[y]
    assert "none" in settled


def near_a_boundary(kind):
    model, shape = tiny(kind, 1)
    x = torch.rand(shape, generator=seeded(1))
    z = model(x[None])[0]
    y, rival = z.topk(2).indices.tolist()
    model.head.bias[rival] += z[y] - z[rival] - 0.02
    return model, x, y, rival, Crown().certificate(model, x).radius


@pytest.mark.parametrize("kind", ["mlp", "conv", "lenet"])
def test_nothing_is_found_inside_a_proof(kind):
    model, x, y, rival, proven = near_a_boundary(kind)
    assert settle(model, x, y, rival, 0.99 * proven).settled == "none"
    beyond = settle(model, x, y, rival, 1.1 * proven)  # a maximum among several, in lenet
    assert beyond.settled != "open" and (beyond.choices > 0 or kind == "mlp")


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_what_random_pictures_find_is_found(kind):
    model, x, y, rival, proven = near_a_boundary(kind)

    def hit(eps):
        z = model(points(*around(x.double()[None], eps)).float())
        return bool((z[:, rival] > z[:, y]).any())

    eps = next(eps for eps in torch.linspace(proven, 1, 60).tolist() if hit(eps)) + 0.01
    assert settle(model, x, y, rival, eps).settled == "found"


def test_a_question_that_makes_no_sense_and_time_that_runs_out():
    model, shape = tiny("conv", 2)
    x = torch.rand(shape, generator=seeded(2))
    y = int(model(x[None]).argmax())
    with pytest.raises(InvalidValue, match="another of the 3 classes"):
        settle(model, x, y, y, 0.1)
    hurried, patient = (settle(model, x, y, (y + 1) % 3, 0.9, seconds=seconds).settled for seconds in (0.0, 60.0))
    assert hurried in ("open", patient)  # a small one is settled before the clock is looked at


def test_all_rivals_at_once_say_what_each_says():
    model, x, y, _, proven = near_a_boundary("mlp")
    for eps in (0.9 * proven, 3 * proven, 0.5):
        each = {settle(model, x, y, k, eps).settled for k in range(3) if k != y}
        assert settle_all(model, x, y, eps).settled == ("found" if "found" in each else "none")


def test_the_distances_close_in_on_the_smallest_change():
    model, x, y, _, proven = near_a_boundary("mlp")
    below, above = proven, 0.6
    for eps, answer in narrow(model, x, y, proven, 0.6, width=0.01):
        assert below < eps < above
        if answer.settled == "none":
            below = eps
        else:
            assert answer.settled == "found"
            above = min(eps, float((answer.picture - x).abs().max()))
    assert above - below <= 0.011 * above
    for k in (0.99 * below, 1.01 * above):
        assert settle_all(model, x, y, k).settled == ("none" if k < below else "found")
