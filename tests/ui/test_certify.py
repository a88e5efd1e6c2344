"""The Certify page without a browser: first view, links, refusals, a certificate, an attack on it, an alarm, a set."""

import re
from dataclasses import replace
from functools import partial
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.certify import Certificate, Prediction
from explorer.engine.attacking_smoothed import Attempt, SmoothedAttack, SmoothedProbe, SmoothedSearch
from explorer.engine.shadowing import Shadowing, ShadowOnCertificate
from explorer.evaluation import published
from explorer.evaluation.predicting import OUTCOMES
from explorer.jobs import Store
from explorer.models import zoo
from explorer.ui import session
from explorer.ui.certify import picture
from explorer.ui.text import certificate as certify_words
from explorer.ui.text import certified as certify_tables
from explorer.ui.text import shadow as shadow_words
from tests.ui.app import ended, open_page, press, texts

MODEL = "cifar10/gaussian-0.25"
QUICK = {"data": "cifar10", "image": "317", "model": MODEL, "n": "200", "n0": "20"}
SET = {"view": "set", "data": "cifar10", "model": MODEL, "count": "10", "n": "20", "n0": "10"}


open_app = partial(open_page, "certify")


finished = partial(ended, key="certify.future")


def made(votes: tuple[int, ...], **changes) -> Certificate:
    asked = {
        "sigma": 0.25,
        "n0": 20,
        "alpha": 0.001,
        "seed": 1,
        "precision": "float32",
        "sound": False,
        "skipped": False,
    }
    selection = tuple(20 * (i == int(np.argmax(votes))) for i in range(10))
    return Certificate.from_votes(selection, votes, 0, n=sum(votes), **(asked | changes))


@pytest.fixture(scope="module")
def quick() -> AppTest:
    return finished(open_app(QUICK))


def test_a_link_is_certified_at_once_and_stays_in_the_address(quick):
    assert not quick.exception
    now = quick.session_state["certify.future"].latest
    assert now.certificate.n == 200 and now.certificate.sigma == 0.25  # the card's
    assert str(now.certificate.seed) in texts(quick) and "Not sound in floating point" in texts(quick)
    assert quick.query_params["n"] == "200" and "settings have changed" not in texts(quick)
    if now.certificate.label is not None:
        assert f"within {now.certificate.radius_text()}" in texts(quick)


def test_asking_again_gives_the_same_certificate(quick):
    before = quick.session_state["certify.future"].latest.certificate
    again = finished(press(finished(open_app(QUICK)), "certify.begin"))
    now = again.session_state["certify.future"].latest
    assert now.kept and now.certificate == before and certify_words.progress(now)[1].startswith("Made before")


def test_a_long_certificate_says_how_long_it_takes(quick):
    now = quick.session_state["certify.future"].latest
    asked = replace(now.request, n0=100, n=9900)
    half = replace(now, request=asked, certificate=None, progress=SimpleNamespace(done=2000), seconds=50.0)
    assert certify_words.progress(half) == (
        0.2,
        "2,000 of 10,000 noisy copies have voted, about 3 min 20 s of computing left.",
    )
    assert "left" not in certify_words.progress(replace(half, seconds=1.0))[1]


@pytest.mark.parametrize(("change", "word"), [({"sigma": "0"}, "sigma"), ({"n": "5"}, "at least 10"), ({"alpha": "2"}, "alpha"),
                                              ({"n": "10000000"}, "100000"), ({"model": "cifar10/none"}, "none")])  # fmt: skip
def test_a_link_that_cannot_be_followed_says_why(change, word):
    app = open_app(QUICK | change)
    assert not app.exception
    (sentence,) = [w.value for w in app.warning if "could not be followed" in w.value]
    assert word in sentence
    app.session_state["certify.future"].cancel()


@pytest.mark.parametrize(("key", "value", "word"), [("certify.sigma", 0.0, "sigma"), ("certify.n", 5, "at least 10"),
                                                    ("certify.alpha", 0.0, "alpha")])  # fmt: skip
def test_what_the_controls_may_not_say_is_one_sentence(key, value, word):
    app = finished(open_app(QUICK))
    app.number_input(key=key).set_value(value).run()
    assert not app.exception
    (sentence,) = [e.value for e in app.error if word in e.value]
    assert sentence.count("\n") == 0
    press(app, "certify.begin")
    assert not app.exception and [e.value for e in (*app.error, *app.warning) if word in e.value] == [
        sentence
    ]  # said once


