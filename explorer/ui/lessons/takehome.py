"""Take-home: a lesson as one HTML file, its words, one's answers, and every walk that was watched as a player without a server;
and for a room's lecturer the same of what all have watched, with the counts of the answers."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any, Literal

import streamlit as st

from explorer import __version__
from explorer.classroom import Lesson, Scene
from explorer.classroom.room import Tally
from explorer.engine import Snapshot
from explorer.engine.compare import Comparison
from explorer.models import zoo
from explorer.ui import room
from explorer.ui.attack.saving import walk_page
from explorer.ui.lessons import foretold, stage

WALKS = "lesson.walks"  # in st.session_state: finished walks by the scene's name, of the lesson that is open
STYLES = """:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1.5rem; max-width: 75rem; font: 16px/1.5 system-ui, sans-serif; }
iframe { width: 100%; height: 46rem; border: 1px solid #8888; border-radius: 8px; } blockquote { border-left: 4px solid #8888;
margin: 1rem 0; padding: 0 1rem; } small { opacity: .8; overflow-wrap: anywhere; } pre { white-space: pre-wrap; font: inherit; }"""


def remember(name: str, scene: Scene) -> None:
    """Keep a scene's finished walk for the file; those of another lesson go. For a room's, too, where it is led from here."""
    item, lesson = stage.RUNS[scene.page].latest, name.rpartition("/")[0]
    room.keep(scene.title, scene.link, item, name)
    kept = {key: one for key, one in st.session_state.get(WALKS, {}).items() if key.rpartition("/")[0] == lesson}
    st.session_state[WALKS] = kept | {name: item}


def room_button(place: room.Place, width: Literal["stretch", "content"] = "stretch") -> None:
    """For the lecturer: the file of the room, made when it is asked for; nothing is written otherwise."""
    st.download_button(
        "Export (HTML)", partial(room_page, place), f"room-{place.room.code}.html", "text/html", key="room.home", on_click="ignore",
        icon=":material/download:", width=width,
        help="One file that plays the walks that all have watched, without a server. It holds no names; the room itself keeps nothing.",
    )  # fmt: skip


def room_page(place: room.Place) -> bytes:
    """What all have watched, in its order, and the answers once they are revealed; no names. Raises Refused."""
    parts = [f"<h1>Room {escape(place.room.code)}</h1>"]
    for one in place.room.watched(place.key):
        parts.append(f"<h2>{escape(one.title)}</h2>")
        if place.room.is_revealed(one.ballot):
            parts.append(_counts(place.room.tally(one.ballot)))
        parts += [_player(*walk) for walk in _walks(one.item)]
        parts.append(f"<small>Settings: {escape(one.link)}</small>")
    if len(parts) == 1:
        parts.append("<p>Nothing was watched to its end.</p>")
    return _document(f"Room {place.room.code}", parts)


def _counts(tally: Tally) -> str:
    """Answers of the class, without names."""
    told = ", ".join(f"{escape(option)}: {count}" for option, count in zip(tally.options, tally.counts, strict=True))
    score = "" if tally.brier is None else f" Brier score of the class {tally.brier:.2f}."
    return f"<blockquote>{tally.n} answer{'s' * (tally.n != 1)}. {told}.{score}</blockquote>"


def button(lesson: Lesson) -> None:
    """The file, made when it is asked for: then no session is at hand, so what it needs goes with it."""
    walks = st.session_state.get(WALKS, {})
    made = partial(page, lesson, walks, {name: foretold.of(name) for name in walks})
    st.download_button(
        "Take it home (HTML)", made, f"{lesson.key}.html", "text/html", key="lesson.home", on_click="ignore",
        icon=":material/download:", width="stretch", help="One file that plays the walks you watched, without a server.",
    )  # fmt: skip


def page(lesson: Lesson, walks: dict[str, Any], answers: dict[str, foretold.Foretold | None]) -> bytes:
    """The lesson with these finished runs by the scene's name. It asks for nothing from anywhere, and a policy in it says so."""
    parts = [f"<h1>{escape(lesson.title)}</h1><pre>{escape(lesson.about)}</pre>"]
    for at, scene in enumerate(lesson.scenes):
        name = foretold.name_of(lesson, at)
        parts.append(_scene(scene, walks.get(name), answers.get(name)))
    return _document(lesson.title, parts)


def _document(title: str, parts: list[str]) -> bytes:
    parts = [*parts, f"<small>Robustness Explorer {escape(__version__)}</small>"]
    policy = (
        "default-src 'none'; connect-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{escape(title)}</title>'
        f"<style>{STYLES}</style></head><body>"
    )
    return (head + "\n".join(parts) + "</body></html>").encode()


def _scene(scene: Scene, item: Any, answer: foretold.Foretold | None) -> str:
    parts = [f"<h2>{escape(scene.title)}</h2><pre>{escape(scene.before)}</pre>"]
    question = scene.question
    if question is not None:
        said = f" You said {escape(question.options[answer.option])}, {answer.sure} % sure." if answer else ""
        came = f" <b>{escape(question.options[answer.came])}</b>." if answer and answer.came is not None else ""
        parts.append(f"<blockquote>{escape(question.text)}{came}{said}</blockquote>")
    parts += [_player(*walk) for walk in _walks(item)]
    if item is not None:
        parts.append(f"<pre>{escape(scene.after)}</pre>")
    if scene.link:
        parts.append(f"<small>Settings: {escape(scene.link)}</small>")
    return "\n".join(parts)


def _walks(item: Any) -> list[tuple[Snapshot, str, str]]:
    """Walk, model and title of each that a run has."""
    if isinstance(item, Snapshot):
        model = str(item.trace.conditions["model"])
        return [(item, model, zoo.card(model).title)]
    if isinstance(item, Comparison):
        return [(lane.snapshot, lane.request.model, lane.request.title()) for lane in item.lanes]
    return []


def _player(snapshot: Snapshot, model: str, title: str) -> str:
    inside = escape(walk_page(snapshot, model, title).decode())
    return f'<iframe sandbox="allow-scripts" title="{escape(title)}" srcdoc="{inside}"></iframe>'
