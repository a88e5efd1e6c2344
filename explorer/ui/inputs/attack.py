"""The attack to make, as widgets: they read and write session state, and make one AttackRequest of it.

Picture, attack, ball and seed are the same widgets on all pages that attack, so that what is chosen on one is chosen on all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.attacks import ATTACKS
from explorer.core import BadCheckpoint, Hyper, InvalidValue
from explorer.core.ball import THREAT_EPS, THREAT_NAMES, WHOLE
from explorer.data import dataset
from explorer.engine import AttackRequest, eps_text
from explorer.engine.batch_request import ManyRequest
from explorer.models import zoo
from explorer.ui.components.pictures import to_url
from explorer.ui.frame import is_hidden
from explorer.ui.inputs.choices import ANY, FAVOURITE, FIRST_PICTURES, model_labels, model_titles, named, sample
from explorer.ui.inputs.forms import Scene, form_for, set_form
from explorer.ui.inputs.own_pictures import UNTOLD, is_upload, shows_key
from explorer.ui.inputs.picture import chosen_picture, true_label
from explorer.ui.session import engine
from explorer.ui.text.choosers import attack_label, attack_order

FEW = 20  # classes that one finds without a search
STEADY = ("fgsm", "deepfool")  # they draw nothing at random, but where a gradient is exactly zero

Walk = TypeVar("Walk", AttackRequest, ManyRequest)


def show_default() -> bool:
    """The first thing that any page shows, if nothing was chosen yet; whether that is so."""
    first = "image" not in st.session_state
    if first:
        show(default_request())
    return first


def default_request() -> AttackRequest:
    """What a page opens with: it succeeds at once."""
    known = [card.name for card in zoo.cards()]
    if not known:
        raise BadCheckpoint(
            "There is no model to attack: the folder checkpoints/ holds no readable card. Get it again."
        )
    model = FAVOURITE if FAVOURITE in known else known[0]
    name = model.split("/")[0]
    return AttackRequest(dataset=name, image=FIRST_PICTURES.get(name, 0), model=model).checked()


def filled(query: Mapping[str, str], picture: bool = True) -> dict[str, str]:
    """A link with what it leaves out: the usual data and model, their usual `picture`, a norm of the attack, its usual eps.

    Raises an ExplorerError for a name that is unknown.
    """
    usual = default_request()
    known = {"data": usual.dataset} | dict(query)
    if "data" not in query and "model" in query:
        known["data"] = zoo.card(query["model"]).dataset
    if "model" not in known:
        models = [card.name for card in zoo.cards() if card.dataset == known["data"]]
        known["model"] = usual.model if usual.model in models or not models else models[0]
    if picture:
        known.setdefault("image", str(FIRST_PICTURES.get(known["data"], 0)))
    norms = ATTACKS[known.get("attack", usual.attack)].threats
    known.setdefault("norm", usual.norm if usual.norm in norms else norms[0])
    if known["norm"] in THREAT_EPS:
        known.setdefault("eps", eps_text(THREAT_EPS[known["norm"]]))
    return known


def show(request: AttackRequest) -> None:
    """Make all controls show this request. Call it before they are drawn."""
    state = st.session_state
    state["dataset"], state["image"], state["model"] = request.dataset, request.image, request.model
    state["attack"], state["norm"], state["seed"] = request.attack, request.norm, request.seed
    if not request.is_minimal:
        state[_eps_key(request.norm)] = _shown(request.eps, request.norm)
    state["target"] = ANY if request.target is None else dataset(request.dataset).classes[request.target]
    set_form(ATTACKS[request.attack], request.attack, request.hyper)
    if isinstance(request.image, str):
        state[shows_key(request.image)] = UNTOLD if request.label is None else request.classes[request.label]


def same_walk(shown: Walk, request: Walk) -> bool:
    """Whether both ask for the same walk (eps compared as a page shows it)."""
    if (shown.norm, shown.is_minimal) != (request.norm, request.is_minimal):
        return False  # an eps of one norm may be none of the other
    return dataclasses.replace(request, eps=shown.eps) == shown and abs(request.eps - shown.eps) < 1e-9


def current_request(model: str | None = None, attack: str | None = None) -> AttackRequest:
    """What the controls say, against `model` and by `attack` (None: the chosen ones), checked; raises ExplorerError with one
    sentence."""
    return AttackRequest(**chosen_picture(), **attack_settings(model, attack)).checked().within()


def attack_settings(model: str | None = None, attack: str | None = None) -> dict[str, Any]:
    """A request's arguments but for the picture, as the controls say; nothing is checked yet."""
    state = st.session_state
    attack = attack or state["attack"]
    norm = state["norm"]
    number = state.get(_eps_key(norm), _usual_eps(norm))
    eps = float(number) / 255 if norm == "linf" else float(number)
    cls = ATTACKS[attack]
    hyper = {p.name: state.get(f"{attack}.{p.name}", p.default) for p in cls.params()}  # not drawn yet: the default
    return {
        "dataset": state["dataset"],
        "model": model or state["model"],
        "attack": attack,
        "hyper": hyper,
        "norm": norm,
        "eps": eps,
        "target": None if state["target"] == ANY else state["target"],
        "seed": state["seed"],
    }


def model_box(place: DeltaGenerator) -> None:
    """Which model; that of another dataset gives way to the first of this one."""
    labels = model_labels()
    if st.session_state["model"] not in labels:
        st.session_state["model"] = next(iter(labels))
    place.selectbox(
        "Fool this model", list(labels), key="model", persist_state="session", format_func=named(labels), filter_mode="contains",
        help="Type to search: a name, a number, or a word such as robust, certified, random, baseline.",
    )  # fmt: skip


