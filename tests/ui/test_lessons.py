"""The Lessons page without a browser: nothing runs before the lock, answers come true or not, a room leads and follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.classroom import lessons
from explorer.classroom.room import Tally
from explorer.classroom.running import last_item
from explorer.core import ExplorerError
from explorer.engine import Engine
from explorer.jobs import Guard
from explorer.jobs.access import PASSWORD
from explorer.ui import room, session
from explorer.ui.lessons import foretold, takehome
from explorer.ui.lessons.scene import bars

ENTRY = str(Path(__file__).parents[1] / "entry.py")
KEY = "2-fgsm-and-pgd"
ONE = {"lesson": KEY, "scene": "1"}


@pytest.fixture(autouse=True)
def no_rooms(monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    room.rooms.clear()
    yield
    room.rooms.clear()


def open_app(**query: str) -> AppTest:
    """The page as its link opens it."""
    app = AppTest.from_file(ENTRY, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.session_state["wanted page"] = "lessons"
    return app.run()


def said(app: AppTest) -> str:
    kinds = (app.markdown, app.header, app.subheader, app.title, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for kind in kinds for element in kind)


def press(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def answer(app: AppTest, option: str) -> AppTest:
    app.button_group[0].set_value([option] if app.button_group[0].proto.click_mode else option).run()
    return press(app, "lesson-lock")


def ended(app: AppTest) -> AppTest:
    """Once the run on show has ended."""
    future = app.session_state["future"]
    assert future.wait(60) and future.state == "done", future.error
    return app.run()


def begun(app: AppTest) -> bool:
    """Whether the Attack page's run of this session was ever begun."""
    return "future" in app.session_state and app.session_state["future"] is not None


def keys(app: AppTest) -> set[str]:
    return {button.key for button in app.button}


def test_the_shelf_has_all_lessons():
    app = open_app()
    assert not app.exception
    assert all(lesson.title in said(app) for lesson in lessons()[0].values())


def test_nothing_runs_before_the_lock_and_the_run_says_what_came():
    app = open_app(**ONE)
    assert not app.exception and "Does one step fool the network on this frog?" in said(app)
    assert not begun(app)
    app = ended(answer(app, "yes"))
    assert app.session_state[foretold.ANSWERS] == {f"{KEY}/1": foretold.Foretold(0, 70, 1)}
    assert "You said **yes, 70 % sure**" in said(app) and "The frog holds." in said(app)
    app = press(app, "lesson-next")
    assert "Twenty steps" in said(app) and app.query_params["scene"] in ("2", ["2"])


def test_the_end_has_the_brier_score():
    app = open_app(lesson=KEY, scene="5")
    assert "No question of this lesson was answered." in said(app)
    app.session_state[foretold.ANSWERS] = {f"{KEY}/{k}": foretold.Foretold(0, 90, came) for k, came in ((1, 0), (2, 1))}
    app.run()
    assert "**1 of 2** of your answers came true. Brier score **0.41**." in said(app)