def test_changed_settings_are_announced_and_the_model_brings_its_sigma():
    app = finished(open_app(QUICK | {"sigma": "0.5"}))
    assert app.number_input(key="certify.sigma").value == 0.5
    app.selectbox(key="certify.model").set_value("cifar10/baseline").run()
    assert "settings have changed" in texts(app) and app.number_input(key="certify.sigma").value == 0.5
    app.selectbox(key="certify.model").set_value(MODEL).run()
    assert app.number_input(key="certify.sigma").value == 0.25
    finished(press(app, "certify.begin"))
    assert "settings have changed" not in texts(app) and app.query_params["sigma"] == "0.25"
    assert "This picture, so far" in texts(app) and len(app.session_state["certify.made"]) == 2


def test_a_sound_certificate_is_called_so():
    app = finished(open_app(QUICK | {"sound": "1"}))
    assert not app.exception and "Sound in floating point:" in texts(app) and "Not sound" not in texts(app)


def test_cancelled_it_certifies_nothing():
    app = open_app(QUICK | {"n": "100000"})
    future = app.session_state["certify.future"]
    next(future.events())
    press(app, "certify.cancel")
    assert future.wait(20) and future.state == "cancelled"
    app.run()
    assert "certifies nothing" in texts(app) and "That comes when all" in texts(app)


def test_the_smoothed_model_is_attacked():
    app = finished(open_app(QUICK))
    for name, value in (("steps", 1), ("draws", 1), ("n", 20), ("width", 0.5)):
        app.number_input(key=f"certify.by.{name}").set_value(value)
    ended(press(app.run(), "certify.attack.run"), "certify.attack")
    assert not app.exception
    search = app.session_state["certify.attack"].latest
    assert search.settings == SmoothedAttack(steps=1, draws=1, n=20, width=0.5) and search.ended
    assert not search.probes or "one attack alone" in texts(app)
    assert search.certificate == app.session_state["certify.future"].latest.certificate
    assert ("Nearest attack" in texts(app) or "No attack succeeded" in texts(app)) or search.ended == "abstained"
    press(app, "certify.begin")
    assert app.session_state["certify.attack"] is None  # it belonged to the certificate before


def test_a_shadow_is_cast_and_the_shadowed_picture_certified():
    app = finished(open_app(QUICK))
    for name, value in (("steps", 2), ("draws", 1)):
        app.number_input(key=f"certify.shadow.by.{name}").set_value(value)
    ended(press(app.run(), "certify.shadow.run"), "certify.shadow")
    found = app.session_state["certify.shadow"].latest
    assert not app.exception and found.ended == "done" and found.step == 2 and found.certificate.n == 200
    assert "Certified, and wrong" in texts(app) if found.spoofed else "No certificate for a wrong class" in texts(app)
    assert "the shadow, ×" in texts(app)
    press(app, "certify.begin")
    assert app.session_state["certify.shadow"] is None  # it belonged to the certificate before


def test_what_a_shadow_means_in_words():
    request = SimpleNamespace(classes=tuple("abcdefghij"))
    clean = Prediction(6, 0.0, (500,) + (0,) * 9, 0, 0.25, 500, 0.001, 1, "float32")
    now = Shadowing(request, ShadowOnCertificate(), clean, step=60, ended="done", linf=0.2, l2=4.0)
    own, other = (replace(made((0,) * k + (200,) + (0,) * (9 - k)), radius=0.375) for k in (6, 3))
    spoofed, sentence = shadow_words.said(replace(now, certificate=other), own)
    assert (
        spoofed == "spoofed"
        and "a d is certified at L2 radius 0.375; the picture's own certificate reached 0.375" in sentence
    )
    assert "51/255 (L∞); its length is 4 (L2), far outside" in sentence
    failed, sentence = shadow_words.said(replace(now, certificate=own), own)
    assert failed == "failed" and "still certifies a g" in sentence and not replace(now, certificate=own).spoofed
    assert "abstains" in shadow_words.said(replace(now, certificate=replace(own, label=None)), own)[1]
    assert shadow_words.said(replace(now, ended="abstained"), own)[1].startswith("**Nothing to attack.**")
    assert (
        shadow_words.progress(replace(now, step=30))[0] == 0.5
        and shadow_words.progress(replace(now, proof=0.2))[0] == 0.2
    )


def test_the_attack_is_quick_unless_it_is_to_be_thorough():
    app = finished(open_app(QUICK))
    effort = app.segmented_control(key="certify.by.preset")
    assert effort.value == "quick" and "It may miss nearer attacks" in texts(app)
    effort.set_value("thorough").run()
    assert app.number_input(key="certify.by.steps").value == SmoothedAttack(**SmoothedAttack.presets["thorough"]).steps
    assert not app.exception


