"""Who may change runs: asked where it happens, and written down whatever the answer."""

import json

import pytest

from explorer.jobs import Guard, Permit, Refused, Spec, Store, access

SPEC = Spec("baseline", device="cpu")


@pytest.fixture
def password(monkeypatch):
    monkeypatch.setenv(access.PASSWORD, "chalk")
    return "chalk"


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("", False), (None, False), ("192.168.1.7", False), ("::", False), ("localhost.evil.org", False),
    ],
)  # fmt: skip
def test_only_an_app_that_this_computer_alone_reaches_needs_no_password(address, here, password):
    assert access.is_loopback(address) is here
    guard = Guard(address)
    assert guard.needed is not here
    if here:
        guard.check(None)
    else:
        with pytest.raises(Refused, match="needs the instructor's password"):
            guard.check(None)
        guard.check(Permit("chalk"))


def test_always_means_also_on_this_computer_once_a_password_is_set(monkeypatch):
    monkeypatch.delenv(access.PASSWORD, raising=False)
    guard = Guard("127.0.0.1", always=True)
    guard.check(None)
    monkeypatch.setenv(access.PASSWORD, "chalk")
    with pytest.raises(Refused):
        guard.check(None)


@pytest.mark.parametrize("given", [None, "", "chalk", "x"])
def test_where_one_is_needed_and_none_is_set_nobody_may(given, monkeypatch):
    monkeypatch.setenv(access.PASSWORD, "")
    with pytest.raises(Refused, match="set EXPLORER_INSTRUCTOR_PASSWORD"):
        Guard("0.0.0.0").check(Permit(given))


def test_after_five_wrong_ones_even_the_right_one_waits(password, monkeypatch):
    guard, now = Guard("0.0.0.0"), [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    for _ in range(access.MAX_TRIES):
        with pytest.raises(Refused, match="not the instructor's"):
            guard.check(Permit("chälk", who="a student"))
    with pytest.raises(Refused, match="try again in 60 s"):
        guard.check(Permit(password, who="a student"))
    guard.check(Permit(password, who="the instructor"))  # whom a student's guesses do not lock out
    now[0] += access.WINDOW_S + 1
    guard.check(Permit(password, who="a student"))


def test_guesses_from_many_places_make_everybody_wait(password, monkeypatch):
    guard, now = Guard("0.0.0.0"), [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: now[0])
    for guess in range(access.MAX_TRIES_OF_ALL):
        with pytest.raises(Refused, match="not the instructor's"):
            guard.check(Permit("chälk", who=f"visitor {guess}"))
    with pytest.raises(Refused, match="try again in 60 s"):
        guard.check(Permit(password, who="the instructor"))
    now[0] += access.WINDOW_S + 1
    guard.check(Permit(password, who="the instructor"))


@pytest.mark.parametrize("action", ["start", "cancel", "resume", "delete"])
def test_every_change_asks_and_is_written_down(action, password, tmp_path):
    run = Store(tmp_path).create(SPEC)
    before = (run.folder / "state.json").read_bytes()
    store = Store(tmp_path, guard=Guard("0.0.0.0"))
    run = store.run(run.id) if action != "start" else run
    change = {
        "start": lambda p: store.submit(SPEC, p),
        "cancel": run.cancel,
        "resume": run.resume,
        "delete": run.delete,
    }[action]
    before = (run.folder / "state.json").read_bytes()
    with pytest.raises(Refused):
        change(Permit("wrong", who="a student"))
    assert (run.folder / "state.json").read_bytes() == before and len(store._found()) == 1
    text = (tmp_path / "audit.jsonl").read_text("utf-8")
    line = json.loads(text.splitlines()[-1])
    assert (line["action"], line["allowed"], line["who"], line["via"]) == (action, False, "a student", "app")
    assert line["why"] == "This is not the instructor's password." and "wrong" not in text and "chalk" not in text


def test_the_command_line_asks_nobody_and_is_written_down(password, tmp_path):
    run = Store(tmp_path).create(SPEC)
    run.cancel()
    assert run.state.status == "cancelled"
    line = json.loads((tmp_path / "audit.jsonl").read_text("utf-8"))
    assert (line["action"], line["run"], line["allowed"], line["via"]) == ("cancel", run.id, True, "command line")


def test_a_password_is_in_no_representation():
    assert "chalk" not in repr(Permit("chalk"))
