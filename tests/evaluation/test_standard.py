"""What a card gets, on tiny untrained models of the zoo."""

import json

import pytest

from explorer.core import UnknownName
from explorer.data import dataset
from explorer.evaluation import standard
from explorer.evaluation.standard import standard_measures, write_measures
from explorer.models import ARCHITECTURES, zoo

SIZES = {"clean_n": 20, "n": 10, "averaged_n": 2, "source": "sample", "batch": 20}


@pytest.fixture
def models(tmp_path, monkeypatch):
    """cifar10/plain, cifar10/random (stochastic), cifar10/noisy (sigma 0.25), each of a few hundred parameters."""
    monkeypatch.setattr(zoo, "roots", lambda: [tmp_path])
    spec = dataset("cifar10")
    for name, units, sigma in (("plain", 0, None), ("random", 2, None), ("noisy", 0, 0.25)):
        arguments = {"width": 2, "units": units}
        model = ARCHITECTURES["preact-resnet18"](spec.mean, spec.std, spec.shape, 10, **arguments).freeze()
        about = zoo.Card(
            name=f"cifar10/{name}", title=name, summary="", dataset="cifar10", architecture="preact-resnet18",
            arguments=arguments, parameters=0, stochastic=units > 0, recipe="", hyper={}, recipe_hash="", training={},
            history=[], file="", precision="float16", sha256="", bytes=0, command="", sigma=sigma,
        )  # fmt: skip
        zoo.write(tmp_path / "cifar10", about, model)
    return tmp_path


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    def short(one):
        label, attacks, ball = one
        fewer = {"steps": 2, "draws": 2, "target_classes": 1}
        return (
            label,
            tuple((key, hyper | {k: v for k, v in fewer.items() if k in hyper}) for key, hyper in attacks),
            ball,
        )

    monkeypatch.setattr(standard, "DRAWN_PGD", short(standard.DRAWN_PGD))
    for name in ("PLAIN", "AVERAGED"):
        monkeypatch.setattr(standard, name, tuple(map(short, getattr(standard, name))))
    label, attacks, ball = standard.IN_TURN
    monkeypatch.setattr(standard, "IN_TURN", (label, tuple((k, h | {"steps": 2}) for k, h in attacks), ball))
    monkeypatch.setattr(standard, "TRANSFER", short(standard.TRANSFER))


def kinds(measures):
    return [(m.kind, m.attack, m.norm, m.draws, m.verdict_draws, m.source_model) for m in measures]


def test_a_deterministic_model(models):
    seen = []
    measures = list(standard_measures("cifar10/plain", **SIZES, progress=lambda *at: seen.append(at)))
    assert kinds(measures) == [
        ("clean", None, None, None, 1, None),
        ("white-box", "fgsm", "linf", 1, 1, None),
        ("white-box", "pgd", "linf", 1, 1, None),
        ("white-box", "pgd", "l2", 1, 1, None),
        ("white-box", "apgd-ce+apgd-t", "linf", 1, 1, None),
    ]
    assert [m.n for m in measures] == [20, 10, 10, 10, 10]
    assert [m.eps for m in measures] == [None, 8 / 255, 8 / 255, 0.5, 8 / 255]
    assert [m.restarts for m in measures[1:4]] == [1, 3, 3]
    assert all("bundled sample" in m.data and "drawn with seed 0" in m.chosen for m in measures)
    assert ("clean", 20, 20) in seen and ("PGD-50, L2 0.5", 10, 10) in seen


def test_what_a_run_measures_at_its_end_takes_less_time(models):
    plain = list(standard_measures("cifar10/plain", **SIZES, thorough=False))
    assert [(m.attack, m.restarts) for m in plain] == [(None, None), ("fgsm", 1), ("pgd", 1), ("pgd", 1)]
    random = list(standard_measures("cifar10/random", **SIZES, thorough=False, transfer_from=[]))
    assert [m.attack for m in random if m.kind == "adaptive"] == ["pgd"]


def test_a_stochastic_model_three_ways(models):
    measures = list(standard_measures("cifar10/random", **SIZES))
    assert kinds(measures) == [
        ("clean", None, None, None, 20, None),
        ("clean", None, None, None, 1, None),
        ("white-box", "fgsm", "linf", 1, 20, None),
        ("white-box", "pgd", "linf", 1, 20, None),
        ("white-box", "pgd", "l2", 1, 20, None),
        ("adaptive", "fgsm", "linf", 2, 20, None),
        ("adaptive", "pgd", "linf", 2, 20, None),
        ("adaptive", "pgd", "l2", 2, 20, None),
        ("adaptive", "apgd-ce+apgd-t", "linf", 2, 20, None),
        ("transfer", "pgd", "linf", 1, 20, "cifar10/plain"),
    ]
    assert measures[5].n == 2 and all("not adaptive" in m.note for m in measures[2:5])
    assert not any("not adaptive" in m.note for m in measures[5:])


def test_the_base_of_a_smoothed_classifier(models):
    measures = list(standard_measures("cifar10/noisy", **SIZES))
    assert [(m.kind, m.attack, m.sigma) for m in measures] == [
        ("clean", None, None),
        ("noisy", None, 0.25),
        ("white-box", "fgsm", None),
        ("white-box", "pgd", None),
        ("white-box", "pgd", None),
        ("white-box", "apgd-ce+apgd-t", None),
    ]


def test_measures_enter_the_card_and_replace_their_elders(models):
    first = list(standard_measures("cifar10/plain", **SIZES))
    write_measures("cifar10/plain", first)
    again = list(standard_measures("cifar10/plain", **(SIZES | {"n": 12}), seed=1))[1:2]
    card = write_measures("cifar10/plain", again)
    assert [m["n"] for m in card.measures] == [20, 12, 10, 10, 10] and card.measures[1]["seed"] == 1
    assert zoo.card("cifar10/plain") == card
    zoo.load("cifar10/plain")  # the weights still fit the card
    text = (models / "cifar10" / "plain.json").read_text()
    assert json.loads(text)["measures"] == [
        m.to_dict() | {"weights": card.identity} for m in (first[0], again[0], *first[2:])
    ]


def test_the_card_of_the_last_root_is_written(models, tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "cifar10").mkdir(parents=True)
    for file in (models / "cifar10").glob("plain.*"):
        (other / "cifar10" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(zoo, "roots", lambda: [models, other])
    write_measures("cifar10/plain", list(standard_measures("cifar10/plain", **SIZES))[:1])
    assert json.loads((models / "cifar10" / "plain.json").read_text())["measures"] == []
    assert len(json.loads((other / "cifar10" / "plain.json").read_text())["measures"]) == 1


def test_unknown_models_are_refused(models):
    with pytest.raises(UnknownName, match="Unknown model 'cifar10/plan'. Did you mean 'cifar10/plain'?"):
        list(standard_measures("cifar10/plan"))
    with pytest.raises(UnknownName):
        write_measures("cifar10/plan", [])
