"""The Lab's choices: which models, attacks, norm and sizes of eps, how many pictures and which seed."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.attacks import ATTACKS
from explorer.core import NORMS, ExplorerError
from explorer.core.ball import NORM_NAMES
from explorer.data import dataset
from explorer.engine import eps_text
from explorer.engine.accuracy_over_eps import LINK, MOST, AccuracyOverEps, usual_eps
from explorer.models import zoo
from explorer.ui import permission
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import model_labels, model_titles, named
from explorer.ui.inputs.forms import put
from explorer.ui.inputs.picture import dataset_box
from explorer.ui.notices import notice
from explorer.ui.page_run import gone_back
from explorer.ui.text.choosers import attack_label, attack_order

FIRST = ("pgd", "apgd-ce", "fgsm")  # of the attacks, in this order
USUAL = 2  # models and attacks that the page begins with


def open_page() -> None:
    """What a link, the browser's history or the controls of before ask for; at first the defaults."""
    first = controls.show_default()
    query = {name: value for name, value in st.query_params.to_dict().items() if name in LINK}
    if query and (first or gone_back()):
        try:
            show(AccuracyOverEps.from_query(_filled(query)))
        except ExplorerError as error:
            notice(f"The link could not be followed: {error}")
    prepare()


def _filled(query: dict[str, str]) -> dict[str, str]:
    """A link with what it leaves out: the dataset of its first model, the usual models and attacks."""
    known = dict(query)
    if "data" not in known:
        model = known.get("models", "").split(",")[0]
        known["data"] = zoo.card(model).dataset if model else st.session_state["dataset"]
    name = dataset(known["data"]).name
    known.setdefault("models", ",".join(_usual_models([card.name for card in zoo.cards() if card.dataset == name])))
    known.setdefault("attacks", ",".join(offered(known.get("norm", AccuracyOverEps.norm))[:USUAL]))
    return known


def show(question: AccuracyOverEps) -> None:
    """Make the controls show it; before they are drawn."""
    state = st.session_state
    state["dataset"], state["lab.models"], state["lab.attacks"] = (
        question.dataset,
        [*question.models],
        [*question.attacks],
    )
    state["lab.norm"], state["lab.n"], state["lab.seed"] = question.norm, question.n, question.seed
    state[_eps_key()] = _listed(question.eps)


def prepare() -> None:
    """First values, and what no longer fits taken off."""
    state = st.session_state
    for name in ("norm", "n", "seed"):
        state.setdefault(f"lab.{name}", getattr(AccuracyOverEps, name))
    state.setdefault(_eps_key(), _listed(usual_eps(state["lab.norm"])))
    for key, there, usual in (
        ("lab.models", list(model_titles()), _usual_models(list(model_titles()))),
        ("lab.attacks", offered(state["lab.norm"]), offered(state["lab.norm"])[:USUAL]),
    ):
        chosen = state.setdefault(key, usual)
        kept = [name for name in chosen if name in there]
        put(key, kept if kept or not chosen else usual)


def current() -> AccuracyOverEps:
    """What the controls say; raises an ExplorerError with one sentence."""
    state = st.session_state
    return AccuracyOverEps(
        state["dataset"], tuple(state["lab.models"]), tuple(state["lab.attacks"]), state["lab.norm"], state[_eps_key()],
        state["lab.n"], state["lab.seed"],
    )  # fmt: skip


def offered(norm: str) -> list[str]:
    """Attacks that are defined in this norm."""
    return [key for key in dict.fromkeys([*FIRST, *attack_order()]) if norm in ATTACKS[key].norms]


def boxes(models: DeltaGenerator, attacks: DeltaGenerator) -> None:
    """Which models under which attacks."""
    labels = model_labels()
    models.multiselect(
        "Models", list(labels), key="lab.models", persist_state="session", format_func=named(labels),
        max_selections=MOST["models"], filter_mode="contains", wrap=True, placeholder=f"Choose 1 to {MOST['models']}",
    )  # fmt: skip
    attacks.multiselect(
        "under attacks", offered(st.session_state["lab.norm"]), key="lab.attacks", persist_state="session",
        format_func=attack_label, max_selections=MOST["attacks"], filter_mode="contains", wrap=True,
        placeholder=f"Choose 1 to {MOST['attacks']}", help="Each at its standard settings, untargeted, at every size of eps.",
    )  # fmt: skip


def panel() -> None:
    """Pictures, and the sizes of eps."""
    st.header("Pictures", anchor=False)
    dataset_box()
    left, right = st.columns(2)
    left.number_input(
        "How many", 1, MOST["n"], step=10, key="lab.n", persist_state="session",
        help="Test pictures, evenly from all classes, the same for every model. The more, the narrower the intervals.",
    )  # fmt: skip
    right.number_input(
        "Seed",
        0,
        2**31 - 1,
        step=1,
        key="lab.seed",
        persist_state="session",
        help="Of every draw: random starts, random models.",
    )
    st.header("Threat model", anchor=False)
    st.selectbox("Norm", NORMS, key="lab.norm", persist_state="session", format_func=named(NORM_NAMES))
    st.session_state.setdefault(_eps_key(), _listed(usual_eps(st.session_state["lab.norm"])))
    st.text_input(
        "Sizes of eps", key=_eps_key(), persist_state="session",
        help=f"In pixel units, at most {MOST['eps']}, with commas between them; 0 is accuracy without an attack.",
    )  # fmt: skip
    permission.asked("lab")


def _usual_models(names: list[str]) -> list[str]:
    favourites = [name for name in (controls.FAVOURITE, "cifar10/pgd-linf") if name in names]
    return [*dict.fromkeys([*favourites, *names])][:USUAL]


def _eps_key() -> str:
    return f"lab.eps.{st.session_state['lab.norm']}"


def _listed(eps: tuple[float, ...]) -> str:
    return ", ".join(map(eps_text, eps))
