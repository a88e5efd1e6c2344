"""Looking again at training runs: the page is drawn anew when a file of theirs has changed, and as often as a class allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.jobs import LIVE, Run
from explorer.ui.frame import leave_if_wanted
from explorer.ui.run_record import Seen
from explorer.ui.session import audience, look_again, store
from explorer.ui.training.watch import record_of

PULSE = 0.25  # seconds between two looks at a run that has yet to record something, or to stop
STEADY = 3.0  # seconds between two looks at runs that record all the time: each draws the page anew
QUIET = 5.0  # seconds between two looks whether somebody else has begun something
EASY = 6  # pages that may look so often; with more, each looks less often


def look(runs: Sequence[Seen], chosen: Sequence[Seen]) -> None:
    """Draws nothing; draws the page anew when something has changed. Runs that have ended are not looked at."""
    live = [seen for seen in runs if seen.live]
    soon = any(begins(seen) or (seen.live and seen.run.stopping) for seen in chosen)
    crowd = max(1.0, audience("training", within=20 * STEADY) / EASY)
    pause = PULSE * crowd if soon else STEADY * crowd if live else QUIET
    look_again(_draw_if_changed, _signs(live, chosen), live, chosen, every=pause, key="training.pulse")


def begins(seen: Seen) -> bool:
    """Whether its first record is a matter of seconds. A run that waits for its turn says so."""
    waits = seen.state.status == "queued" and bool(seen.state.message)
    return seen.live and not waits and record_of(seen).standing() is None


def _draw_if_changed(before: tuple[Any, ...], live: Sequence[Seen], chosen: Sequence[Seen]) -> None:
    leave_if_wanted()
    if _signs(live, chosen) != before:
        st.rerun()
    state = st.session_state
    state["training.looks"] = state.get("training.looks", 0) + 1
    if live and state["training.looks"] % 5 == 0 and any(_ended(seen.run) for seen in live):
        st.rerun()


def _ended(run: Run) -> bool:
    """Whether a live run's process is gone (its files would not say so); one that should be started again is."""
    return run.tend().status not in LIVE


def _signs(live: Sequence[Seen], chosen: Sequence[Seen]) -> tuple[Any, ...]:
    """What changes when something happens: times and sizes of a few files, and what the runs on show say they do."""
    root = store().root
    on_show = {seen.id for seen in chosen}
    signs: list[Any] = [_sign(root)]
    for seen in live:
        folder = seen.run.folder
        names = ["state.json", "metrics.jsonl", "cancel"]
        if not seen.trains:
            signs.append(seen.run.state.message)
        if seen.id in on_show:
            signs.append(seen.run.state.message)
            if not begins(seen):
                names += ["sights", "log.txt"]
        signs += [_sign(folder / name) for name in names]
    return tuple(signs)


def _sign(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
