"""What was foretold in lessons, and what came: kept for the session, and in this browser for the next one."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass

import streamlit as st

from explorer.classroom import Lesson, brier
from explorer.classroom.question import MOST_OPTIONS, SURE
from explorer.ui.components import desk

ANSWERS, LOADED = "lesson.answers", "lesson.loaded"  # in st.session_state
MEMORY = "explorer.lessons"  # the name in the browser
MOST, LONGEST = 1_000, 100_000  # answers that a browser may hand us, and characters


@dataclass(frozen=True)
class Foretold:
    """One answer before a run. `came`: the option that came true, None until it did."""

    option: int
    sure: int  # per cent
    came: int | None = None

    @property
    def right(self) -> bool:
        return self.option == self.came


def name_of(lesson: Lesson, at: int) -> str:
    """A scene's name, for answers and ballots."""
    return f"{lesson.key}/{at + 1}"


def _all() -> dict[str, Foretold]:
    found: dict[str, Foretold] = st.session_state.setdefault(ANSWERS, {})
    return found


def of(name: str) -> Foretold | None:
    """What was foretold of this scene."""
    return _all().get(name)


def lock(name: str, option: int, sure: int) -> None:
    """Once and for good: a second answer to the same scene changes nothing."""
    _all().setdefault(name, Foretold(option, sure))


def settle(name: str, came: int) -> None:
    """What came true; the first word counts."""
    found = of(name)
    if found is not None and found.came is None:
        _all()[name] = dataclasses.replace(found, came=came)


def forget(lesson: Lesson) -> None:
    """Begin a lesson again."""
    for name in [name for name in _all() if name.rpartition("/")[0] == lesson.key]:
        del _all()[name]


def settled(lesson: Lesson) -> list[Foretold]:
    """The answers of this lesson that have come true or not."""
    names = (name_of(lesson, at) for at in range(len(lesson.scenes)))
    return [found for found in map(of, names) if found is not None and found.came is not None]


def score(lesson: Lesson) -> float | None:
    """Brier score over the lesson; None before the first answer has come true or not."""
    found = settled(lesson)
    return brier((one.sure / 100, one.right) for one in found) if found else None


def load() -> None:
    """Take what this browser has kept from an earlier visit."""
    if st.session_state.get(LOADED):
        return
    kept = desk.kept(MEMORY, key="lessons.kept")
    if kept is not None:
        st.session_state[LOADED] = True
        st.session_state[ANSWERS] = known(kept) | _all()


def keep() -> None:
    """Have the browser keep it."""
    if st.session_state.get(LOADED) and _all():
        said = {name: asdict(one) for name, one in _all().items()}
        desk.keep(MEMORY, json.dumps(said, separators=(",", ":")), key="lessons.keep")


def known(kept: str) -> dict[str, Foretold]:
    """The answers in what a browser has kept; what is not one is left out."""
    if len(kept) > LONGEST:
        return {}
    try:
        said = json.loads(kept or "{}")
    except ValueError:
        return {}
    found = {}
    for name, one in list(said.items())[:MOST] if isinstance(said, dict) else ():
        if not (isinstance(one, dict) and one.keys() == {"option", "sure", "came"}):
            continue
        option, sure, came = one["option"], one["sure"], one["came"]
        if _is_option(option) and sure in SURE and (came is None or _is_option(came)):
            found[str(name)] = Foretold(option, sure, came)
    return found


def _is_option(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10 * MOST_OPTIONS
