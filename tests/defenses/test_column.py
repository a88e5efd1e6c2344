"""Column smoothing: looks see their columns and nothing else, votes are counted as the paper's theorem asks."""

import math

import pytest
import torch
import torch.nn.functional as F

from explorer.certify.columns import certified, touched, votes
from explorer.core import InvalidValue, seeded
from explorer.defenses import RECIPES
from explorer.models.column_resnet import ColumnResNet, MeanOfLooks, _Convolution
from explorer.training.state import build

CPU = torch.device("cpu")
RECIPE = RECIPES["column"](width=4)


@pytest.fixture(scope="module")
def model():
    net = build(RECIPE, CPU)
    with torch.no_grad():  # looks differ, as those of a trained network do
        for _ in range(3):
            net.train()(torch.rand(16, 3, 32, 32, generator=seeded(5)), torch.arange(16))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("first", [0, 13, 30])  # the last one wraps around
def test_pixels_outside_the_kept_columns_change_nothing(model, first):
    x = torch.rand(2, 3, 32, 32, generator=seeded(0))
    kept = [(first + k) % 32 for k in range(4)]
    other = torch.rand(2, 3, 32, 32, generator=seeded(1))
    other[..., kept] = x[..., kept]
    place = torch.full((2,), first)
    assert torch.equal(model(other, place), model(x, place))
    for column in kept:
        changed = x.clone()
        changed[..., column] = 1 - changed[..., column]
        assert not torch.equal(model(changed, place), model(x, place))


def test_a_look_tells_black_from_nothing_and_one_place_from_another(model):
    black = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        looks = model.looks(black)
        nothing = model.base(torch.zeros(1, 6, 32, 4))
    assert not torch.allclose(looks[:, 3], looks[:, 20], atol=1e-4)
    assert not torch.allclose(looks, nothing.expand_as(looks), atol=1e-4)


def test_all_looks_at_once_are_the_looks_one_by_one_and_a_patch_touches_as_many_as_said(model):
    x = torch.rand(3, 3, 32, 32, generator=seeded(0))
    looks = model.looks(x)
    assert looks.shape == (3, 32, 10)
    for first in (0, 7, 31):
        torch.testing.assert_close(looks[:, first], model(x, torch.full((3,), first)), atol=1e-5, rtol=1e-4)
    for patch, left in ((5, 12), (5, 0), (5, 27), (3, 20)):
        stuck = x.clone()
        stuck[..., 4 : 4 + patch, left : left + patch] = torch.rand(3, 3, patch, patch, generator=seeded(2))
        moved = (model.looks(stuck) - looks).abs().amax((0, 2)) > 1e-4
        assert int(moved.sum()) == touched(patch, 4, 32) == patch + 3


def test_the_classifier_answers_with_the_mean_of_the_looks_probabilities(model):
    x = torch.rand(3, 3, 32, 32, generator=seeded(0))
    torch.testing.assert_close(model(x).exp(), model.looks(x).softmax(-1).mean(1), atol=1e-6, rtol=1e-5)
    by_hand = MeanOfLooks(2)(torch.tensor([[0.0, math.log(3.0), 0.0, 0.0]]))  # 3/4 and 1/2 for the second class
    assert by_hand.exp().tolist() == [pytest.approx([3 / 8, 5 / 8])]


