"""Sentences of the table of certified radii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from torch import Tensor

from explorer.certify.certifier import UNITS, Certifier
from explorer.certify.certifiers import CERTIFIERS
from explorer.core import wilson
from explorer.core.registry import Entry
from explorer.engine.between import Between
from explorer.engine.looking import Looks
from explorer.engine.proving import ProvenPictures
from explorer.engine.rounding import share
from explorer.ui.text.training import duration

NORMS = {"l2": "L2", "linf": "L∞", "patch": "square patches"}
ABOUT = (
    "**Certified radii, picture by picture**: how far each answer is proven, by every kind of certificate that can read the model, "
    "and the smallest change that an attack found. The truth lies between."
)

EXACT = (
    "Asks exactly, by a mixed-integer program for each rival class, whether any wrong picture lies within a distance, closer and "
    "closer, each question at most a minute; in a process of its own. Small networks of linear layers, convolutions and ReLU."
)


def kinds_help() -> str:
    """What each kind is, in a line."""
    return "\n\n".join(f"**{entry.title}**: {entry.summary}" for entry in CERTIFIERS)


def kind(entry: Entry[Certifier], certifier: type[Certifier]) -> str:
    """What one kind proves, and what it does not."""
    holds = "always holds" if certifier.deterministic else "holds except with probability alpha"
    return f"**{entry.title}** ({NORMS[certifier.norm]}, {entry.paper}): {entry.summary} It {holds}. {certifier.caveat}"


def progress(now: ProvenPictures) -> str:
    filled, cells = now.done
    busy = next(
        (CERTIFIERS.entry(k).title for k, found in now.radii.items() if len(found) < len(now.rows)), "the attack"
    )
    return f"{now.request.title()}. **{filled} of {cells} cells**, now {busy}; {duration(now.seconds)} of computing so far."


def finished(now: ProvenPictures) -> str:
    return f"{now.request.title()}; {duration(now.seconds)} of computing."


def alarm(picture: int, title: str) -> str:
    return f"Picture {picture} was changed by an attack inside its certificate ({title}): one of the two is wrong."


def histogram(now: ProvenPictures, key: str, radii: np.ndarray) -> str:
    """Under the histogram: what share is certified at all, and the average radius."""
    right, n = int((radii > 0).sum()), len(radii)
    low, high = wilson(right, n)
    unit = UNITS[now.radii[key][0].norm]
    mean = float(np.floor(1000 * radii[np.isfinite(radii)].mean()) / 1000) if n else 0.0
    return (
        f"{share(right / n, n)} [{low:.1%}, {high:.1%}] of {n} are right and certified beyond 0 (95 % interval over the choice of "
        f"pictures); the average radius is {mean:g} {unit}, counting 0 where the answer is wrong."
    )


def gap(found: int, tried: int) -> str:
    return (
        f"Each mark a picture: the proof across, the attack (FAB) upward, {found} of {tried} found. On the line the two meet; the "
        "farther above, the less is known. None may lie below."
    )


def no_attack(norm: str) -> str:
    if norm == "patch":
        return "No attack is run against patches here: a certificate says that none of them works."
    return "The smallest attack comes after the radii, if it is asked for."


def why(row: dict[str, Any]) -> str:
    """Why the picked picture is as safe as it is."""
    proofs = [name for name in row if name.startswith("radius_") and row[name] is not None]
    told = ", ".join(f"{name.removeprefix('radius_').replace('_', ' ')} {row[name]:.4g}" for name in proofs)
    lead = f"its answer leads the next class by {row['lead_logits']:.3g} logits"
    return f"Picture {row['image']} ({row['label']}): proven {told or 'nowhere'}; {lead}."


def between(now: Between) -> str:
    """How far the exact questions have come."""
    told = {"none": "nothing wrong within", "found": "a wrong picture within", "open": "not settled in time at"}
    last = (
        f" Last: {told[now.asked[-1].settled]} {now.asked[-1].eps:.4f} ({now.asked[-1].seconds:.1f} s)."
        if now.asked
        else ""
    )
    head = "Settled" if now.finished else "Asking"
    return (
        f"**{head}**: the smallest change that turns this answer lies between {now.proven:.4f} and {now.attacked:.4f}; the attack's "
        f"{now.attack:.4f} is at most {now.missed:.1%} too long.{last}"
    )


PRICE = (
    "A line for each model and distance, from the models' cards: the circle is clean accuracy, the cross accuracy under thorough "
    "attacks at that distance where it was measured, the coloured mark what is certified there, with its 95 % interval. Between mark "
    "and cross nothing is proven and nothing was broken. Of smoothed models circle and cross are the network's own, asked without noise."
)
LOOKS = (
    "Each mark a vote: a look votes for every class that it finds more probable than 0.3. Grey: looks that the patch touches; they may "
    "vote for anything. Triangles: leftmost columns from which a patch of this side touches enough looks to turn the vote."
)
COUNTS = (
    "Bars: the votes. Lines: those that are left without the looks that the patch touches; diamonds: a class that gets them all. "
    "Another class wins where its diamond lies beyond the winner's line; of equal counts the class that stands higher wins."
)


def looks(now: Looks, proven: int, patch: int, left: int, wins: Tensor) -> str:
    """What the vote is, what is proven of it, and what a patch of the chosen side could do where it stands."""
    classes, counts = now.request.classes, now.ballots.sum(0)
    winner, positions = int(counts.argmax()), int(wins.any(1).sum())
    head = f"**{classes[winner]}** wins with {counts[winner]} of {len(now.ballots)} looks"
    if not counts[winner]:
        head = f"No look votes for anything, so the first class stands, **{classes[winner]}**"
    told = (
        f"no square patch of up to {proven} x {proven} pixels, wherever it lies, can turn that"
        if proven
        else "a patch of one pixel might turn that"
    )
    here = [classes[k] for k in np.flatnonzero(wins[left].numpy())]
    named = " or ".join(here) if len(here) <= 3 else f"any of {len(here)} other classes"
    there = f"could make it {named}" if here else "touches too few looks to turn the vote"
    where = f"at columns {left} to {left + patch - 1}" if patch > 1 else f"at column {left}"
    return (
        f"{head}; {told}. A patch of side {patch} could from {positions} of {len(wins)} leftmost columns; "
        f"{where} it {there}."
    )


def sorts(name: str) -> bool:
    """Whether rows of the table may be put in the order of this column."""
    return name == "lead_logits" or name.startswith(("radius_", "attack_", "gap_"))


def column(name: str) -> str:
    """What such a column is called."""
    what, _, of = name.partition("_")
    titles = {
        "radius": lambda: CERTIFIERS.entry(of).title,
        "attack": lambda: f"Attack, {NORMS[of]}",
        "gap": lambda: f"Gap, {NORMS[of]}",
    }
    return titles[what]() if what in titles else "Lead"


def columns(names: Sequence[str]) -> dict[str, Any]:
    """How the table shows its columns."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    config: dict[str, Any] = {
        "picture": st.column_config.ImageColumn("", width=48),
        "image": number("Picture", width=70),
        "label": text("Label"),
        "answer": text("Answer"),
        "verdict": text("Verdict"),
        "lead_logits": number(
            column("lead_logits"), format="%.2f", help="Of the answer over the next class, in logits."
        ),
        "votes": number("Votes", help="For the class that won: of noisy copies, or of looks."),
        "seed": number("Seed", format="%d", help="Of the noisy copies' draws."),
    }
    for name in names:
        what, _, of = name.partition("_")
        if what == "radius":
            config[name] = number(
                column(name),
                format="%d" if CERTIFIERS[of].norm == "patch" else "%.4f",
                help=f"Certified radius in {NORMS[CERTIFIERS[of].norm]}; none where wrong.",
            )
        elif what == "attack":
            config[name] = number(column(name), format="%.4f", help="The smallest change that FAB found.")
        elif what == "gap":
            config[name] = number(column(name), format="%.4f", help="Attack less the largest certain radius.")
    return config
