"""The doors of the room: `Smoothed`, the functions of one line beside it, and any torch module behind them."""

import pytest
import torch
from torch import nn

from explorer.attacks import ATTACKS
from explorer.certify import Smoothed, certify, certify_many, predict
from explorer.core import Ball, Goal, InvalidValue, as_classifier, seeded

SIGMA = 0.25
OPTIONS = [{}, {"batch": 64}, {"precision": "bfloat16"}, {"sound": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_functions_are_the_class(halfspace, image, options):
    x = (image * 255).round() / 255
    smoothed = Smoothed(halfspace(0.3), SIGMA, **options)
    asked = {"n": 100, "alpha": 0.01, "seed": 3}
    assert certify(halfspace(0.3), x, SIGMA, n0=20, **asked, **options) == smoothed.certify(x, n0=20, **asked)
    assert predict(halfspace(0.3), x, SIGMA, **asked, **options) == smoothed.predict(x, **asked)


@pytest.fixture
def bare():
    """Class 0 where the pixels' mean exceeds 0.3: a module that says nothing of itself."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0], [-1.0]]).expand(2, 4))
        net[1].bias.copy_(torch.tensor([-1.2, 1.2]))
    return net


def test_any_module_is_certified_predicted_and_attacked(bare, image):
    certificate = certify(bare, image, SIGMA, n=5000, seed=1)
    assert certificate == certify(as_classifier(bare, like=image), image, SIGMA, n=5000, seed=1)
    assert certificate.label == 0 and 0.36 < certificate.radius < 0.4  # the margin: 0.2 in each of four pixels
    assert predict(bare, image, SIGMA, seed=1).label == 0
    (again,) = certify_many(Smoothed(bare, SIGMA), image[None], n=5000, seed=1)
    assert again == certify(bare, image, SIGMA, n=5000, seed=again.seed)
    goal = Goal.untargeted(torch.tensor([0]))
    *_, last = ATTACKS["pgd"](steps=15).walk(Smoothed(bare, SIGMA), image[None], goal, Ball("l2", 0.6), seeded(1))
    assert predict(bare, last.x[0], SIGMA, seed=2).label == 1
    assert all(p.grad is None for p in bare.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda net: net.train(), "evaluation mode"),
        (lambda net: nn.Sequential(net, nn.Unflatten(1, (1, 2))).eval(), r"logits of shape \(N, K\)"),
        (lambda net: nn.Sequential(net, nn.Threshold(9, float("nan"))).eval(), "finite"),
    ],
)
@pytest.mark.parametrize("ask", [certify, predict])
def test_what_no_module_may_do(bare, image, ask, change, said):
    with pytest.raises(InvalidValue, match=said):
        ask(change(bare), image, SIGMA, n=10)


@pytest.mark.parametrize(
    ("options", "said"), [({"sigma": 0}, "sigma"), ({"batch": 0}, "batch"), ({"precision": "half"}, "precision")]
)
def test_nonsense_is_refused_when_it_is_made(halfspace, options, said):
    with pytest.raises(InvalidValue, match=said):
        Smoothed(halfspace(0.3), **{"sigma": SIGMA} | options)
