"""Take-home: a lesson as one HTML file, its words, one's answers, and every walk that was watched as a player without a server."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any

import streamlit as st

from explorer import __version__
from explorer.classroom import Lesson, Scene
from explorer.engine import Snapshot
from explorer.engine.compare import Comparison
from explorer.models import zoo
from explorer.ui.attack.saving import walk_page
from explorer.ui.lessons import foretold, stage

WALKS = "lesson.walks"  # in st.session_state: finished walks by the scene's name, of the lesson that is open
STYLES = """body { margin: 0 auto; padding: 1.5rem; max-width: 75rem; font: 16px/1.5 system-ui, sans-serif; color-scheme: light dark; }
iframe { width: 100%; height: 46rem; border: 1px solid #8888; border-radius: 8px; } blockquote { border-left: 4px solid #8888;
margin: 1rem 0; padding: 0 1rem; } small { opacity: .8; } pre { white-space: pre-wrap; font: inherit; }"""


def remember(name: str, scene: Scene) -> None:
    """Keep a scene's finished walk for the file; those of another lesson go."""
    item, lesson = stage.RUNS[scene.page].latest, name.rpartition("/")[0]
    kept = {key: one for key, one in st.session_state.get(WALKS, {}).items() if key.rpartition("/")[0] == lesson}
    st.session_state[WALKS] = kept | {name: item}


def button(lesson: Lesson) -> None:
    """The file, made when it is asked for."""
    st.download_button(
        "Take it home (HTML)", partial(_page, lesson), f"{lesson.key}.html", "text/html", key="lesson.home", on_click="ignore",
        icon=":material/download:", width="stretch", help="One file that plays the walks you watched, without a server.",
    )  # fmt: skip


def _page(lesson: Lesson) -> bytes:
    return page(
        lesson, st.session_state.get(WALKS, {}), {name: foretold.of(name) for name in st.session_state.get(WALKS, {})}
    )


def page(lesson: Lesson, walks: dict[str, Any], answers: dict[str, foretold.Foretold | None]) -> bytes:
    """The lesson with these finished runs by the scene's name. It asks for nothing from anywhere, and a policy in it says so."""
    parts = [f"<h1>{escape(lesson.title)}</h1><pre>{escape(lesson.about)}</pre>"]
    for at, scene in enumerate(lesson.scenes):
        name = foretold.name_of(lesson, at)
        parts.append(_scene(scene, walks.get(name), answers.get(name)))
    parts.append(f"<small>Robustness Explorer {escape(__version__)}</small>")
    policy = (
        "default-src 'none'; connect-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{escape(lesson.title)}</title>'
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
