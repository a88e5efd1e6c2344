"""Links made by version 29dbefe still open, and still mean what they meant."""

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from streamlit.testing.v1 import AppTest

from explorer.engine.certifying import CertifyRequest
from explorer.engine.compare import CompareRequest
from explorer.engine.featurespace import CloudRequest
from explorer.engine.many import ManyRequest
from explorer.engine.request import AttackRequest
from explorer.ui import session

ENTRY = str(Path(__file__).parents[1] / "entry.py")
# What follows the ? in the address bar, which request the page made of it, and what that asked for.
LINKS = {
    "an attack": (
        "data=cifar10&image=2&model=cifar10%2Fbaseline&attack=pgd&norm=linf&eps=8%2F255&with=steps%3A1000%2Crestarts%3A2"
        "&target=cat&seed=9223372036854775807",
        AttackRequest,
        {
            "dataset": "cifar10", "image": 2, "label": 6, "model": "cifar10/baseline", "attack": "pgd", "norm": "linf",
            "hyper": {"steps": 1000, "restarts": 2}, "eps": 8 / 255, "target": 3, "seed": 2**63 - 1, "is_minimal": False,
        },
    ),
    "the smallest change": (
        "data=fashion_mnist&image=3&model=fashion_mnist/deep-defense&attack=cw&norm=l2&with=steps:50,kappa:2.5&target=Bag",
        AttackRequest,
        {
            "dataset": "fashion_mnist", "image": 3, "model": "fashion_mnist/deep-defense", "attack": "cw", "norm": "l2",
            "hyper": {"steps": 50, "kappa": 2.5}, "eps": 100.0, "target": 8, "seed": 0, "is_minimal": True,
        },
    ),
    "an upload, in a drawn region": (
        "data=cifar10&image=upload:0123abcd&label=frog&model=cifar10/lwta&attack=localized&norm=l2&eps=0.75"
        "&with=area:drawn,mask:00003c3c3c3c0000,random_start:false,draws:8,loss:margin",
        AttackRequest,
        {
            "image": "upload:0123abcd", "label": 6, "attack": "localized", "norm": "l2", "eps": 0.75, "target": None,
            "hyper": {
                "area": "drawn", "mask": "00003c3c3c3c0000", "random_start": False, "draws": 8, "loss": "margin",
            },
        },
    ),
    "several models at once": (  # a plus by itself is a blank in an address
        "data=cifar10&image=317&model=cifar10/pgd-linf&attack=minmax&norm=linf&eps=0.05&with=gamma:0.5,models:cifar10/lenet"
        "+cifar10/lenet-at",
        AttackRequest,
        {"attack": "minmax", "eps": 0.05, "hyper": {"gamma": 0.5, "models": "cifar10/lenet+cifar10/lenet-at"}},
    ),
    "a transfer": (
        "models=cifar10/baseline,cifar10/pgd-linf&craft=transfer&data=cifar10&image=2&attack=pgd&norm=linf&eps=8/255"
        "&with=steps:8",
        CompareRequest,
        {
            "models": ("cifar10/baseline", "cifar10/pgd-linf"), "craft": "transfer",
            "attack.dataset": "cifar10", "attack.image": 2, "attack.model": "cifar10/baseline", "attack.attack": "pgd",
            "attack.norm": "linf", "attack.eps": 8 / 255, "attack.hyper": {"steps": 8},
        },
    ),
    "many pictures": (
        "data=cifar10&model=cifar10/pgd-linf&attack=square&norm=l2&eps=0.5&with=queries:200&target=cat&seed=5&pick=right"
        "&class=dog&shuffle=4&count=12",
        ManyRequest,
        {
            "dataset": "cifar10", "model": "cifar10/pgd-linf", "pick": "right", "count": 12, "of": 5, "shuffle": 4,
            "rows": (), "attack": "square", "norm": "l2", "eps": 0.5, "hyper": {"queries": 200}, "target": 3, "seed": 5,
        },
    ),
    "paths in feature space": (
        "data=cifar10&model=cifar10/baseline&attack=pgd&norm=linf&eps=8/255&with=steps:2&rows=2,7,317"
        "&beside=cifar10/pgd-linf&map=umap",
        CloudRequest,
        {
            "models": ("cifar10/baseline", "cifar10/pgd-linf"), "batch.pick": "hand", "batch.rows": (2, 7, 317),
            "batch.count": 3, "batch.attack": "pgd", "batch.hyper": {"steps": 2}, "batch.eps": 8 / 255,
        },
    ),
    "a certificate": (
        "data=cifar10&image=317&model=cifar10/gaussian-0.25&sigma=0.5&n0=50&n=300&alpha=0.01&precision=bfloat16&sound=1",
        CertifyRequest,
        {
            "dataset": "cifar10", "image": 317, "label": 6, "model": "cifar10/gaussian-0.25", "sigma": 0.5, "n0": 50,
            "n": 300, "alpha": 0.01, "precision": "bfloat16", "sound": True,
        },
    ),
}  # fmt: skip
CERTIFIED_SET = "view=set&data=fashion_mnist&model=fashion_mnist/fashion-mlp&sigma=0.25&count=20&n0=10&n=20&alpha=0.01&shuffle=3&sound=1"
RUN = "run=gqloqq0zf0ll"


def query(link):
    return dict(parse_qsl(link, keep_blank_values=True))


def opened(page, link):
    app = AppTest.from_file(ENTRY, default_timeout=60)
    app.session_state["wanted page"] = page
    for key, value in query(link).items():
        app.query_params[key] = value
    app.run()
    assert not app.exception
    return app


def texts(app):
    return "\n".join(e.value for kind in (app.markdown, app.caption, app.error, app.warning, app.info) for e in kind)


def value(request, path):
    for name in path.split("."):
        request = getattr(request, name)
    return request


@pytest.mark.parametrize("what", LINKS)
def test_a_link_asks_for_what_it_asked_for(what):
    link, kind, meant = LINKS[what]
    request = kind.from_query(query(link))
    assert {name: value(request, name) for name in meant} == meant
    assert kind.from_query(request.to_query()) == request


def test_a_link_to_a_certified_set_opens():
    app = opened("certify", CERTIFIED_SET)
    assert "could not be followed" not in texts(app)
    assert app.query_params == query(CERTIFIED_SET)


@pytest.fixture
def own_store(runs):
    """The app finds these runs, and no others later."""
    session.store.clear()
    yield runs
    session.store.clear()


def test_a_link_to_a_run_opens(own_store):
    app = opened("training", RUN)
    assert app.query_params == query(RUN)
    assert "Kept epoch 2 of 2: clean 41.4 %" in texts(app)
