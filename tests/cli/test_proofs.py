"""`python -m explorer certify --kind`: deterministic certificates counted, and the card that keeps them."""

import json

import pytest
import torch

from explorer.certify.certifiers import CERTIFIERS
from explorer.data import load
from explorer.evaluation import tables
from explorer.models import zoo

MODEL = "fashion_mnist/fashion-mlp"
WORDS = ("certify", MODEL, "--kind", "interval", "--images", "12")


def test_measures_count_who_is_right_and_proven_and_the_card_keeps_them(cli, monkeypatch):
    kept = []
    monkeypatch.setattr("explorer.cli._proofs.write_card", lambda name, measures, _: kept.append((name, measures)))
    said = cli(*WORDS, "--write", "--json", "-")
    assert said.code == 0, said.err
    facts = json.loads(said.out)
    images, model = load("fashion_mnist", n=12), zoo.load(MODEL)
    with torch.no_grad():
        right = (model(images.x).argmax(1) == images.y).tolist()
    radii = [CERTIFIERS["interval"]().certificate(model, x).radius for x in images.x]
    assert facts["radii"] == pytest.approx(radii, rel=1e-6)
    for measure in facts["measures"]:
        assert measure["correct"] == sum(
            ok and r >= measure["eps"] for ok, r in zip(right, facts["radii"], strict=True)
        )
    assert facts["measures"][0]["accuracy"] == sum(right) / 12 > 0.5
    ((name, measures),) = kept
    assert name == MODEL and [m.to_dict() for m in measures] == facts["measures"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--kind", "gaussian"), "gaussian draws at random"),
        (("--kind", "column"), "Column smoothing needs a network that looks at columns"),
        (("--kind", "magic"), "magic"),
        (("--kind", "interval", "--sigma", "0.5"), "--sigma is of noise"),
        (("--kind", "interval", "--images", "0"), r"images must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(cli, words, sentence):
    said = cli("certify", MODEL, *words)
    assert said.code == 2 and sentence in said.err and "Traceback" not in said.err


def test_a_table_names_the_proof_and_its_distance():
    measure = {"kind": "certified", "certificate": "column", "norm": "patch", "eps": 5.0}
    assert tables.what(measure) == "certified at patch 5x5, Column smoothing"
    smoothed = {"kind": "certified", "norm": "l2", "eps": 0.25, "sigma": 0.5}
    assert tables.what(smoothed) == "certified at L2 0.25, sigma 0.5"
