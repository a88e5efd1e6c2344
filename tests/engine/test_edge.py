"""How far the edge is: the nearest of the minimal attacks within a budget, on a linear model the closed form."""

import dataclasses

import pytest
import torch

from explorer.core import InvalidValue, seeded
from explorer.engine import AttackRequest
from explorer.engine.certifying import CertifyRequest
from explorer.engine.edge import ORDER, edge_work
from explorer.engine.shadowing import Shadowing, ShadowOnCertificate, shadow_work
from tests.engine.test_smallest import UPLOAD, TwoClasses

PICTURE = 0.3 + 0.4 * torch.rand(3, 32, 32, generator=seeded(3))


@pytest.fixture
def linear(engine, monkeypatch):
    model = TwoClasses(PICTURE, 5.0)
    engine.keep_upload(UPLOAD, PICTURE)
    monkeypatch.setattr(engine, "model", lambda name: model)
    return model, AttackRequest("cifar10", UPLOAD, "cifar10/tiny", norm="l2", label=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_a_linear_model_the_edge_is_where_the_closed_form_says(engine, linear, norm):
    model, request = linear
    *_, found = (item for item in edge_work(engine, dataclasses.replace(request, norm=norm), 700)() if item)
    known = 5.0 / model.lengths[norm]
    assert known * (1 - 1e-5) < found.best.distance < known * 1.005
    assert found.spent <= 700 and found.ended == ("budget" if found.left_out else "done")
    assert [one.request.attack for one in found.tried] == [key for key in ORDER[norm] if key not in found.left_out]
    for one in found.tried:
        assert (one.nearest[1:] < one.nearest[:-1]).all() and (one.passes <= one.spent).all()
        assert one.distance == pytest.approx(one.nearest[-1], rel=1e-4)
    facts = found.facts()
    assert facts["distance"] == found.best.distance and facts["by"] == found.best.request.attack


def test_a_budget_leaves_out_what_does_not_fit_but_the_first(engine, linear):
    found = [item for item in edge_work(engine, linear[1], 20)() if item]
    assert len(found[-1].tried) == 1 and len(found[-1].left_out) >= 5 and found[0].running == "deepfool"


def test_a_picture_that_is_wrong_before_ends_it_at_once(engine, linear):
    *_, found = (item for item in edge_work(engine, dataclasses.replace(linear[1], label=3))() if item)
    assert found.wrong_before and len(found.tried) == 1


def test_what_is_refused(engine, linear):
    with pytest.raises(InvalidValue, match=r"passes must be a whole number in \[20, 20,000\]; got 5"):
        edge_work(engine, linear[1], 5)
    with pytest.raises(InvalidValue, match="norm must be one of l2, linf, l1, l0 to look for the edge; got 'rotation'"):
        edge_work(engine, dataclasses.replace(linear[1], norm="rotation"))


def test_a_shadow_ends_in_one_certificate_of_its_own_draws(engine, tmp_path):
    from explorer.certify.store import Store

    request = CertifyRequest("cifar10", 2, "cifar10/tiny", n=100, n0=20)
    settings = ShadowOnCertificate(steps=5, draws=2, eps=0.3)
    items = [item for item in shadow_work(engine, request, settings, Store(tmp_path))() if item]
    last = items[-1]
    assert isinstance(last, Shadowing) and [item.step for item in items[:6]] == list(range(6))
    if last.ended == "done":
        assert last.certificate.n == 100 and last.linf <= 0.3 and last.conditions["attack"] == "shadow"
        assert last.spoofed == (last.certificate.label not in (None, last.clean.label))
        again = [item for item in shadow_work(engine, request, settings, Store(tmp_path))() if item][-1]
        assert again.certificate == last.certificate and (again.found == last.found).all()
