"""Certify's picture of a model that looks at columns: each look with its vote, and what a patch of a chosen side could do."""

import re

import pytest
import torch

from explorer.certify.certifiers.column import ColumnSmoothing
from explorer.data import dataset, raw
from explorer.models import ARCHITECTURES, zoo

from .app import texts
from .test_certify import open_app

NAME = "fashion_mnist/column"


@pytest.fixture(scope="module", autouse=True)
def zoo_of_columns(tmp_path_factory):
    folder, spec = tmp_path_factory.mktemp("zoo"), dataset("fashion_mnist")
    arguments = {"width": 4, "columns": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ARCHITECTURES["column-resnet"](spec.mean, spec.std, spec.shape, 10, **arguments)
    model.base[-1].weight.data *= 300  # else no look finds any class probable
    blank = dict.fromkeys(("title", "summary", "recipe", "recipe_hash", "file", "sha256", "command"), "")
    card = zoo.Card(
        name=NAME, dataset="fashion_mnist", architecture="column-resnet", arguments=arguments, stochastic=False,
        parameters=sum(p.numel() for p in model.parameters()), hyper={}, training={}, history=[], bytes=0,
        precision="float32", **blank,
    )  # fmt: skip
    zoo.write(folder / "fashion_mnist", card, model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPLORER_CHECKPOINTS", str(folder))
        yield model.freeze()


def cells(app):
    (html,) = [one.proto.body for one in app.get("html") if "their votes" in one.proto.body]
    return re.findall(r'alt="look (\d+), votes for ([^"]+)"', html)


def test_every_look_is_shown_with_its_vote_and_the_patch_is_the_certificate_s(zoo_of_columns):
    app = open_app({"data": "fashion_mnist", "model": NAME, "image": "3", "n": "20", "n0": "10"})
    assert app.session_state["certify.looks"].wait(60) and app.session_state["certify.future"].wait(60)
    app.run()
    assert not app.exception and len(cells(app)) == 28
    proof = ColumnSmoothing().certificate(zoo_of_columns, raw("fashion_mnist", "test", "sample")[0][3].float() / 255)
    winner, votes = dataset("fashion_mnist").classes[proof.label], proof.detail["votes"]
    assert f"**{winner}** wins with {max(votes)} of 28 looks" in texts(app)
    assert sum(winner in said for _, said in cells(app)) == max(votes)
    assert app.slider(key="certify.looks.patch").value == proof.radius + 1
    app.slider(key="certify.looks.patch").set_value(28).run()
    assert not app.exception and "from 1 of 1 leftmost columns" in texts(app)  # what covers all looks turns any vote
    if proof.radius:
        app.slider(key="certify.looks.patch").set_value(int(proof.radius)).run()
        assert "could from 0 of" in texts(app)
    app.session_state["image"] = 4
    app.run()
    assert app.session_state["certify.looks.of"].image == 4 and app.session_state["certify.looks"].wait(60)