def test_a_running_attack_says_what_it_tries():
    clean = Prediction(6, 0.0, (500,) + (0,) * 9, 0, 0.25, 500, 0.001, 1, "float32")
    now = SmoothedSearch(None, SmoothedAttack(), clean, seconds=3.2)
    assert certify_words.trying(now)[0] == 0 and "untouched picture" in certify_words.trying(now)[1]
    share, said = certify_words.trying(replace(now, attempt=Attempt(0.75, "PGD, ce", 5, 20)))
    assert share == 0.25 and "L2 0.75" in said and "step 5 of 20" in said and "0 distances tried, 3 s" in said
    assert "is judged" in certify_words.trying(replace(now, attempt=Attempt(0.75, "PGD, ce", 20, 20)))[1]


def test_an_attack_inside_the_radius_is_an_alarm(monkeypatch):
    def inside(engine, request, settings, certificate):
        counts = (500,) + (0,) * 9
        clean = Prediction(6, 0.0, counts, 0, 0.25, 500, 0.001, 1, "float32")
        probe = SmoothedProbe(0.1, True, False, "PGD, ce", 0.1, replace(clean, label=3), 1, 1)
        sure = replace(made((0,) * 6 + (200,) + (0,) * 3), radius=0.375)
        found = np.zeros((3, 32, 32), np.float32)
        yield_it = SmoothedSearch(
            request, settings, clean, sure, (probe,), found, 0.1, 3, "inside", 1.0, "probes",
            {"attacks": ["PGD, ce"], "steps": 1, "probes": 1, "draws": 1, "n": 500, "alpha": 0.001, "seconds": 1.0,
             "device": "a computer", "seed": 1},
        )  # fmt: skip
        return lambda: iter([yield_it])

    monkeypatch.setattr("explorer.ui.certify.attacked.attack_smoothed_work", inside)
    app = ended(press(finished(open_app(QUICK)), "certify.attack.run"), "certify.attack")
    assert not app.exception
    (alarm,) = [e.value for e in app.error if "Alarm" in e.value]
    assert "cat" in alarm and "0.1000" in alarm and "0.3750" in alarm and "frog" in alarm


def test_a_set_is_certified_beside_the_cards():
    app = finished_set(open_app(SET))
    assert not app.exception and "Certified accuracy" in texts(app)
    ((_, future),) = app.session_state["certify.set.made"]
    assert (
        len(future.latest.certificates) == 10
        and app.query_params["view"] == "set"
        and app.query_params["count"] == "10"
    )
    assert "10 × 20, here" in texts(app) and "500 × 10,000, card" in texts(app)
    finished_set(press(app, "certify.set.ordinary"))
    assert [asked.model for asked, _ in app.session_state["certify.set.made"]] == [MODEL, "cifar10/baseline"]
    assert "Measured here: **Baseline**" in texts(app)
    press(app, "certify.set.clear")
    assert not app.session_state["certify.set.made"] and not app.exception


def finished_set(app: AppTest) -> AppTest:
    assert app.session_state["certify.set.made"][-1][1].wait(60)
    return app.run()


def test_a_set_that_cannot_be_made_is_one_sentence():
    app = open_app(SET | {"sigma": "0"})
    assert not app.exception and any("could not be followed" in w.value and "sigma" in w.value for w in app.warning)
    assert "certify.set.made" not in app.session_state
    app.number_input(key="certify.each").set_value(5).run()
    assert any("at least 10" in e.value for e in app.error)


def test_the_views_change_and_choices_stay():
    app = finished(open_app(QUICK))
    app.session_state["certify.view"] = "a test set"
    app.run()
    assert not app.exception and app.query_params["view"] == "set"
    assert "Beside the report and the paper" in [title.value for title in app.header]
    app.session_state["certify.view"] = "one picture"
    app.run()
    assert not app.exception and app.number_input(key="certify.n").value == 200 and app.query_params["n"] == "200"


@pytest.mark.parametrize(
    ("votes", "truth", "kind", "word"),
    [((0,) * 6 + (200, 0, 0, 0), 6, "right", "Certified: frog"), ((0,) * 6 + (200, 0, 0, 0), 3, "wrong", "The picture shows cat"),
     ((0, 0, 0, 95, 0, 0, 105, 0, 0, 0), 6, "abstained", "larger n"), ((60, 0, 0, 70, 0, 0, 70, 0, 0, 0), 6, "abstained", "hardly help")],
)  # fmt: skip
def test_verdicts_in_words(votes, truth, kind, word):
    classes = zoo_classes()
    found = certify_words.verdict(made(votes), classes, truth)
    assert found[0] == kind and word in found[1]


