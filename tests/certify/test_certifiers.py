"""Certifiers: every registered kind keeps the protocol, no attacked picture lies inside a proof, and linear networks are exact."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from explorer.certify import columns, lipschitz
from explorer.certify.certifier import UNITS, CertifiedRadius
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.certifiers.crown import Crown
from explorer.certify.certifiers.interval import IntervalBounds
from explorer.core import InvalidValue, seeded
from explorer.models.column_resnet import ColumnResNet
from explorer.models.lipschitz_net import LipschitzNet
from explorer.models.mlp import MLP

from .soundness import GREY, KINDS, inside, network

FEW = {"n0": 10, "n": 100}


def fitting(key: str):
    """A network that this kind can read, and the kind with few draws."""
    model = network(key if key in KINDS else "interval", 0)
    cls = CERTIFIERS[key]
    return model, cls(**{name: value for name, value in FEW.items() if name in {p.name for p in cls.params()}})


@pytest.mark.parametrize("key", CERTIFIERS.keys())
def test_every_kind_keeps_the_protocol(key):
    model, certifier = fitting(key)
    x = torch.rand(3, *model.input_shape, generator=seeded(0))
    seeds = [5, 6, 7]
    found = [one for one in certifier.certificates(model, x, seeds=seeds) if one is not None]
    assert len(found) == 3 and certifier.norm in UNITS and certifier.caveat
    for one in found:
        assert isinstance(one, CertifiedRadius) and one.norm == certifier.norm and one.radius >= 0
        assert one.confidence == 1 if certifier.deterministic else 0.5 < one.confidence < 1
        assert one.label is None or 0 <= one.label < model.num_classes
        assert one.passes > 0 and one.seconds >= 0
    alone = certifier.certificate(model, x[1], seed=6)
    assert (alone.label, alone.passes) == (found[1].label, found[1].passes)
    assert alone.radius == pytest.approx(found[1].radius, rel=1e-9)
    assert [one for one in certifier.certificates(model, x[:0], seeds=[]) if one is not None] == []


@pytest.mark.parametrize("key", CERTIFIERS.keys())
def test_what_is_no_picture_is_refused(key):
    model, certifier = fitting(key)
    for x in (torch.rand(3, 3), torch.rand(1, *model.input_shape) + 1, torch.full((1, *model.input_shape), math.nan)):
        with pytest.raises(InvalidValue):
            list(certifier.certificates(model, x))


@pytest.mark.parametrize("key", ["lipschitz", "column", "interval", "crown"])
def test_a_network_that_the_kind_cannot_read_is_named(key):
    other = {"lipschitz": "interval"}.get(key, "lipschitz")
    model = network(other, 0)
    reason = CERTIFIERS[key]().reason_against(model)
    assert reason is not None and type(model).__name__ in reason
    with pytest.raises(InvalidValue, match=type(model).__name__):
        list(CERTIFIERS[key]().certificates(model, torch.rand(1, *model.input_shape)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_attacked_picture_lies_inside_a_proof(kind):
    few = {"crown, pooling": 4, "column": 40}
    results = [inside(kind, seed, few.get(kind, 16)) for seed in range(2)]
    assert sum(broken for broken, *_ in results) == 0 and sum(total for _, total, _ in results) >= 12


def broken(kind: str, seeds: int = 12) -> bool:
    return any(inside(kind, seed, 12)[0] for seed in range(seeds))


def test_an_estimate_instead_of_a_bound_is_found(monkeypatch):
    bound = LipschitzNet.slopes
    monkeypatch.setattr(LipschitzNet, "slopes", lambda self: bound(self) / 8)
    assert broken("lipschitz")


def test_a_runner_up_that_is_not_the_nearest_is_found(monkeypatch):
    def last_class(logits, slopes, rounding=0.0):
        answer = logits.argmax(1)
        return (logits.amax(1) - logits[:, -1] - rounding).clamp(min=0) / slopes[answer, -1].clamp(min=1e-3)

    monkeypatch.setattr("explorer.certify.certifiers.lipschitz.radii", last_class)
    assert broken("lipschitz")


def test_a_patch_s_reach_is_neither_too_short_nor_too_long():
    """Counted on the network itself: how many looks change when a patch of noise moves over the picture."""
    model = ColumnResNet(*GREY, (1, 8, 8), 3, width=4, columns=2).freeze()
    x = torch.rand(1, 1, 8, 8, generator=seeded(0))
    before = model.looks(x)
    for side in (1, 2, 3):
        changed = []
        for left in range(8 - side + 1):
            other = x.clone()
            other[..., :side, left : left + side] = 1 - other[..., :side, left : left + side]
            changed.append(int((model.looks(other) != before).any(2).sum()))
        assert max(changed) == columns.touched(side, 2, 8)


@pytest.mark.parametrize("wide", [1, 3])
def test_a_patch_turns_the_vote_from_just_those_columns_from_which_some_ballots_of_its_looks_do(wide):
    """Against every filling of the touched looks with one class each, and the theorem on top."""
    for seed in range(20):
        cast = torch.rand(7, 3, generator=seeded(seed)) > 0.55
        proven = int(columns.largest_patch(cast.sum(0)[None], wide, 7)[0])
        for patch in range(1, 8):
            found, winner = columns.turned(cast, wide, patch), int(cast.sum(0).argmax())
            for left, wins in enumerate(found):
                looks = [w for w in range(7) if {(w + i) % 7 for i in range(wide)} & set(range(left, left + patch))]
                outcomes = set()
                for filling in (
                    itertools.product(range(4), repeat=len(looks))
                    if len(looks) < 5
                    else [(k,) * len(looks) for k in range(3)]
                ):
                    other = cast.clone()
                    for w, k in zip(looks, filling, strict=True):
                        other[w] = torch.arange(3) == k
                    outcomes.add(int(other.sum(0).argmax()))
                assert {k for k in range(3) if wins[k]} == outcomes - {winner}
            assert patch > proven or not found.any()


def test_a_vote_holds_against_the_largest_patch_and_no_larger_one():
    counts = torch.tensor([[20, 8, 0], [10, 10, 0], [4, 9, 0]])
    sides = columns.largest_patch(counts, columns=2, across=32)
    for row, side in zip(counts, sides.tolist(), strict=True):
        assert bool(columns.certified(row[None], columns.touched(side, 2, 32))) or side == 0
        assert not bool(columns.certified(row[None], columns.touched(side + 1, 2, 32)))


def test_a_linear_network_is_exact():
    """(z_y - z_k) / |w_y - w_k|_1 where no pixel meets the end of its range: the distance to the nearest boundary in Linf."""
    torch.random.default_generator.manual_seed(0)
    model = MLP((0.0,), (1.0,), (1, 2, 2), 3, hidden=(4,)).freeze()
    model.layers[0][0].bias.fill_(10)  # no ReLU is ever off
    model.head.bias.copy_(-model.head.weight @ model.layers[0][0](torch.full((4,), 0.5)))
    x = 0.5 + 0.02 * torch.randn(20, 1, 2, 2, generator=seeded(1))
    w, z = model.head.weight.double() @ model.layers[0][0].weight.double(), model.double()(x.double())
    y = z.argmax(1)
    lead = z.gather(1, y[:, None]) - z
    true = (lead / (w[y][:, None] - w).abs().sum(2)).scatter(1, y[:, None], torch.inf).amin(1).tolist()
    found = [one for one in Crown(halvings=20).certificates(model.float(), x) if one is not None]
    assert sum(distance < 0.45 for distance in true) > 10
    for one, distance in zip(found, true, strict=True):
        if distance < 0.45:
            assert distance - 2 * 0.5 / 2**20 <= one.radius <= distance + 1e-6


def test_interval_radii_are_never_larger_than_crown_s():
    for seed in range(4):
        model = network("crown", seed)
        x = torch.rand(8, *model.input_shape, generator=seeded(seed))
        plain, tight = (
            [one.radius for one in kind().certificates(model, x) if one is not None] for kind in (IntervalBounds, Crown)
        )
        assert all(a <= b for a, b in zip(plain, tight, strict=True)) and max(tight) > 0


def test_rounding_is_taken_off_a_lipschitz_radius_and_covers_what_float32_does():
    model = network("lipschitz", 0)
    x = torch.rand(50, *model.input_shape, generator=seeded(2))
    single, double = model(x), KINDS["lipschitz"]().double()
    double.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    exact = double.freeze()(x.double())
    assert float((single.double() - exact).abs().max()) <= model.rounding() / 2
    assert 0 < double.rounding() < 1e-9
    one, slopes = exact[:1], double.slopes()
    assert float(lipschitz.radii(one, slopes, 0.01)) < float(lipschitz.radii(one, slopes))


def test_radii_are_shown_rounded_down():
    assert CertifiedRadius(1, 0.1239, "l2", 1.0, 1, 0.0).text() == "0.123"
    assert CertifiedRadius(1, 5.0, "patch", 1.0, 1, 0.0).text() == "5"
    assert CertifiedRadius(1, math.inf, "l2", 1.0, 1, 0.0).text() == "any"
