"""The reports' tables beside ours: which measure becomes which cell, and that the page in the docs is what the cards say."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from explorer.core import InvalidValue
from explorer.evaluation import reports
from explorer.evaluation.report_tables import Ask, Row, fgsm, pgd, tables, wanted
from explorer.evaluation.reports import lines, markdown, result, settings_measures
from explorer.models import zoo

DOCS = Path(__file__).parents[2] / "docs"


def card(name, *measures):
    return zoo.Card(
        name=name, title=name, summary="", dataset=name.split("/")[0], architecture="", arguments={}, parameters=0,
        stochastic=False, recipe="", hyper={}, recipe_hash="", training={}, history=[], file="", precision="", sha256="",
        bytes=0, command="", measures=list(measures),
    )  # fmt: skip


def under(attack, eps, accuracy, n=1000, norm="linf", kind="white-box", draws=1, **more):
    hyper = {"pgd": {"steps": 50, "rel_step": 0.1, "restarts": 3, "loss": "ce"}, "fgsm": {"loss": "ce"}}[attack]
    return {
        "kind": kind, "attack": attack, "hyper": {**hyper, "draws": draws}, "norm": norm, "eps": eps, "n": n,
        "accuracy": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02, "draws": draws, "verdict_draws": 1, "note": "",
        "source_model": None, "variant": None, **more,
    }  # fmt: skip


def row_of(found, what):
    return next(row for table in found for row in table["rows"] if row["what"] == what)


def test_a_cell_is_the_measure_under_exactly_its_conditions():
    ask = fgsm("cifar10/x", 0.01)
    assert ask.fits(under("fgsm", 0.01, 0.5))
    others = (
        under("fgsm", 0.02, 0.5),
        under("pgd", 0.01, 0.5),
        under("fgsm", 0.01, 0.5, kind="transfer", source_model="cifar10/y"),
        under("fgsm", 0.01, 0.5, kind="adaptive", draws=20),
        under("fgsm", 0.01, 0.5, variant="another network"),
        under("fgsm", 0.01, 0.5, norm="l2"),
    )
    assert not any(ask.fits(other) for other in others)
    few_restarts = under("pgd", 0.01, 0.5)
    few_restarts["hyper"]["restarts"] = 1
    assert not pgd("cifar10/x", "linf", 0.01).fits(few_restarts)
    few, many = under("fgsm", 0.01, 0.4, n=100), under("fgsm", 0.01, 0.5, n=1000)
    assert ask.find({"cifar10/x": card("cifar10/x", few, many)}) is many
    assert ask.find({}) is None


def test_a_published_number_stands_beside_ours_with_its_conditions():
    found = result([card("cifar10/pgd-linf", under("fgsm", 0.01, 0.72), under("pgd", 0.01, 0.7))])
    row = row_of(found, "FGSM, L∞ 0.01, trained on PGD images")
    cell, _ = row["ours"]  # pgd-l2 stands beside it
    assert row["published"] == "68.74" and cell["value"] == 72.0 and cell["stands"] == "above" and cell["n"] == 1000
    line, _ = lines(row)
    assert (
        line[:4] == ["FGSM, L∞ 0.01, trained on PGD images", "68.74", "72.0", "70.0 to 74.0"] and "L∞ 0.01" in line[6]
    )
    unfair = row_of(found, "PGD, L∞ 0.01, trained on PGD images")  # no plain accuracy: ours is not held against it
    assert unfair["ours"][0]["value"] == 70.0 and unfair["ours"][0]["stands"] == ""
    assert "50 steps, 3 restarts" in unfair["ours"][0]["how"]
    missing = row_of(found, "FGSM, L∞ 0.05, trained on PGD images")
    assert missing["ours"][0]["value"] is None and next(lines(missing))[2] == "not measured"


@pytest.mark.parametrize(("accuracy", "stands"), [(0.66, "below"), (0.69, "within the interval"), (0.72, "above")])
def test_how_ours_stands(accuracy, stands):
    row = Row("x", "68.74", ())
    assert reports._stands(row, 100 * accuracy, 100 * accuracy - 2, 100 * accuracy + 2) == stands


def test_every_table_says_where_it_is_from_and_random_networks_stand_both_ways():
    every = tables()
    assert len({table.key for table in every}) == len(every)
    assert all(table.source.what and table.rows for table in every)
    assert all(row.theirs == "" or float(row.theirs) >= 0 for table in every for row in table.rows)
    naive_and_adaptive = [ask.kind for table in every if table.key == "lwta" for ask in table.rows[2].asks]
    assert naive_and_adaptive == ["white-box", "adaptive"]
    text = markdown(result([]))
    assert text.count("\n## ") == len(every) and "68.74" in text and "0.9884" in text


def test_what_is_asked_of_a_model_is_asked_once():
    asks = wanted("cifar10/pgd-linf")
    assert len(asks) == len([a for i, a in enumerate(asks) if a not in asks[:i]])
    assert fgsm("cifar10/pgd-linf", 0.01) in asks and Ask("cifar10/pgd-linf") in asks
    assert wanted("cifar10/nobody") == []


def test_only_models_of_the_tables_have_report_settings(monkeypatch):
    monkeypatch.setattr(zoo, "card", lambda name: card(name))
    with pytest.raises(InvalidValue, match="no report"):
        list(settings_measures("cifar10/nobody"))


@pytest.mark.parametrize(("stochastic", "images"), [(True, 2000), (False, 10_000)])
def test_a_stochastic_model_is_measured_clean_on_fewer_images(monkeypatch, stochastic, images):
    monkeypatch.setattr(zoo, "card", lambda name: card(name))
    monkeypatch.setattr(zoo, "load", lambda name, device: SimpleNamespace(stochastic=stochastic))
    monkeypatch.setattr(reports, "wanted", lambda name: [Ask(name)])
    monkeypatch.setattr(reports, "load", lambda dataset, split, size, *rest: range(size or 10_000))
    monkeypatch.setattr(reports, "clean_accuracy", lambda model, images, *, chosen, **rest: (len(images), chosen))
    ((n, chosen),) = settings_measures("cifar10/somebody")
    assert n == images and f"{images:,}" in chosen


def test_the_page_in_the_docs_is_what_the_cards_say():
    """If this fails: python -m explorer evaluate --reports --markdown > docs/reports.md"""
    own = [c for c in zoo.cards() if zoo.card_path(c.name).is_relative_to(DOCS.parent)]
    assert (DOCS / "reports.md").read_text(encoding="utf-8") == markdown(result(own)) + "\n"