def zoo_classes():
    from explorer.data import dataset

    return dataset("cifar10").classes


def test_radii_are_rounded_down():
    assert certify_words.percent(0.99999) == "99.9 %"
    certificate = made((0,) * 6 + (200, 0, 0, 0))
    _, sentence = certify_words.verdict(certificate, zoo_classes(), 6)
    shown = sentence.split("within ")[1].split(".**")[0]
    assert 0 <= certificate.radius - float(shown) < 0.001


def test_the_figures_of_a_running_certificate_follow_in_steps(monkeypatch):
    inks = []
    monkeypatch.setattr(picture.st, "session_state", {})
    monkeypatch.setattr(picture, "dark", lambda: bool(inks))
    monkeypatch.setattr(picture, "_votes", lambda now: (now.progress.done, now.request))
    monkeypatch.setattr(picture, "_course", lambda now: None)

    def shown(done, certificate=None, request="a"):
        now = SimpleNamespace(request=request, progress=SimpleNamespace(done=done), certificate=certificate)
        return picture._newest_figures(now)[0]

    assert [shown(done)[0] for done in (0, 100, 110, 119, 121, 130)] == [0, 100, 100, 100, 121, 121]
    assert shown(131, certificate="made")[0] == 131  # the last is always drawn
    assert shown(5) == (5, "a") and shown(5, request="b") == (5, "b")
    inks.append("dark")
    assert shown(5.5, request="b") == (5.5, "b")  # in the page's new inks


def test_a_radius_is_put_into_terms_that_can_be_imagined():
    assert "3.1/255 on every one of the picture's 3,072 values" in certify_words.scale(0.68, 3072)


def card_with(rows, sigma=0.25) -> zoo.Card:
    """A card whose certified accuracies at some radii are given."""
    blank = next(card for card in zoo.cards() if card.name == MODEL)
    like = next(m for m in blank.measures if m["kind"] == "certified")
    measures = [
        like | {"eps": r, "accuracy": a, "low": a - 0.04, "high": a + 0.04, "sigma": sigma, "draws": 10_000}
        for r, a in rows
    ]
    return replace(blank, measures=measures)


