"""`python -m explorer certify`: certified accuracies with their conditions, and the card that keeps them."""

import json
from functools import partial

import pytest

from explorer.certify import certify
from explorer.cli.certify import RADII
from explorer.data import load
from explorer.evaluation.predicting import predict_measures
from explorer.models import zoo

WORDS = ("certify", "cifar10/tiny", "--images", "10", "--n0", "10", "--n", "60", "--sigma", "0.5")


def test_certificates_are_those_of_the_library_and_are_summed_up(cli, tiny, tmp_path):
    said = cli(*WORDS, "--seed", "3", "--json", tmp_path / "c.json")
    assert said.code == 0, said.err
    facts = json.loads((tmp_path / "c.json").read_text("utf-8"))
    images, model = load("cifar10", n=10), zoo.load("cifar10/tiny")
    for image, label, one in zip(images.x, images.y.tolist(), facts["certificates"], strict=True):
        again = certify(model, image, 0.5, n0=10, n=60, seed=one["seed"], true_label=label)
        assert (one["true_label"], one["label"], one["radius"]) == (label, again.label, again.radius)
    right = [one["radius"] for one in facts["certificates"] if one["label"] == one["true_label"]]
    assert facts["acr"] == pytest.approx(sum(right) / 10)
    shares = [sum(radius >= at for radius in right) / 10 for at in RADII]
    assert [measure["accuracy"] for measure in facts["measures"]] == shares
    assert "sigma 0.5, n0 10, n 60, alpha 0.001, seed 3" in said.out and "average certified radius" in said.out


def test_seeds_are_drawn_and_told_unless_a_run_is_to_be_repeated(cli, tiny):
    runs = [json.loads(cli(*WORDS, "--json", "-").out) for _ in range(2)]
    assert runs[0]["seed"] != runs[1]["seed"]
    again = json.loads(cli(*WORDS, "--seed", runs[0]["seed"], "--json", "-").out)
    assert again["certificates"] == runs[0]["certificates"]


def test_a_run_that_was_stopped_goes_on_where_it_was(cli, tiny, tmp_path, monkeypatch):
    words, log = (*WORDS, "--resume", tmp_path / "run.jsonl"), tmp_path / "run.jsonl"
    whole = json.loads(cli(*words, "--json", "-").out)
    lines = log.read_text("utf-8").splitlines(keepends=True)
    log.write_text("".join(lines[:4]) + lines[4][:20], "utf-8")  # killed while it wrote the fourth
    again = cli(*words, "--json", "-")
    assert "3 certificates are in" in again.err and json.loads(again.out)["seed"] == whole["seed"]
    assert json.loads(again.out)["certificates"] == whole["certificates"]
    never = lambda *_, **__: pytest.fail("nothing is left to do")  # noqa: E731
    monkeypatch.setattr("explorer.certify.Smoothed.certify", never)
    done = cli(*words, "--json", "-")
    assert done.code == 0 and json.loads(done.out)["certificates"] == whole["certificates"]
    other = cli(*words, "--n", "70")
    assert other.code == 2 and "is of another run: n is 60 there, and 70 now" in other.err
    assert "leave --predict and --bench out" in cli(*words[:4], "--predict", "--resume", log).err


def test_sound_certificates_are_called_so(cli, tiny, tmp_path):
    said = cli(*WORDS, "--sound", "--json", tmp_path / "c.json")
    facts = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert said.code == 0 and facts["sound"] and all(one["sound"] for one in facts["certificates"])
    assert "sound in floating point" in said.out and "not sound" not in said.out
    assert "not sound in floating point" in cli(*WORDS).out


def test_speed_is_measured_beside_the_published_procedure(cli, tiny):
    facts = json.loads(cli("certify", "cifar10/tiny", "--bench", "--n", "100", "--json", "-").out)
    assert [row["what"] for row in facts["rows"]] == ["ours", "plain, 400 at once", "plain, 1000 at once"]
    assert facts["rows"][0]["ratio"] == 1 and all(row["ratio"] > 0 and row["cpu_ratio"] > 0 for row in facts["rows"])
    assert facts["grown_mib"] < 200 and facts["n"] == 100