def attack_boxes(attack: DeltaGenerator, wish: DeltaGenerator, own: Sequence[int] | None = None) -> None:
    """Which attack, and what for. `own`: classes that cannot be wished for; None: the chosen picture's."""
    state = st.session_state
    taken = [true_label()] if own is None else own
    attack.selectbox(
        "with this attack",
        attack_order(),
        key="attack",
        persist_state="session",
        format_func=attack_label,
        filter_mode="contains",
        help=f"{ATTACKS.entry(state['attack']).summary} The first four are where to begin. Type to search: white-box, black-box, "
        "smallest change, noise, transfer ...",
    )
    classes = [c for i, c in enumerate(dataset(state["dataset"]).classes) if i not in taken]
    if state["target"] not in (ANY, *classes):
        state["target"] = ANY
    wish.selectbox(
        "so that it sees", [ANY, *classes], key="target", persist_state="session", filter_mode="contains",
        help="Any wrong class is the easier wish." + " Type to search." * (len(classes) > FEW),
    )  # fmt: skip


def attack_panel(models: Sequence[str] | None = None) -> None:
    """How hard: the ball, the attack's own hyper-parameters, the seed; of these only what does something to `models`
    (None: the chosen one).

    Only norms the attack is defined in are offered; one that looks for the smallest change is given no eps.
    """
    state = st.session_state
    entry = ATTACKS.entry(state["attack"])
    if state["norm"] not in entry.cls.threats:
        state["norm"] = entry.cls.threats[0]
    if is_hidden("settings"):
        return
    st.header(f"{entry.title}", anchor=False)
    st.caption(entry.summary)
    left, right = st.columns(2)
    left.selectbox(
        "Norm",
        entry.cls.threats,
        key="norm",
        persist_state="session",
        format_func=named(THREAT_NAMES),
        help="How change is measured. L∞ (L-infinity): the largest change of any pixel. L2: the Euclidean length of all changes. "
        "L1: their sum. L0: how many pixels change at all. Other attacks turn or spoil the picture as a whole.",
    )
    key = _eps_key(state["norm"])
    state.setdefault(key, _usual_eps(state["norm"]))
    if entry.cls.budget == "minimal":
        right.caption("No eps to choose: it looks for the smallest change.")
    elif state["norm"] == "linf":
        right.number_input("eps (of 255)", 0.01, 255.0, step=1.0, format="%.4g", key=key, persist_state="session", help=(
            "How much any pixel may change, in 255ths of the pixel range. 8 is the usual test. Between 0.01 and 255."))  # fmt: skip
    elif state["norm"] == "l1":
        right.number_input("eps (sum)", 0.01, 10_000.0, step=1.0, format="%.4g", key=key, persist_state="session", help=(
            "How much all pixel values together may change, pixels in [0, 1]. 12 is a usual test. Between 0.01 and 10,000."))  # fmt: skip
    elif state["norm"] == "rotation":
        right.number_input("eps (share)", 0.01, 1.0, step=0.1, format="%.4g", key=key, persist_state="session", help=(
            "What share of the largest angle, shift and scale below is allowed. 1 is all of them."))  # fmt: skip
    elif state["norm"] == "corruption":
        right.number_input("eps (severity)", 1, 5, key=key, persist_state="session", help=(
            "The strongest corruption that is tried, from 1 (weak) to 5."))  # fmt: skip
    elif state["norm"] == "l0":
        right.number_input("eps (pixels)", 1, 10_000, key=key, persist_state="session", help=(
            "How many pixels may change, in all channels, by anything. Between 1 and 10,000."))  # fmt: skip
    else:
        right.number_input("eps (length)", 0.001, 100.0, step=0.25, format="%.4g", key=key, persist_state="session", help=(
            "How long the change may be, pixels in [0, 1]. 0.5 is the usual test. Between 0.001 and 100."))  # fmt: skip
    random = any(zoo.card(name).stochastic for name in models or [state["model"]])
    draws = f"{entry.key}.draws"
    idle = {"draws"} if not random and state.get(draws, 1) == 1 else set()
    form_for(entry.cls, entry.key, _scene(entry.cls), hidden=idle)
    if not random and entry.key in STEADY and state["seed"] == 0:
        return  # nothing is drawn
    st.number_input(
        "seed", 0, 2**31 - 1, key="seed", persist_state="session", help="Fixes every random draw: the same seed, the same walk.",
    )  # fmt: skip


def _scene(cls: type[Hyper]) -> Scene | None:
    """The chosen picture and the models beside the chosen one, if a field is about them and the picture is still here."""
    state = st.session_state
    image = state["image"]
    if not any(p.widget for p in cls.params()):
        return None
    try:
        pixels = engine().upload(image) if is_upload(image) else sample(state["dataset"]).x[image]
    except InvalidValue:
        return None
    others = {name: title for name, title in model_titles().items() if name != state.get("model")}
    return Scene(to_url(pixels.numpy()), others)


def _usual_eps(norm: str) -> float:
    """As the control shows it."""
    return _shown(THREAT_EPS[norm], norm)


def _shown(eps: float, norm: str) -> float:
    return int(eps) if norm in WHOLE else eps * (255 if norm == "linf" else 1)


def _eps_key(norm: str) -> str:
    return f"eps.{norm}"
