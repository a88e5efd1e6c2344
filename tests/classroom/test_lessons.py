"""Every scene's claim comes true on the shipped models, and a broken file is refused by line and reason."""

from __future__ import annotations

import re

import pytest

from explorer.classroom import asked, brier, lessons, parse
from explorer.classroom.running import last_item, outcome_of
from explorer.core import InvalidValue
from explorer.engine import Engine

LESSONS = lessons()[0]


@pytest.fixture(scope="module")
def engine():
    made = Engine("cpu", threads=1)
    yield made
    made.close()


def test_there_are_six_lessons_and_every_scene_asks():
    assert len(LESSONS) == 6
    for lesson in LESSONS.values():
        assert lesson.about and 4 <= len(lesson.scenes) <= 6
        for scene in lesson.scenes:
            assert scene.question and scene.question.claim is not None and scene.after and scene.notes


@pytest.mark.parametrize("key", LESSONS)
def test_every_claim_of_a_lesson_comes_true(engine, key):
    for scene in LESSONS[key].scenes:
        assert outcome_of(scene, engine=engine) == scene.question.claim, scene.title


def test_what_the_choices_say_is_so(engine):
    price = last_item(LESSONS["3-adversarial-training"].scenes[4].request, engine).fooling_rate
    assert price.wrong > price.fooled
    gap, tla = LESSONS["4-feature-space"].scenes[2:]
    assert asked.value("count", last_item(gap.request, engine)) >= 1
    contrastive = asked.of_link(tla.link.replace("cifar10/tla", "cifar10/contrastive"))[2]
    across = [asked.value("count", last_item(request, engine)) for request in (tla.request, contrastive)]
    assert across[0] < across[1]


GOOD = """# Titel

Worum es geht.

## Szene
[Zum Frosch](/?data=cifar10&image=317&model=cifar10/lenet&attack=fgsm)
Vorher.
> fooled: Fällt es?
> answer: yes
### After
Nachher.
### Notes
Sagen.
"""


def test_a_lesson_of_ones_own_is_read_in_any_language():
    lesson, faults = parse(GOOD, "meine")
    (scene,) = lesson.scenes
    assert not faults and (lesson.title, lesson.about, scene.before) == ("Titel", "Worum es geht.", "Vorher.")
    assert (scene.after, scene.notes, scene.page, scene.question.claim) == ("Nachher.", "Sagen.", "attack", 0)


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("# Titel", "Titel", 1, "begins with its title"),
        ("## Szene", "##", 5, "has a title"),
        ("cifar10/lenet", "cifar10/lenett", 6, "Did you mean 'lenet'|lenet"),
        ("image=317&", "", 6, "image is missing"),
        ("(/?", "(/lab?", 6, "must lead to"),
        ("(/?", "(https://elsewhere/?", 6, "must lead to"),
        ("&attack", "&attak", 6, "attak"),
        ("> fooled:", "> fool:", 8, "KIND one of fooled"),
        ("> fooled:", "> count:", 8, "cannot answer 'count'"),
        ("> answer: yes", "> answer: ja", 9, "answer must be one of yes, no"),
        ("### After", "### Later", 10, "After"),
        ("> answer: yes", "> - [x] a", 9, "by itself"),
    ],
)
def test_a_fault_is_named_by_its_line_and_reason(old, new, line, reason):
    assert old in GOOD
    lesson, faults = parse(GOOD.replace(old, new, 1))
    assert lesson is None
    assert [fault.line for fault in faults][:1] == [line]
    assert re.search(reason, faults[0].reason)


def test_bands_hold_their_upper_end():
    text = GOOD.replace("attack=fgsm", "attack=deepfool").replace(
        "> fooled: Fällt es?\n> answer: yes", "> distance: ?\n> - 2/255\n> - 4/255"
    )
    question = parse(text)[0].scenes[0].question
    assert question.options == ("up to 2/255", "2/255 to 4/255", "more than 4/255")
    assert [question.option(value / 255) for value in (1, 2, 2.01, 4, float("inf"))] == [0, 0, 1, 1, 2]


def test_brier_is_the_mean_square():
    assert brier([(1.0, True), (1.0, False), (0.5, True)]) == pytest.approx((0 + 1 + 0.25) / 3)
    assert brier([(0.5, True), (0.5, False)]) == 0.25
    for wrong in ([], [(1.1, True)]):
        with pytest.raises(InvalidValue, match="needs predictions"):
            brier(wrong)