def test_the_card_keeps_the_newest_measure_of_each_radius(cli, tiny):
    assert cli(*WORDS, "--write").code == 0
    assert cli(*WORDS, "--write", "--seed", "1").code == 0
    measures = zoo.card("cifar10/tiny").measures
    assert [(m["kind"], m["eps"], m["seed"]) for m in measures] == [("certified", r, 1) for r in RADII]
    assert cli(*WORDS, "--write", "--alpha", "0.01").code == 0  # another question
    assert len(zoo.card("cifar10/tiny").measures) == 2 * len(RADII)
    assert zoo.card("cifar10/tiny").sha256 == tiny.sha256


def test_predict_abstains_or_answers(cli, tiny):
    facts = json.loads(cli(*WORDS[:4], "--predict", "--n", "50", "--json", "-").out)
    answers = [(one["label"], one["true_label"]) for one in facts["predictions"]]
    assert len(answers) == 10 and facts["abstained"] == sum(label is None for label, _ in answers)
    assert facts["accuracy"] == sum(label == truth for label, truth in answers) / 10
    assert len({one["seed"] for one in facts["predictions"]}) == 10  # no two images share their noise


def test_predict_s_answers_are_counted_for_each_n_and_kept(cli, tiny, monkeypatch):
    words = (*WORDS[:4], "--sigma", "0.5", "--predict", "--counts", "--n", "20,50", "--write")
    small = partial(predict_measures, max_draws=200)
    monkeypatch.setattr("explorer.cli.certify.predict_measures", small)
    said = cli(*words, "--json", "-")
    facts = json.loads(said.out)
    assert [m["draws"] for m in facts["measures"]] == facts["n"] == [20, 50]
    assert all(sum(one["images"] for one in m["outcomes"].values()) == m["n"] == 10 for m in facts["measures"])
    assert "right, accurate" in said.err and "top class over 200 fresh draws" in said.err
    card = zoo.card("cifar10/tiny")
    assert card.measures == [m | {"weights": card.identity} for m in facts["measures"]]
    assert cli(*words, "--seed", "1").code == 0
    assert [(m["kind"], m["draws"], m["seed"]) for m in zoo.card("cifar10/tiny").measures] == [
        ("predict", 20, 1),
        ("predict", 50, 1),
    ]


def test_the_average_radius_and_the_abstentions_are_kept_by_themselves(cli, tiny):
    facts = json.loads(cli(*WORDS, "--write", "--json", "-").out)
    for measure in zoo.card("cifar10/tiny").measures:
        assert measure["average_radius"] == {"value": facts["acr"], "low": facts["acr_low"], "high": facts["acr_high"]}
        assert measure["abstained"] == facts["abstained"] and measure["note"] == "smoothed; not sound in floating point"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["cifar10/tinny"], "Did you mean 'cifar10/tiny'?"),
        (["cifar10/tiny", "--sigma", "0"], "sigma must be a number in"),
        (["cifar10/tiny", "--n", "0"], "n must be a whole number"),
        (["cifar10/tiny", "--alpha", "0.7"], "alpha must be a number in"),
        (["cifar10/tiny", "--n", "9"], "n must be at least 10 to certify anything at alpha 0.001; got 9"),
        (["cifar10/tiny", "--bench", "--write"], "--bench measures the speed alone"),
        (["cifar10/tiny", "--counts"], "--counts belongs to --predict"),
        (["cifar10/tiny", "--predict", "--write"], "add --counts"),
        (["cifar10/tiny", "--predict", "--counts", "--n", "100,x"], "n must be a whole number"),
        (["cifar10/tiny", "--predict", "--counts", "--n", "100,50"], "must rise"),
        (["cifar10/tiny", "--images", "0"], "images must be a whole number in [1, 10000]"),
        (["cifar10/tiny", "--images", "9000"], "the full set"),
        (["cifar10/tiny", "--seed", "x"], "seed must be a whole number"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(words, part, cli, tiny, monkeypatch):
    monkeypatch.delenv("EXPLORER_DATA", raising=False)
    said = cli("certify", *words)
    assert said.code == 2 and part in said.err and said.err.count("\n") == 1
