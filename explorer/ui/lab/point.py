"""Pictures of one point of a curve: which ones the attack has fooled and which hold; each opens its walk on the Attack page."""

from __future__ import annotations

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.data import load
from explorer.engine import AttackRequest, eps_text
from explorer.engine.accuracy_over_eps import AccuracyOverEps, Cells
from explorer.evaluation.measure import unpacked
from explorer.models import zoo
from explorer.ui import frame
from explorer.ui.attack import ATTACK
from explorer.ui.components.gallery import gallery
from explorer.ui.inputs.choices import named, sample, thumbs
from explorer.ui.notices import noticed

SHOWN = 24
FOOLED, HOLDS, WRONG = "fooled", "holds", "wrong before"


def show(asked: AccuracyOverEps, cells: Cells) -> None:
    """Choosers of a point, and its pictures by what became of them; nothing where no verdicts are kept."""
    points = [
        place for place in dict.fromkeys(asked.places) if place[1] is not None and cells.get(place, {}).get("verdicts")
    ]
    if not points:
        return
    st.header("Pictures of a point", anchor=False)
    columns = st.columns([3, 2, 1.5])
    models = {model: zoo.card(model).title for model, _, _ in points}
    model = columns[0].selectbox("Model", list(models), key="lab.point.model", format_func=named(models))
    attacks = {key: ATTACKS.entry(key).title for owner, key, _ in points if owner == model and key is not None}
    attack = columns[1].selectbox("Attack", list(attacks), key="lab.point.attack", format_func=named(attacks))
    sizes = [eps for owner, key, eps in points if (owner, key) == (model, attack)]
    if not sizes:
        return
    eps = columns[2].selectbox("eps", sizes, key="lab.point.eps", format_func=eps_text)
    groups = _groups(asked, cells, model, attack, eps)
    kinds = [kind for kind in (FOOLED, HOLDS, WRONG) if groups[kind]]
    kind = st.segmented_control(
        "Pictures", kinds, default=kinds[0], required=True, key=f"lab.point.kind.{'.'.join(kinds)}",
        format_func=lambda one: f"{one} ({len(groups[one])})", label_visibility="collapsed",
    )  # fmt: skip
    rows = bundled_rows(asked.dataset, asked.n)
    there = tuple(row for k in groups[kind or kinds[0]] if (row := rows[k]) is not None)[:SHOWN]
    if not there:
        st.info(
            "None of these pictures is among the bundled ones, which the Attack page shows.", icon=":material/info:"
        )
        return
    gallery(
        thumbs(asked.dataset, there), [], key=f"lab.point.{model}.{attack}.{eps}.{kind}", label="Pictures of this point",
        on_pick=lambda picked: _open(asked, model, attack, eps, picked[0]) if picked else None,
    )  # fmt: skip
    st.caption(
        "A click opens this attack on this picture. There it is alone in its batch, so its random start is another one."
    )


def _groups(asked: AccuracyOverEps, cells: Cells, model: str, attack: str, eps: float) -> dict[str, list[int]]:
    """Places of the pictures, by what became of them; without a clean measure what was wrong before counts as fooled."""
    held = unpacked(cells[model, attack, eps]["verdicts"], asked.n)
    clean = cells.get((model, None, 0.0), {}).get("verdicts")
    right = unpacked(clean, asked.n) if clean else [True] * asked.n
    kinds = [HOLDS if still else FOOLED if before else WRONG for before, still in zip(right, held, strict=True)]
    return {kind: [k for k, one in enumerate(kinds) if one == kind] for kind in (FOOLED, HOLDS, WRONG)}


@st.cache_data(show_spinner=False, max_entries=16)
def bundled_rows(name: str, n: int) -> list[int | None]:
    """For each of the pictures that an evaluation takes, its row among the bundled ones; None: it is none of them."""
    known = {index: row for row, index in enumerate(sample(name).index.tolist())}
    return [known.get(index) for index in load(name, n=n).index.tolist()]


def _open(asked: AccuracyOverEps, model: str, attack: str, eps: float, row: int) -> None:
    with noticed():
        ATTACK.play(
            AttackRequest(asked.dataset, row, model, attack=attack, norm=asked.norm, eps=eps, seed=asked.seed).checked()
        )
        frame.go_to("attack")