def test_attacks_get_a_gradient_through_all_looks(model):
    x = torch.rand(1, 3, 32, 32, generator=seeded(0)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert bool((gradient.abs().amax((0, 1, 2)) > 0).all())


def test_the_loss_is_the_cross_entropy_of_one_look_at_each_image_at_every_place_in_time(model):
    x, y = torch.rand(4, 3, 32, 32, generator=seeded(0)), torch.tensor([0, 1, 2, 3])
    places = RECIPE.places(x, seeded(7))
    expected = F.cross_entropy(model.looks(x)[torch.arange(4), places], y)
    assert float(RECIPE.loss(model, x, y, seeded(7))) == pytest.approx(float(expected), rel=1e-4)
    often = RECIPE.places(torch.empty(3200, 3, 32, 32), seeded(0)).bincount(minlength=32)
    assert len(often) == 32 and 60 < int(often.min()) and int(often.max()) < 145  # 100 each, give or take 4 sigma
    shown = RECIPE.training_inputs(model, x + 0.1, y, seeded(7))
    assert [sorted(row.nonzero().flatten().tolist()) for row in shown.amax((1, 2))] == [
        sorted((int(place) + k) % 32 for k in range(4)) for place in places
    ]


def test_votes_count_every_class_above_the_threshold():
    p = torch.tensor([[[0.6, 0.35, 0.05], [0.34, 0.33, 0.33], [0.2, 0.2, 0.6]]])
    assert votes(p.log()).tolist() == [[2, 2, 2]]
    assert votes(p.log(), theta=0.5).tolist() == [[1, 0, 1]]
    assert votes(torch.zeros(1, 5, 10)).tolist() == [[0] * 10]  # no class is above 0.3


@pytest.mark.parametrize(
    ("counts", "proven"),
    [
        ([20, 4, 0], True),  # leads by 16 = 2 * 8; a tie would still be its own, as the smaller number
        ([20, 5, 0], False),
        ([4, 20, 0], False),  # the other number is smaller and would win a tie
        ([3, 20, 0], True),
        ([0, 20, 4], True),
        ([0, 4, 20], False),
        ([3, 3, 20], True),
    ],
)
def test_the_theorem_s_margin_to_the_vote(counts, proven):
    assert certified(torch.tensor([counts]), touched(5, 4, 32)).tolist() == [proven]


def test_what_is_certified_stays_whatever_the_touched_looks_say_and_what_is_not_can_be_turned():
    """All ways to give the touched looks' votes to two classes, on counts small enough for it."""
    for a in range(7):
        for b in range(7):
            counts, k = torch.tensor([[a, b]]), 2
            winner = int(counts.argmax(1))
            turned = False
            for loses in range(-k, k + 1):
                for gains in range(-k, k + 1):
                    after = counts.clone()
                    after[0, winner] += loses
                    after[0, 1 - winner] += gains
                    turned |= int(after.argmax(1)) != winner
            assert bool(certified(counts, k)) is not turned


def test_the_score_counts_right_and_proven_of_the_first_half(monkeypatch):
    class Known(ColumnResNet):
        """The first row's columns say the class: 32 looks for class 1, or 16 for each of two."""

        def embed(self, normalised):
            return 20 * F.one_hot((normalised[:, 0, 0] > 0.5).long(), 10).float().flatten(1)

    net = Known((0.0,) * 3, (1.0,) * 3, width=4)
    x = torch.zeros(4, 3, 32, 32)
    x[0, 0, 0], x[1, 0, 0, :20] = 1.0, 1.0
    found = RECIPE.score(net, x, torch.tensor([1, 1, 0, 0]), seeded(0))
    assert found == {"clean": 1.0, "certified": 0.5, "score": 0.5}


def test_columns_must_fit_into_the_image():
    for wrong in (0, 33):
        with pytest.raises(InvalidValue, match=r"columns must be in \[1, 32\]"):
            ColumnResNet((0.5,) * 3, (0.25,) * 3, columns=wrong)
    assert touched(40, 4, 32) == 32


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (1, 0)])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_convolution_of_few_columns_is_the_usual_one(width, kernel, padding):
    ours = _Convolution(5, 6, kernel, 2, padding, bias=False)
    x = torch.rand(4, 5, 9, width, generator=seeded(0))
    torch.testing.assert_close(ours(x), F.conv2d(x, ours.weight, None, 2, padding))


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_gradients_in_bfloat16_are_those_of_float32(columns):
    """Where the processor computes in bfloat16, a stride of 2 to one column leaves outputs and gradients unwritten (torch 2.14.1)."""
    model = ColumnResNet((0.5,) * 3, (0.25,) * 3, width=8, columns=columns).train()
    x, first = torch.rand(32, 3, 32, 32, generator=seeded(0)), torch.arange(32)

    def gradients(bf16):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x, first).float(), first % 10)
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.ndim == 4}

    exact = gradients(False)
    for _ in range(3):
        spoilt = [torch.full((w.numel(),), torch.nan, dtype=torch.bfloat16) for w in exact.values()]
        del spoilt  # memory that is handed out next
        for name, gradient in gradients(True).items():
            assert (gradient - exact[name]).norm() < 0.5 * exact[name].norm(), name  # rounding: a quarter
