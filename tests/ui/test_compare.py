"""The Compare page without a browser: its first view, its link, both ways to make the image, its refusals, its words."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from explorer.engine import AttackRequest
from explorer.engine.compare import CompareRequest
from explorer.models import zoo
from explorer.ui.inputs.withstood import best_of
from tests.ui.app import ENTRY, ended, open_page, texts

NAMES = [card.name for card in zoo.cards() if card.dataset == "cifar10"]
LINK = {"models": ",".join(NAMES[:2]), "craft": "transfer", "data": "cifar10", "image": "7", "attack": "pgd", "norm": "linf",
        "eps": "0.03", "with": "steps:3", "seed": "5"}  # fmt: skip


def opened(query: dict[str, str] | None = None, page: str = "compare", **state) -> AppTest:
    return open_page(page, query, **state)


finished = partial(ended, key="compare.future")


def link(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[0] for name, value in app.query_params.items()}


@pytest.fixture(scope="module")
def played() -> AppTest:
    return finished(opened())


@pytest.fixture(scope="module")
def transferred() -> AppTest:
    return finished(opened(LINK))


def test_the_page_opens_with_a_comparison_already_played(played):
    assert not played.exception and "settings have changed" not in texts(played)
    models = played.session_state["models"]
    assert models[:2] == ["cifar10/baseline", "cifar10/pgd-linf"] and len(models) == 3
    assert "3 models fooled" in texts(played) and "transfer" not in texts(played).replace("transfer attack", "").lower()
    assert link(played)["models"] == ",".join(models) and link(played)["craft"] == "each"


def test_every_lane_has_a_row_in_words(played):
    (table,) = [m.value for m in played.markdown if m.value.startswith("| Model")]
    lines = table.splitlines()
    assert len(lines) == 5 and all("white-box" in line for line in lines[2:])
    assert all(any(word in line for word in ("Fooled.", "Holds.", "Wrong from the start.")) for line in lines[2:])


def test_a_link_names_the_whole_comparison_and_a_transfer_is_always_called_one(transferred):
    assert not transferred.exception and "settings have changed" not in texts(transferred)
    assert transferred.session_state["compare.shown"] == CompareRequest.from_query(LINK)
    assert link(transferred) == LINK
    source, shown = (zoo.card(name).title for name in NAMES[:2])
    words = texts(transferred)
    (table,) = [m.value for m in transferred.markdown if m.value.startswith("| Model")]
    own, other = table.splitlines()[2:]
    assert own.startswith(f"| **{source}** | source, white-box |")
    assert other.startswith(f"| **{shown}** | transfer from {source} |")
    assert "Holds" not in other and "transfer" in other.split("|")[3].lower()
    assert "not thereby robust: the attack never looked at it" in words
    assert '"threat": "transfer"' in "\n".join(code.value for code in transferred.code)


def test_picture_and_attack_are_those_of_the_attack_page():
    app = AppTest.from_file(ENTRY, default_timeout=60)
    for key, value in (AttackRequest("cifar10", 9, NAMES[-1], "fgsm", norm="l2", eps=0.7).checked().to_query()).items():
        app.query_params[key] = value
    app.run()
    app.session_state["wanted page"] = "compare"
    for key in list(app.query_params):  # as a click on the navigation does
        del app.query_params[key]
    app = finished(app.run())
    shown = app.session_state["compare.shown"]
    assert (shown.attack.image, shown.attack.attack, shown.attack.norm, shown.attack.eps) == (9, "fgsm", "l2", 0.7)
    assert NAMES[-1] in shown.models and not app.exception
    app.session_state["wanted page"] = "attack"
    app.run()
    assert app.session_state["shown"].image == 9 and not app.exception


def test_from_here_the_attack_page_plays_what_was_chosen_here():
    app = finished(opened(LINK))
    app.session_state["wanted page"] = "attack"
    for key in list(app.query_params):
        del app.query_params[key]
    app.run()
    assert not app.exception
    shown = app.session_state["shown"]
    assert (shown.image, shown.hyper, shown.seed, shown.model) == (7, {"steps": 3}, 5, NAMES[0])
    app.session_state["wanted page"] = "compare"
    for key in list(app.query_params):  # as a click on the navigation does
        del app.query_params[key]
    app.run()
    assert app.session_state["compare.shown"] == CompareRequest.from_query(
        LINK
    ) and "settings have changed" not in texts(app)


def test_changed_settings_are_announced_and_played_on_the_button():
    app = finished(opened(LINK))
    app.selectbox(key="craft").set_value("each").run()
    assert "settings have changed" in texts(app)
    app.button(key="begin").click().run()
    app = finished(app)
    assert "settings have changed" not in texts(app) and link(app)["craft"] == "each"
    app.selectbox(key="craft").set_value(NAMES[1]).run()
    app.button(key="begin").click().run()
    app = finished(app)
    assert app.session_state["compare.shown"].models == (NAMES[1], NAMES[0])  # the source comes first
    assert f"transfer from {zoo.card(NAMES[1]).title}" in texts(app)


def test_too_few_models_are_refused_in_one_sentence():
    app = finished(opened(LINK))
    app.multiselect(key="models").set_value([NAMES[0]]).run()
    assert not app.exception and "2 to 4" in "".join(e.value for e in app.error)
    app.multiselect(key="models").set_value([]).run()
    app.button(key="begin").click().run()
    assert not app.exception and "2 to 4" in texts(app)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"models": "cifar10/nothing,cifar10/baseline"}, "nothing"),
        ({"models": "cifar10/baseline"}, "2 to 4"),
        ({"craft": "both"}, "craft"),
        ({"eps": "8"}, "eps"),
        ({"with": "steps:1000,restarts:2"}, "models"),
        ({"image": "upload:0123456789abcdef", "craft": "each"}, "upload"),
        ({"image": "upload:0123456789abcdef"}, "say what your picture shows"),
    ],
)
def test_a_link_that_cannot_be_followed_says_why_and_the_page_goes_on(change, word):
    app = opened(LINK | change)
    assert not app.exception
    (sentence,) = [w.value for w in app.warning if "could not be followed" in w.value]
    assert word in sentence
    assert app.session_state["compare.future"] is not None
    app.session_state["compare.future"].cancel()


def test_cancel_stops_and_keeps_what_was_computed():
    app = opened(LINK | {"with": "steps:700", "craft": "each"})
    future = app.session_state["compare.future"]
    assert not future.finished
    app.button(key="cancel").click().run()
    assert future.wait(10) and future.state == "cancelled"
    assert "Stopped. What was computed until then is shown." in texts(app.run())


ATTACKS = {"models": NAMES[0], "attacks": "pgd,fgsm,deepfool", "data": "cifar10", "image": "317", "norm": "linf",
           "eps": "8/255", "with": "steps:3"}  # fmt: skip


def test_several_attacks_stand_beside_each_other_on_one_model():
    app = finished(opened(ATTACKS))
    assert not app.exception and "settings have changed" not in texts(app)
    shown = app.session_state["compare.shown"]
    assert [lane.attack for lane in shown.lanes] == ["pgd", "fgsm", "deepfool"] and link(app)["attacks"] == ATTACKS[
        "attacks"
    ]
    assert "of 3 attacks fool Baseline" in texts(app)
    (table,) = [m.value for m in app.markdown if m.value.startswith("| Model")]
    name = zoo.card(NAMES[0]).title
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        f"**{name}, {title}**" for title in ("PGD", "FGSM", "DeepFool")
    ]
    assert app.multiselect(key="compare.attacks").value == ["fgsm", "deepfool"]


def test_more_players_than_there_is_room_for_are_refused_in_one_sentence():
    app = finished(opened(ATTACKS))
    app.multiselect(key="models").set_value(list(NAMES[:2])).run()
    assert "models times attacks must be 2 to 4" in texts(app)


def test_of_several_models_a_picture_is_taken_that_only_some_withstand():
    def tried(*states):
        return SimpleNamespace(rows=np.arange(len(states)) + 10, states=list(states))

    baseline = tried("fooled", "holds", "fooled", "wrong")
    assert best_of([baseline, tried("fooled", "holds", "holds", "holds")]) == 12  # rather than 11, which both withstand
    assert best_of([baseline, tried("fooled", "holds", "wrong", "wrong")]) == 11
    assert best_of([tried("fooled", "wrong")]) is None


def test_only_several_attacks_have_a_choice_of_clock(played):
    assert "In step by" not in [group.label for group in played.button_group]
    both = finished(opened(LINK | {"models": NAMES[0], "craft": "each", "attacks": "fgsm,pgd"}))
    assert not both.exception and "In step by" in [group.label for group in both.button_group]
