"""A page's life, of a page that answers with numbers: opened, begun, watched, replaced, cancelled."""

import pytest
from streamlit.testing.v1 import AppTest


def page(unasked: bool) -> None:
    from dataclasses import dataclass

    import streamlit as st

    from explorer.core import InvalidValue
    from explorer.ui.page_run import PageRun

    @dataclass(frozen=True)
    class Count:
        to: int

    class Counting(PageRun[Count, int]):
        prefix = "count."
        poll = 0.1
        about = "What one looks at."
        names = frozenset({"to", "by"})

        def filled(self, query):
            return {"to": "7"} | query

        def prepare(self):
            st.session_state.setdefault("to", 3)

        def of_link(self, query):
            if not query["to"].isdecimal():
                raise InvalidValue("to must be a number.")
            return Count(int(query["to"]))

        def current(self):
            if st.session_state["to"] == 0:
                raise InvalidValue("to must be more than 0.")
            return Count(st.session_state["to"])

        def show(self, request):
            st.session_state["to"] = request.to

        def same(self, shown, request):
            return shown.to == request.to  # their class is made anew with each run of this script

        def work(self, request):
            if request.to > 99:
                raise InvalidValue("That is too much.")
            return {50: endless, 60: slow}.get(request.to, lambda: iter(range(1, request.to + 1)))

        def link(self, request):
            return {"to": str(request.to)}

        def draw(self, item, request, finished):
            st.write(f"{item} of {request.to}, {'ended' if finished else 'running'}, run {self.run}")

    def endless():
        import time

        while True:
            time.sleep(0.01)
            yield 1

    def slow():
        import time

        time.sleep(0.5)
        yield 60

    counting = Counting()
    counting.unasked = unasked
    counting.open()
    st.number_input("to", 0, 1000, key="to")
    counting.button(st.container())
    if st.session_state["to"] == 60:
        counting.future.wait(30)  # it ends between the button and the stage
    counting.notices()
    counting.watch()


def opened(query: dict[str, str] | None = None, unasked: bool = True) -> AppTest:
    app = AppTest.from_function(page, kwargs={"unasked": unasked}, default_timeout=60)
    for key, value in (query or {}).items():
        app.query_params[key] = value
    return ended(app.run())


def ended(app: AppTest) -> AppTest:
    assert not app.exception
    if "count.future" not in app.session_state:
        return app
    future = app.session_state["count.future"]
    if future is not None and app.session_state["count.shown"].to != 50:
        assert future.wait(30)
        app.run()
    return app


def texts(app: AppTest) -> str:
    return "\n".join(e.value for kind in (app.markdown, app.info, app.warning, app.error) for e in kind)


def test_a_run_that_ends_while_the_page_is_drawn_leaves_no_button_to_cancel_it():
    app = AppTest.from_function(page, kwargs={"unasked": True}, default_timeout=60)
    app.query_params["to"] = "60"
    app.run()
    assert "60 of 60, ended" in texts(app) and [b.label for b in app.button] == ["Attack"]


def test_a_first_visit_begins_what_the_controls_say_and_the_address_names_it():
    app = opened()
    assert "3 of 3, ended, run 1" in texts(app) and app.query_params["to"] == "3"
    assert "settings have changed" not in texts(app)


def test_a_page_may_wait_to_be_asked():
    app = opened(unasked=False)
    assert "count.future" not in app.session_state and "ended" not in texts(app)
    assert "4 of 4, ended" in texts(opened({"to": "4"}, unasked=False))


def test_a_link_is_followed_once_and_shown_by_the_controls():
    app = opened({"to": "5"})
    assert "5 of 5, ended, run 1" in texts(app) and app.number_input(key="to").value == 5
    app.number_input(key="to").set_value(6).run()
    assert "press **Attack** to try them" in texts(app) and "5 of 5" in texts(app)
    ended(app.button(key="begin").click().run())
    assert "6 of 6, ended, run 2" in texts(app) and app.query_params["to"] == "6"


def test_a_link_that_cannot_be_followed_says_why_and_the_controls_begin():
    app = AppTest.from_function(page, kwargs={"unasked": True}, default_timeout=60)
    app.query_params["to"] = "many"
    app.run()
    assert "The link could not be followed: to must be a number." in texts(app)
    assert "3 of 3, ended" in texts(ended(app))


@pytest.mark.parametrize(("to", "sentence"), [(0, "to must be more than 0."), (100, "That is too much.")])
def test_what_cannot_be_begun_is_one_sentence_and_what_was_shown_is_told_from_it(to, sentence):
    app = opened()
    app.number_input(key="to").set_value(to).run()
    app.button(key="begin").click().run()
    assert not app.exception and texts(app).count(sentence) == 1
    assert ("3 of 3, ended" in texts(app)) == (to == 0)  # what was refused before it began replaces nothing


def test_a_step_in_the_browsers_history_goes_to_its_link(monkeypatch):
    app = opened({"to": "5"})
    app.number_input(key="to").set_value(6).run()
    ended(app.button(key="begin").click().run())
    app.query_params["to"] = "5"
    app.run()
    assert "6 of 6, ended, run 2" in texts(app) and app.query_params["to"] == "6"  # no step: the page's own link stands
    monkeypatch.setattr("explorer.ui.page_run.gone_back", lambda: True)
    app.query_params["to"] = "5"
    assert "5 of 5, ended, run 3" in texts(ended(app.run())) and app.number_input(key="to").value == 5
    assert "5 of 5, ended, run 3" in texts(app.run())  # it is shown already


def test_cancel_stops_and_the_button_begins_again():
    app = opened({"to": "50"})
    future = app.session_state["count.future"]
    assert not future.finished and [b.label for b in app.button] == ["Cancel"]
    app.button(key="cancel").click().run()
    assert future.wait(10) and future.state == "cancelled"
    assert "Stopped. What was computed until then is shown." in texts(app.run())
    app.number_input(key="to").set_value(2).run()
    ended(app.button(key="begin").click().run())
    assert "2 of 2, ended, run 2" in texts(app)


def test_while_a_run_goes_on_changed_settings_may_replace_it():
    app = opened({"to": "50"})
    future = app.session_state["count.future"]
    app.number_input(key="to").set_value(4).run()
    assert [b.label for b in app.button] == ["Attack"] and "A run of other settings is under way" in texts(app)
    ended(app.button(key="begin").click().run())
    assert future.state == "cancelled" and "4 of 4, ended, run 2" in texts(app)


def test_a_link_may_leave_out_what_the_page_has_a_default_for():
    app = opened({"by": "2"})
    assert "7 of 7, ended, run 1" in texts(app) and "link" not in texts(app)


def test_a_name_that_the_page_does_not_know_is_named_and_the_rest_followed():
    app = AppTest.from_function(page, kwargs={"unasked": True}, default_timeout=60)
    app.query_params["to"], app.query_params["what"] = "4", "x"
    assert "leaves out: what." in texts(app.run()) and "4 of 4, ended" in texts(ended(app))
    assert "what" not in app.query_params


def test_what_a_link_hides_is_no_name_of_the_page_and_stays_in_the_address():
    app = opened({"to": "4", "hide": "settings"})
    assert app.query_params["hide"] == "settings" and "leaves out" not in texts(app)


def test_one_sentence_says_what_one_looks_at_unless_it_is_old():
    app = opened()
    assert "What one looks at." in texts(app)
    app.number_input(key="to").set_value(6).run()
    assert "What one looks at." not in texts(app) and "Below stands the old result" in texts(app)
