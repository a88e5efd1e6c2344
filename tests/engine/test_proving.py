"""A table of radii: the library's certificates, the attack's distances, and no alarm where both are right."""

import pytest
import torch

from explorer.certify.certifiers import CERTIFIERS
from explorer.core import InvalidValue, UnknownName
from explorer.data import dataset, raw
from explorer.engine.between import between_work
from explorer.engine.proving import Nearest, ProvingRequest, proving_work
from explorer.engine.tables import of_proven
from explorer.models import ARCHITECTURES, zoo

MLP = {"dataset": "fashion_mnist", "model": "fashion_mnist/mlp", "count": 6}


@pytest.fixture(scope="module", autouse=True)
def small_networks(tiny_zoo):
    for name, architecture, arguments in (
        ("mlp", "mlp", {"hidden": (12,)}),
        ("lipschitz", "lipschitz-net", {"width": 16, "depths": (1,)}),
    ):
        spec = dataset("fashion_mnist")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = ARCHITECTURES[architecture](spec.mean, spec.std, spec.shape, 10, **arguments)
        blank = dict.fromkeys(("title", "summary", "recipe", "recipe_hash", "file", "sha256", "command"), "")
        facts = {"hyper": {}, "training": {}, "history": [], "bytes": 0, "precision": "float32"}
        card = zoo.Card(
            name=f"fashion_mnist/{name}", dataset="fashion_mnist", architecture=architecture, arguments=arguments,
            parameters=sum(p.numel() for p in model.parameters()), stochastic=False, **blank, **facts,
        )  # fmt: skip
        zoo.write(tiny_zoo / "fashion_mnist", card, model)


def items(engine, request):
    return [item for item in proving_work(engine, request)() if item is not None]


def test_the_table_holds_the_library_s_certificates_and_an_attack_beyond_each(engine):
    request = ProvingRequest(**MLP)
    found = items(engine, request)
    last = found[-1]
    assert last.finished and list(last.radii) == ["interval", "crown"] and list(last.nearest) == ["linf"]
    assert last.done == (18, 18) and set(last.refused) == {"column", "lipschitz"} and not last.alarms()
    x = raw("fashion_mnist", "test", "sample")[0][list(request.rows)].float() / 255
    alone = [one for one in CERTIFIERS["crown"]().certificates(engine.model(request.model), x) if one is not None]
    assert [one.radius for one in alone] == [one.radius for one in last.radii["crown"]]
    for proof, near in zip(last.radii["crown"], last.nearest["linf"], strict=True):
        assert near is not None and near.distance >= proof.radius
    filled = [item.done[0] for item in found]
    assert filled == sorted(filled)
    rows = of_proven(last).rows
    assert len(rows) == 6 and all(row["gap_linf"] is None or row["gap_linf"] >= 0 for row in rows)
    for row in rows:
        right = row["label"] == row["answer"]
        assert (row["radius_crown"] is not None) == right and (row["verdict"] == "wrong") == (not right)


def test_an_attack_inside_a_certificate_is_an_alarm(engine):
    last = items(engine, ProvingRequest(**MLP | {"count": 2}))[-1]
    inside = Nearest(0.5 * last.radii["crown"][0].radius, int(last.answers[0] + 1) % 10)
    last.nearest["linf"] = (inside, *last.nearest["linf"][1:])
    assert ("crown" in {key for _, key in last.alarms()}) == (last.radii["crown"][0].radius > 0)
    assert last.radii["crown"][0].radius > 0


def test_each_kind_is_chosen_or_says_why_not(engine):
    request = ProvingRequest("fashion_mnist", "fashion_mnist/lipschitz", 3, attack=False)
    last = items(engine, request)[-1]
    assert list(last.radii) == ["lipschitz"] and not last.nearest
    both = items(
        engine, ProvingRequest("fashion_mnist", "fashion_mnist/lipschitz", 2, "gaussian,lipschitz", n=200, attack=False)
    )[-1]
    assert list(both.radii) == ["lipschitz", "gaussian"]
    seeds = [one.detail["seed"] for one in both.radii["gaussian"]]
    assert len(set(seeds)) == 2
    with pytest.raises(InvalidValue, match="column-resnet"):
        items(engine, ProvingRequest("fashion_mnist", "fashion_mnist/lipschitz", 2, "column"))


def test_links_and_what_cannot_be():
    request = ProvingRequest(**MLP | {"count": 20}, kinds="crown", attack=False)
    assert ProvingRequest.from_query(request.to_query()) == request
    for change, error in (
        ({"count": 0}, InvalidValue),
        ({"kinds": "crowns"}, UnknownName),
        ({"model": "cifar10/tiny"}, InvalidValue),
    ):
        with pytest.raises(error):
            ProvingRequest(**MLP | change)


def test_exact_questions_close_in_from_both_sides_in_a_process_of_their_own(tiny_zoo):
    model = zoo.load(MLP["model"])
    x = raw("fashion_mnist", "test", "sample")[0][0].float() / 255
    label, proven = int(model(x[None]).argmax()), CERTIFIERS["crown"]().certificate(model, x).radius
    work = between_work(MLP["model"], "fashion_mnist", 0, label, {"crown": proven}, 3 * proven)
    found = [one for one in work() if one is not None]
    for one in found:
        assert proven <= one.proven <= one.attacked <= 3 * proven
        assert all(a.settled in ("none", "found", "open") for a in one.asked)
    last = found[-1]
    assert last.finished and last.asked and (last.proven, last.attacked) != (proven, 3 * proven)
    with pytest.raises(InvalidValue, match="leaves nothing"):
        between_work(MLP["model"], "fashion_mnist", 0, label, {"crown": 0.5}, 0.5)
    with pytest.raises(InvalidValue, match="could not be answered"):
        list(between_work("fashion_mnist/nobody", "fashion_mnist", 0, label, {}, 0.1)())
    stopped = work()
    next(stopped)
    next(stopped)
    stopped.close()  # and its process with it: no test leaves one
