"""What the Training page says: durations, statuses, how far a run is. Words only, no widgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from explorer.jobs.train import counted
from explorer.plots.training import MEASURES
from explorer.ui.run_record import Standing, interval

STATUS = {  # status: colour, icon and words of its badge
    "queued": ("gray", "hourglass", "waiting"),
    "running": ("blue", "directions_run", "running"),
    "paused": ("orange", "pause_circle", "paused"),
    "finished": ("green", "check_circle", "finished"),
    "cancelled": ("gray", "stop_circle", "cancelled"),
    "failed": ("red", "error", "failed"),
    "interrupted": ("orange", "power_off", "interrupted"),
    "unreadable": ("red", "broken_image", "unreadable"),
}

MEANING = {  # what held-out images go through before each measure; clean needs no word
    "robust": "under an attack with the steps and the eps of the settings",
    "noisy": "under the noise that the recipe trains with",
    "fgsm": "a single step of the attack",
    "linf": "attacked in Linf alone",
    "l2": "attacked in L2 alone",
    "certified": "right, and proven to stay so, for every change that the recipe names",
}


def badge(status: str) -> str:
    """The status as Markdown: colour, icon and word."""
    color, icon, word = STATUS.get(status, ("gray", "help", status))
    return f":{color}-badge[:material/{icon}: {word}]"


def duration(seconds: float) -> str:
    """ "3 min 20 s", "2 h 5 min": two units at most; "unknown" for what is not known."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = max(round(seconds), 0)
    for unit, size, smaller, rest in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            more = whole % size // rest
            return f"{whole // size} {unit}" + (f" {more} {smaller}" if more else "")
    return f"{whole} s"


def size(value: float) -> str:
    """Bytes for people."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def when(seconds: float) -> str:
    """ "today 16:05" or "12 Nov 16:05" in this computer's time, from seconds since 1970; nothing for 0."""
    if not seconds:
        return ""
    moment, now = datetime.fromtimestamp(seconds), datetime.now()
    day = "today" if moment.date() == now.date() else f"{moment.day} {moment:%b}"
    return f"{day} {moment:%H:%M}"


def progress(now: Standing | None) -> str:
    """ "epoch 3 of 12, 21 %"; nothing before the first record."""
    if now is None:
        return ""
    under_way = min(now.epoch + 1, now.epochs) if now.epochs else now.epoch + 1
    share = f", {100 * now.update / now.updates:.0f} %" if now.updates else ""
    return f"epoch {under_way}" + (f" of {now.epochs}" if now.epochs else "") + share


def scores(found: Mapping[str, float]) -> str:
    """ "clean 71.2 %, robust 40.0 %"."""
    return ", ".join(f"{measure} {percent(found[measure])}" for measure in MEASURES if measure in found)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"


def spread(share: float, n: int | None, half: bool) -> str:
    """The conditions of a held-out share, for brackets; nothing where they are not known."""
    return interval(share, counted(n, half))


def conditions(now: Standing, half: tuple[str, ...]) -> str:
    """What the held-out numbers are: which epoch, of how many images, how sure."""
    if not now.best:
        return ""
    parts = []
    for measure in MEASURES:
        if measure in now.best:
            told = spread(now.best[measure], now.held_out, measure in half)
            parts.append(f"{measure} {percent(now.best[measure])}" + (f" ({told})" if told else ""))
    meant = [f"{measure}: {meaning}" for measure, meaning in MEANING.items() if measure in now.best]
    return (
        f"Best so far after epoch {now.best['epoch']:.0f}: {'; '.join(parts)}. In brackets: 95 % interval, held-out images."
        + (f" Accuracy {'; '.join(meant)}." if meant else "")
    )


def plain(value: Any) -> str:
    """A hyper-parameter's value for a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if value != "" else "–"


def differing(hypers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Names of hyper-parameters whose values differ between runs (or are not in all), with each run's value."""
    names = dict.fromkeys(name for hyper in hypers.values() for name in hyper)
    rows = {
        name: {run: plain(hyper[name]) if name in hyper else "–" for run, hyper in hypers.items()} for name in names
    }
    return {name: row for name, row in rows.items() if len(set(row.values())) > 1}
