"""BPDA: a defence that rounds has no slope, and stops no attack that takes it for the identity on the way back."""

import torch

import explorer
from explorer.attacks import ATTACKS
from explorer.core import Classifier
from explorer.models.bpda import BPDA
from explorer.testing.networks import classes_of, small_case


def rounded(x):
    return (x * 7).round() / 7


class Rounding(Classifier):
    """The defence as it stands."""

    def __init__(self, inner):
        super().__init__([0.5], [0.25], inner.input_shape, inner.num_classes)
        self.inner, self.head = inner, inner.head
        self.freeze()

    def forward(self, pixels):
        return self.inner(rounded(pixels))


def test_forward_is_exact_and_backward_the_identity():
    model, x, _ = small_case()
    through, leaf = BPDA(model, rounded, like=x), x.clone().requires_grad_(True)
    assert torch.equal(through(x), model(rounded(x))) and torch.equal(through.features(x), model.features(rounded(x)))
    there = rounded(x).requires_grad_(True)
    (ours,), (theirs,) = (torch.autograd.grad(net(at)[:, 0].sum(), at) for net, at in ((through, leaf), (model, there)))
    assert torch.equal(ours, theirs)


def test_pgd_fools_through_it_what_hides_its_slope():
    model, x, _ = small_case()
    y = classes_of(model, rounded(x))
    hidden = Rounding(model)
    blind, seeing = (
        explorer.attack(net, x, y, ATTACKS["pgd"](steps=10), eps=0.1) for net in (hidden, BPDA(model, rounded, like=x))
    )
    assert int(seeing.success.sum()) > int(blind.success.sum()) + 5
    assert torch.equal(classes_of(hidden, seeing.x) != y, seeing.success)  # the defence itself is fooled