def lines(table: str) -> list[list[str]]:
    """The cells of an HTML table as text."""
    rows = [re.findall("<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall("<tr.*?>(.*?)</tr>", table)]
    return [[unescape(" ".join(re.sub("<.*?>", " ", cell).split())) for cell in row] for row in rows]


def test_ours_stand_beside_the_published_numbers_and_come_from_the_cards():
    rows = lines(certify_tables.radii_table([card_with([(0.25, 0.6), (0.5, 0.39)])]))
    ours = next(row for row in rows if row[:2] == ["0.25", "ours, Gaussian noise, sigma 0.25"])
    assert ours[2] == "60.0 56.0 to 64.0" and ours[4] == "not measured"  # at 0.75
    assert ours[5:] == ["0 out of reach"] * 3  # n 10,000 cannot certify 1.0 and more at this sigma
    zeros = certify_tables.curves([card_with([(0.25, 0.6), (0.5, 0.39), (1.0, 0.0), (1.25, 0.0)])])
    assert list(zeros[0].radius) == [0.25, 0.5]  # a 0 that no picture could have missed is no point
    assert certify_tables.cell(card_with([(1.0, 0.0)]).measures, 1.0) == "0 [out of reach]"
    assert ["0.5", "ours", *["not measured"] * 6] in rows
    assert ["0.25", "Report", "55", "40", "26", "0", "0", "0"] in rows
    assert ["1", "Cohen et al.", "39", "34", "28", "22", "17", "14"] in rows
    assert certify_tables.standing([card_with([(0.25, 0.6), (0.5, 0.39)])]).startswith(
        "Of the report's 15 non-zero cells, 2 are measured here (the best of our models for each σ); 1 of them are"
    )
    assert certify_tables.standing([]).startswith("Of the report's 15 non-zero cells, 0 are")


def test_the_other_tables_say_what_is_not_measured():
    noise = lines(certify_tables.noise_table([card_with([])]))
    assert noise[1:3] == [["0.25", "Report", "82.3", "76.1"], ["0.25", "ours", "–", "not measured"]]
    assert noise[5] == ["1", "Report", "48.9", "48.4"]
    known = next(card for card in zoo.cards() if card.name == MODEL)
    assert any(
        row[1].startswith("ours, Gaussian") and row[3].startswith("74.1 ")
        for row in lines(certify_tables.noise_table([known]))
    )


def with_predictions(shares: tuple[float, ...], n: int = 100) -> zoo.Card:
    """A card that knows how PREDICT's answers with n draws divide up, in the order of OUTCOMES."""
    card = card_with([(0.25, 0.6)])
    cells = {
        name: {"images": round(500 * s), "share": s, "low": max(0.0, s - 0.03), "high": min(1.0, s + 0.03)}
        for name, s in zip(OUTCOMES, shares, strict=True)
    }
    own = card.measures[0] | {
        "kind": "predict",
        "eps": None,
        "norm": None,
        "draws": n,
        "outcomes": cells,
        "note": "accurate: ...",
    }
    return replace(card, measures=[*card.measures, own])


def test_what_predict_says_stands_beside_the_report_s_table():
    card = with_predictions((0.6, 0.0, 0.2, 0.01, 0.19))
    predicted = lines(certify_tables.predict_table([card]))
    assert ["100", "Report", "55", "0", "18", "0", "27"] in predicted
    ours = next(row for row in predicted if row[1].startswith("ours, Gaussian"))
    assert ours == ["100", "ours, Gaussian noise, sigma 0.25, n=500", "60.0 57.0 to 63.0", "0.0 0.0 to 3.0", "20.0 17.0 to 23.0",
                    "1.0 0.0 to 4.0", "19.0 16.0 to 22.0"]  # fmt: skip
    assert ["1,000", "ours", *["not measured"] * 5] in predicted
    (note,) = certify_tables.predict_notes([card])
    assert "100 draws: 500 images" in note and "accurate: ..." in note and certify_tables.predict_notes([]) == []
    assert lines(certify_tables.predict_table([]))[2] == ["100", "ours", *["not measured"] * 5]
    other = replace(card, measures=[m | {"sigma": 0.5} for m in card.measures])
    assert lines(certify_tables.predict_table([other])) == lines(certify_tables.predict_table([]))


def test_a_card_knows_the_average_radius():
    (measure,) = card_with([(0.25, 0.6)]).measures
    known = measure | {
        "average_radius": {"value": 0.4039, "low": 0.38, "high": 0.42},
        "abstained": 6,
        "note": "smoothed",
    }
    assert certify_tables.average_radius(known) == ("0.403 [0.380 to 0.420]", "6")
    early = measure | {
        "average_radius": None,
        "abstained": None,
        "note": "smoothed; average certified radius 0.403, 6 abstentions",
    }
    assert certify_tables.average_radius(early) == ("0.403", "6")
    del early["average_radius"], early["abstained"]  # a card that was written before there was a place for them
    assert certify_tables.average_radius(early) == ("0.403", "6")
    assert certify_tables.average_radius(early | {"note": "smoothed"}) == ("not measured", "not measured")


def test_names_are_text_in_tables():
    assert "<b>" not in certify_tables.table([["a"], ["<b>x</b>"]])


def test_of_several_series_that_of_most_images_counts():
    few = card_with([(0.25, 0.9)])
    many = card_with([(0.25, 0.5)])
    both = replace(few, measures=[few.measures[0] | {"n": 100}, many.measures[0] | {"n": 400}])
    assert [m["accuracy"] for m in certify_tables.certified(both)[0.25]] == [0.5]


def test_published_numbers_are_complete():
    for table in published.CERTIFIED.values():
        assert list(table) == list(published.SIGMAS) and all(len(row) == len(published.RADII) for row in table.values())
        assert all(0 <= v <= 1 and row == tuple(sorted(row, reverse=True)) for row in table.values() for v in row)
    for shares in published.PREDICT.values():
        assert abs(sum(vars(shares).values()) - 1) < 0.011  # the report rounds


def test_a_set_is_certified_in_the_background(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path / "runs"))
    session.store.clear()
    monkeypatch.setattr(Store, "submit", lambda store, spec, permit: asked.append(spec) or store.create(spec.checked()))
    app = open_app(SET)
    app.button(key="certify.set.background").click().run()
    session.store.clear()
    (spec,) = asked
    assert (spec.kind, spec.settings["model"], spec.settings["images"], spec.settings["shuffle"]) == (
        "certify",
        MODEL,
        10,
        0,
    )
    assert "certifies 10 pictures in the background" in texts(app) and not app.exception