def test_a_scene_without_an_answer_is_shown_when_asked_for():
    app = press(open_app(**ONE), "lesson-skip")
    app = ended(app)
    assert foretold.ANSWERS not in app.session_state or not app.session_state[foretold.ANSWERS]
    assert "The frog holds." in said(app)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"lesson": "none"}, "There is no lesson 'none'."),
        ({"lesson": KEY, "scene": "9"}, "scene must be a whole number in [1, 5]; got '9'."),
        ({"room": "AAAAAA"}, "There is no room 'AAAAAA'"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(query, sentence):
    app = open_app(**query)
    assert not app.exception and sentence in said(app)


def test_what_a_browser_has_kept_is_checked():
    good = {"a/1": {"option": 1, "sure": 70, "came": None}}
    bad = {
        "b/1": {"option": -1, "sure": 70, "came": 1},
        "c/1": {"option": 1, "sure": 71, "came": 1},
        "d": 3,
        "e/1": {"option": True, "sure": 70, "came": 0},
    }
    assert foretold.known(json.dumps(good | bad)) == {"a/1": foretold.Foretold(1, 70)}
    for nonsense in ("", "[1]", "{", "x" * 200_000):
        assert foretold.known(nonsense) == {}
    assert room._known('{"key": "k", "token": 3}') == ("k", None) and room._known("[") == (None, None)


def test_bars_mark_what_came_true_by_a_word_and_escape():
    shown = bars(Tally(("yes", "<b>"), (3, 1), 0.2), came=0)
    assert "yes ✓ came true" in shown and "&lt;b&gt;" in shown and "4 answers · Brier score of the class 0.20" in shown


# A room: two sessions


@pytest.fixture
def together() -> tuple[AppTest, AppTest]:
    """A lecturer in the first scene, and a student who has joined and followed."""
    lecturer = press(open_app(), "room.open")
    place = lecturer.session_state[room.MINE]
    assert place.leads
    student = open_app(room=place.room.code)
    student.session_state[room.MINE] = None
    token = place.room.join("Ada")
    student.session_state[room.MINE] = room.Place(place.room, token=token)
    for name, value in ((room.FOLLOWS, True), (room.LEADS, True), (room.SEEN, -1), (room.VERSION, -1)):
        student.session_state[name] = value
    press(lecturer, f"lesson.begin.{KEY}")
    return lecturer, student.run()


def test_the_class_follows_answers_and_sees_the_counts_at_the_reveal(together):
    lecturer, student = together
    assert "Does one step fool the network on this frog?" in said(student)
    answer(student, "no")
    assert "Locked: no, 70 % sure" in said(student) and "1 of 1 have answered" in said(lecturer.run())
    assert not any("came true" in html.proto.body for html in student.get("html"))
    assert not begun(student)
    press(lecturer, "lesson-next")  # reveals
    assert "The answers are" not in said(lecturer)
    ended(lecturer), ended(student.run())
    assert "The frog holds." in said(lecturer) and "The frog holds." in said(student.run())
    assert student.session_state["future"].latest is lecturer.session_state["future"].latest  # one run for both
    press(lecturer, "lesson-next")
    assert "Twenty steps" in said(student.run())


def test_a_lecturer_looks_around_alone_and_takes_the_class_along_again(together):
    lecturer, _ = together
    assert "all see what you show" in said(lecturer)
    press(lecturer, "room.alone")
    assert "nobody sees what you do" in said(lecturer) and "room.alone" not in keys(lecturer)
    shown = lecturer.session_state[room.MINE].room.showing.number
    press(lecturer, "lesson.scene.1")
    assert lecturer.session_state[room.MINE].room.showing.number == shown
    press(lecturer, "room.leads.all")
    assert "all see what you show" in said(lecturer)
    assert lecturer.session_state[room.MINE].room.showing.query["scene"] == "2"


def test_a_student_has_no_button_that_leads(together):
    _, student = together
    assert not keys(student) & {
        "lesson-next",
        "lesson-black",
        "lesson-back",
        "room.open",
        "room.alone",
        "room.leads.all",
    }


def test_who_lets_go_stays_and_who_follows_again_is_in_step(together):
    lecturer, student = together
    press(student, "room.letting")
    press(lecturer, "lesson-next")
    press(lecturer, "lesson-next")
    assert "One step" in said(student.run()) and {"lesson-next", "lesson-back"} <= keys(student)
    press(student, "room.letting")
    assert "Twenty steps" in said(student.run())


def test_old_messages_of_a_browser_do_not_leave_it_behind(together):
    """After the app stood still, looks that were under way bring the old address, more of them than are answered at once."""
    lecturer, student = together
    press(lecturer, "lesson-next")
    press(lecturer, "lesson-next")
    assert "Twenty steps" in said(student.run())
    for _ in range(room.MOST_TRIES):
        student.query_params["scene"] = "1"
        student.run()
    assert "One step" in said(student)
    student.session_state[room.AGAIN] = 0.1  # long ago
    assert "Twenty steps" in said(student.run())
    student.session_state[room.AGAIN] = 0.1
    student.run()
    student.query_params["scene"] = "1"
    assert "One step" in said(student.run())  # from here on that is a wish


def test_the_end_keeps_the_presenters_keys_and_tells_the_answers_of_the_class(together):
    lecturer, student = together
    answer(student, "no")
    press(lecturer, "lesson-next")
    ended(lecturer)
    lecturer.run()
    last = len(lessons()[0][KEY].scenes) - 1
    press(lecturer, f"lesson.scene.{last}")
    press(lecturer, "lesson-next")  # reveals
    ended(lecturer)
    press(lecturer.run(), "lesson-next")
    assert "**1 of 1** answers of the class came true. Brier score **0.09**." in said(lecturer)
    assert {"lesson-back", "lesson-black"} <= keys(lecturer) and "lesson-next" not in keys(lecturer)
    assert "Nobody" not in said(student.run())
    press(lecturer, "lesson-back")
    assert lessons()[0][KEY].scenes[last].title in said(lecturer)


def test_an_ended_room_says_so(together):
    lecturer, student = together
    press(lecturer, "room.end")
    assert "The room has ended." in said(student.run())
    assert "room" not in student.query_params


def test_other_computers_open_a_room_with_the_password_alone(monkeypatch):
    monkeypatch.setenv(PASSWORD, "secret")
    monkeypatch.setattr(session.store(), "guard", Guard("0.0.0.0"))
    app = open_app()
    assert "room.open" not in keys(app)
    app.text_input(key="permission.typed.room").set_value("wrong").run()
    assert "This is not the instructor's password." in said(app) and "room.open" not in keys(app)
    app.text_input(key="permission.typed.room").set_value("secret").run()
    assert press(app, "room.open").session_state[room.MINE].leads
    room.rooms.clear()
    app = open_app()
    app.session_state["permission.password"] = "stale"  # the act asks again
    press(app.run(), "room.open")
    assert room.MINE not in app.session_state and "not the instructor's password" in said(app)


def test_the_lesson_goes_home_as_one_file_that_asks_for_nothing():
    lesson = lessons()[0][KEY]
    engine = Engine("cpu", threads=1)
    walks = {f"{KEY}/{k + 1}": last_item(lesson.scenes[k].request, engine) for k in (0, 2)}
    engine.close()
    page = takehome.page(lesson, walks, {f"{KEY}/1": foretold.Foretold(0, 70, 1)}).decode()
    assert page.count("<iframe") == 1 + 4 and "You said yes, 70 % sure." in page and "default-src 'none'" in page
    assert all(scene.title in page for scene in lesson.scenes) and lesson.scenes[1].after not in page  # not watched
    assert 'src="http' not in page and "src='http" not in page


def test_the_lecturer_takes_home_what_all_have_watched_and_nobody_s_name(together):
    lecturer, student = together
    place = lecturer.session_state[room.MINE]

    def button(app):
        (found,) = [one for one in app.get("download_button") if one.proto.label == "Export (HTML)"]
        return found

    assert button(lecturer) and "Nothing was watched" in takehome.room_page(place).decode()
    assert not [one for one in student.get("download_button") if one.proto.label == "Export (HTML)"]
    answer(student, "no")
    press(lecturer, "lesson-next")
    ended(lecturer)
    (one,) = place.room.watched(place.key)
    page = takehome.room_page(place).decode()
    assert one.title in page and "1 answer. " in page and "no: 1" in page and "Ada" not in page
    assert page.count("<iframe") == 1 and "default-src 'none'" in page and 'src="http' not in page
    lecturer.session_state["wanted page"] = "attack"
    lecturer.query_params["image"] = "3"
    ended(lecturer.run())
    lecturer.run()
    assert takehome.room_page(place).decode().count("<iframe") == 2
    stranger = room.Place(place.room, token=place.room.join())
    with pytest.raises(ExplorerError, match="Only who opened"):
        takehome.room_page(stranger)


@pytest.mark.parametrize(
    ("view", "words"), [("people", "What people see"), ("tournament", "Begin one"), ("glossary", "Adaptive attack")]
)
def test_the_other_views_open(view, words, tmp_path, monkeypatch):
    monkeypatch.setenv("EXPLORER_RUNS", str(tmp_path))
    session.store.clear()
    app = open_app(view=view)
    assert not app.exception and words in said(app) + " ".join(one.label for one in app.expander)
    session.store.clear()


def test_the_notes_are_the_lecturers_and_move_all_screens(together):
    lecturer, student = together
    notes = open_app(**ONE, view="notes")
    notes.session_state[room.MINE] = lecturer.session_state[room.MINE]
    for name, value in ((room.FOLLOWS, True), (room.LEADS, True), (room.SEEN, -1), (room.VERSION, -1)):
        notes.session_state[name] = value
    notes.run()
    assert "Leave the claim standing for a moment" in said(notes) and "since the room was opened" in said(notes)
    press(notes, "lesson-next")  # reveals
    assert lecturer.session_state[room.MINE].room.is_revealed(f"{KEY}/1")
    press(notes, "lesson-next")
    assert "The loss is not flat" in said(notes) and "Twenty steps" in said(student.run())
    assert "Twenty steps" in said(lecturer.run())
