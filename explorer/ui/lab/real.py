"""Is it real? The report card for gradient masking on the Lab page: each check, and for a raised flag the picture that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import USUAL_EPS, Ball, parse_eps
from explorer.core.ball import NORM_NAMES
from explorer.data import chosen_rows
from explorer.engine import AttackRequest, eps_text
from explorer.engine.tables import Table
from explorer.evaluation.masking import CHECKS
from explorer.jobs.masking import NORMS, MaskingSettings, usual_twin
from explorer.models import zoo
from explorer.ui import frame, permission
from explorer.ui.attack import ATTACK
from explorer.ui.components.pictures import to_url
from explorer.ui.components.save import save_place
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import FAVOURITE, model_labels, model_titles, named, sample
from explorer.ui.inputs.forms import put
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.lab import views
from explorer.ui.notices import noticed
from explorer.ui.page_run import gone_back

KIND = "masking"
FLAG = {True: ":red[:material/flag:] **Flag**", False: ":material/check: no flag", None: ":material/remove: not asked"}
WAITING = ":material/hourglass_empty: waiting"
ABOUT = (
    "**Is it real?** An attack that fails may have been misled. These checks look for gradients that hide the way "
    "(gradient masking). No flag does not show that a model withstands attacks."
)


def open_page() -> None:
    """What a link asks for, and first values."""
    controls.show_default()
    state, query = st.session_state, st.query_params
    if (name := query.get("model")) and ("lab.real.model" not in state or gone_back()):
        with noticed():
            state["dataset"] = zoo.card(name).dataset
            state["lab.real.model"] = name
    state.setdefault("lab.real.norm", NORMS[0])
    state.setdefault("lab.real.n", MaskingSettings.images)
    titles = list(model_titles())
    if state.get("lab.real.model") not in titles:
        put("lab.real.model", FAVOURITE if FAVOURITE in titles else titles[0])
    state.setdefault(_eps_key(), eps_text(USUAL_EPS[state["lab.real.norm"]]))


def panel() -> None:
    """Pictures and threat model, in the sidebar."""
    st.header("Pictures", anchor=False)
    dataset_box()
    st.number_input(
        "How many", 10, 500, step=10, key="lab.real.n", persist_state="session",
        help="Drawn from the bundled ones. Those that the model has wrong anyway are left out.",
    )  # fmt: skip
    st.header("Threat model", anchor=False)
    st.segmented_control("Norm", NORMS, key="lab.real.norm", persist_state="session", required=True,
                         format_func=named(NORM_NAMES))  # fmt: skip
    st.session_state.setdefault(_eps_key(), eps_text(USUAL_EPS[st.session_state["lab.real.norm"]]))
    st.text_input("eps", key=_eps_key(), persist_state="session", help="In pixel units: 8/255, or 0.5 in L2.")
    permission.asked("lab")


def show() -> None:
    """Which model, the button, and the report card as far as it is measured."""
    place, act = frame.row([3, 2], key="headline-lab-real")
    labels = model_labels()
    place.selectbox("Model", list(labels), key="lab.real.model", persist_state="session", format_func=named(labels),
                    filter_mode="contains")  # fmt: skip
    views.ask(act, KIND, settings, ABOUT, (views.REAL, "model"), _stage)


def settings() -> dict[str, Any]:
    """What the run is asked, as its spec names it. Raises InvalidValue."""
    state = st.session_state
    card, norm = zoo.card(state["lab.real.model"]), state["lab.real.norm"]
    ball = Ball(norm, parse_eps(state[_eps_key()]))
    return MaskingSettings(
        model=card.name, weights=card.identity, twin=usual_twin(card), norm=norm, eps=float(ball.eps), images=state["lab.real.n"],
    ).to_dict()  # fmt: skip


def _eps_key() -> str:
    return f"lab.real.eps.{st.session_state['lab.real.norm']}"


def _stage(asked: dict[str, Any], polling: bool) -> None:
    answer = views.look(KIND, asked, polling)
    if answer.row is None:
        if not polling:
            views.nothing()
        return
    found = {cell["check"]: cell for cell in answer.row["checks"]}
    if answer.finished:
        raised = any(cell["raised"] for cell in found.values())
        (st.warning if raised else st.info)(answer.row["said"], icon=":material/flag:" if raised else ":material/info:")
    for check in CHECKS:
        _line(asked, check, found.get(check.key))
    norm, eps = NORM_NAMES[asked["norm"]], eps_text(asked["eps"])
    right = next(iter(found.values()))["right"]
    st.caption(
        f"{asked['images']} bundled pictures drawn with seed {asked['shuffle']}, of which the model has {right} right; {norm} {eps}, "
        f"PGD-20 as the attack to doubt, seed {asked['seed']}; pictures are carried over from {asked['twin'] or 'no other model'}. "
        "A comparison of two attacks is a one-sided exact McNemar test at level 0.01."
    )
    if answer.finished:
        _save(asked, answer.row)


def _line(asked: Mapping[str, Any], check: Any, cell: Mapping[str, Any] | None) -> None:
    """One check: what it is called, its state, its numbers, and the picture with a way to the attack that shows it."""
    with st.container(border=True):
        state, said, shown = st.columns([2.2, 5, 1.3], vertical_alignment="center")
        state.markdown(f"{WAITING if cell is None else FLAG[cell['raised']]}  \n{check.title}")
        said.markdown(f"{'' if cell is None else cell['said']} :gray[:small[{check.paper}]]")
        if cell is None or not cell["raised"] or cell["picture"] is None:
            return
        images = sample(zoo.card(asked["model"]).dataset)
        row = chosen_rows(images.name, asked["shuffle"], asked["images"])[cell["picture"]]
        url = to_url(images.x[row].numpy())
        shown.html(
            f'<img src="{url}" alt="picture {row}" width="56" style="image-rendering:pixelated;border-radius:4px">'
        )
        shown.button(
            "Open", key=f"lab.real.open.{check.key}", icon=":material/bolt:", on_click=_open, args=(dict(asked), cell["attack"], row),
            help=f"{ATTACKS.entry(cell['attack']).title} on picture {row}, which shows it",
        )  # fmt: skip


def _open(asked: Mapping[str, Any], attack: str, row: int) -> None:
    with noticed():
        request = AttackRequest(
            zoo.card(asked["model"]).dataset, row, asked["model"], attack=attack, norm=asked["norm"], eps=asked["eps"],
            seed=asked["seed"],
        )  # fmt: skip
        ATTACK.play(request.checked())
        frame.go_to("attack")


def _save(asked: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    rows = tuple(
        {"check": cell["check"], "raised": cell["raised"], "said": cell["said"], "n": cell["n"], "image": cell["index"]}
        for cell in row["checks"]
    )
    name = asked["model"].partition("/")[2]
    table = Table(rows, {"conditions": row["conditions"], "checks": row["checks"], "said": row["said"]})
    save_place(f"{name}-masking", about=row["said"], table=table, key="lab.real.save")
