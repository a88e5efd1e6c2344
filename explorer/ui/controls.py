"""The controls of the pages that attack: they read and write session state, and make one AttackRequest of it.

Picture, attack, ball and seed are the same widgets on all those pages, so that what is chosen on one is chosen on all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from explorer.attacks import ATTACKS, GROUPS
from explorer.core import USUAL_EPS, BadCheckpoint, BadImage, ExplorerError, Hyper, InvalidValue
from explorer.data import DATASETS, dataset, load, read_upload
from explorer.defenses import GROUPS as RECIPE_GROUPS
from explorer.defenses import RECIPES
from explorer.engine import AttackRequest
from explorer.engine.predicting import predict_work
from explorer.models import zoo
from explorer.models.zoo import Card
from explorer.ui.forms import Scene, form_for, set_form
from explorer.ui.gallery import Thumb, gallery
from explorer.ui.pictures import to_png, to_url
from explorer.ui.session import engine, session_id, still_open

PER_PAGE = 20
ANY = "any wrong class"
EVERY = "all classes"
FAVOURITE = "cifar10/baseline"  # shown first: it falls at once
FIRST_PICTURES = {"cifar10": 317}  # a frog that nobody mistakes, but the favourite takes for a cat after six steps
UNTOLD = "not in the list, or unknown"


def first_request() -> tuple[AttackRequest, str | None]:
    """What the address bar asks for, else the default; with one sentence if the address could not be followed."""
    query = st.query_params.to_dict()
    if not query:
        return default_request(), None
    try:
        request = AttackRequest.from_query(query).within()
        if request.is_upload:
            engine().upload(request.image)  # raises if that picture is not here
        return request, None
    except ExplorerError as error:
        return default_request(), not_followed(error)


def not_followed(error: ExplorerError) -> str:
    """What a page says of a link that names what is not there or cannot be."""
    return f"The link could not be followed: {error}"


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


def show(request: AttackRequest) -> None:
    """Make all controls show this request. Call it before they are drawn."""
    state = st.session_state
    state["dataset"], state["image"], state["model"] = request.dataset, request.image, request.model
    state["attack"], state["norm"], state["seed"] = request.attack, request.norm, request.seed
    if not request.is_minimal:
        state[_eps_key(request.norm)] = request.eps * 255 if request.norm == "linf" else request.eps
    state["target"] = ANY if request.target is None else dataset(request.dataset).classes[request.target]
    set_form(ATTACKS[request.attack], request.attack, request.hyper)
    if request.is_upload:
        state[_shows_key(request.image)] = UNTOLD if request.label is None else request.classes[request.label]


def image_panel(models: Sequence[str] | None = None) -> None:
    """Which picture: by class, next, random, one that all of `models` get right (None: the chosen one), or one's own."""
    state = st.session_state
    st.subheader("Picture", anchor=False)
    dataset_box()
    name = state["dataset"]
    classes = dataset(name).classes
    st.session_state.setdefault("class", EVERY)
    st.selectbox(
        "Class",
        [EVERY, *classes],
        key="class",
        persist_state="session",
        on_change=partial(_jump, "first"),
        label_visibility="collapsed",
    )
    rows = rows_of_class(name, state["class"])
    position = rows.index(state["image"]) if state["image"] in rows else 0
    page = position // PER_PAGE
    shown = rows[page * PER_PAGE : (page + 1) * PER_PAGE]
    chosen = () if _is_upload(state["image"]) else (state["image"],)
    gallery(
        thumbs(name, tuple(shown)), chosen, key="gallery", label="Pictures to attack", on_pick=partial(_pick, shown)
    )
    columns = st.columns(2)
    columns[0].button("Next", on_click=_jump, args=("next",), width="stretch", icon=":material/navigate_next:")
    columns[1].button("Random", on_click=_jump, args=("random",), width="stretch", icon=":material/shuffle:")
    wish = "One this model gets right" if models is None or len(models) == 1 else "One these models get right"
    st.button(wish, on_click=_jump_to_right, args=(models,), width="stretch", icon=":material/check:")
    with st.expander("Use your own picture", expanded=_is_upload(state["image"])):
        _upload_panel(name)


def _pick(shown: Sequence[int], picked: list[int]) -> None:
    if picked and picked[-1] in shown:
        st.session_state["image"] = picked[-1]


def dataset_box() -> None:
    """Which dataset, where models of several are there."""
    st.session_state.setdefault("dataset", "cifar10")
    offered = sorted({card.dataset for card in zoo.cards()})
    if len(offered) > 1:
        st.selectbox(
            "Dataset",
            offered,
            key="dataset",
            persist_state="session",
            format_func=lambda d: DATASETS[d].title,
            on_change=_dataset_changed,
        )


def attack_panel() -> None:
    """How hard: the ball, the attack's own hyper-parameters, the seed; with the method's formula.

    Only norms the attack is defined in are offered; one that looks for the smallest change is given no eps.
    """
    state = st.session_state
    entry = ATTACKS.entry(state["attack"])
    st.subheader(f"{entry.title}", anchor=False)
    st.caption(entry.summary)
    st.latex(entry.cls.formula)
    st.session_state.setdefault("norm", "linf")
    if state["norm"] not in entry.cls.norms:
        state["norm"] = entry.cls.norms[0]
    left, right = st.columns(2)
    left.selectbox(
        "Norm",
        entry.cls.norms,
        key="norm",
        persist_state="session",
        format_func={"linf": "Linf", "l2": "L2"}.get,
        help="How change is measured. Linf: the largest change of any pixel. L2: the Euclidean length of all changes.",
    )
    st.session_state.setdefault(_eps_key("linf"), 255 * USUAL_EPS["linf"])
    st.session_state.setdefault(_eps_key("l2"), USUAL_EPS["l2"])
    key = _eps_key(state["norm"])
    if entry.cls.budget == "minimal":
        right.caption("No eps to choose: it looks for the smallest change.")
    elif state["norm"] == "linf":
        right.number_input("eps (of 255)", 0.01, 255.0, step=1.0, format="%.4g", key=key, persist_state="session", help=(
            "How much any pixel may change, in 255ths of the pixel range. 8 is the usual test. Between 0.01 and 255."))  # fmt: skip
    else:
        right.number_input("eps (length)", 0.001, 100.0, step=0.25, format="%.4g", key=key, persist_state="session", help=(
            "How long the change may be, pixels in [0, 1]. 0.5 is the usual test. Between 0.001 and 100."))  # fmt: skip
    form_for(entry.cls, entry.key, _scene(entry.cls))
    st.session_state.setdefault("seed", 0)
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
        pixels = engine().upload(image) if _is_upload(image) else sample(state["dataset"]).x[image]
    except InvalidValue:
        return None
    others = {name: title for name, title in model_titles().items() if name != state.get("model")}
    return Scene(to_url(pixels.numpy()), others)


def headline(
    running: bool, begin: Callable[[], None], cancel: Callable[[], None], own: Sequence[int] | None = None
) -> None:
    """Model, attack and wish in one sentence-like row, and the button that calls `begin`, or `cancel` while it runs.

    `own`: classes that cannot be wished for; None: the chosen picture's.
    """
    state = st.session_state
    titles = model_titles()
    model, *others = st.columns([3, 3, 2.4, 1.5], vertical_alignment="bottom")
    if state.get("model") not in titles:
        state["model"] = next(iter(titles))
    st.session_state.setdefault("model", next(iter(titles)))
    model.selectbox("Fool this model", list(titles), key="model", persist_state="session", format_func=titles.get)
    attack_row(others, running, begin, cancel, own)


def attack_row(
    columns: Sequence[DeltaGenerator],
    running: bool,
    begin: Callable[[], None],
    cancel: Callable[[], None],
    own: Sequence[int] | None = None,
) -> None:
    """The rest of a headline, in three columns: attack, wish, and the button."""
    state = st.session_state
    own = [_true_label()] if own is None else own
    st.session_state.setdefault("attack", "pgd")
    st.session_state.setdefault("target", ANY)
    columns[0].selectbox(
        "with this attack",
        _attacks(),
        key="attack",
        persist_state="session",
        format_func=lambda k: f"{ATTACKS.entry(k).title} · {ATTACKS.entry(k).group}",
    )
    classes = [c for i, c in enumerate(dataset(state["dataset"]).classes) if i not in own]
    if state["target"] not in (ANY, *classes):
        state["target"] = ANY
    columns[1].selectbox(
        "so that it sees", [ANY, *classes], key="target", persist_state="session", help="Any wrong class is the easier wish.",
    )  # fmt: skip
    if running:
        columns[2].button("Cancel", icon=":material/stop_circle:", on_click=cancel, width="stretch", key="cancel")
    else:
        columns[2].button(
            "Attack", type="primary", icon=":material/bolt:", on_click=begin, width="stretch", key="begin"
        )


def model_titles() -> dict[str, str]:
    """Name and title of each model made for the chosen dataset, family by family."""
    return {card.name: card.title for card in families() if card.dataset == st.session_state["dataset"]}


def families() -> list[Card]:
    """The zoo's cards, each dataset's as the Training page groups their recipes; those of no recipe come last."""

    def place(card: Card) -> tuple[str, int]:
        group = RECIPES.entry(card.recipe).group if card.recipe in RECIPES else ""
        return card.dataset, RECIPE_GROUPS.index(group) if group in RECIPE_GROUPS else len(RECIPE_GROUPS)

    return sorted(zoo.cards(), key=place)  # inside a family by name


def _attacks() -> list[str]:
    """All attacks, group by group."""
    return [e.key for e in sorted(ATTACKS, key=lambda e: (GROUPS.index(e.group), e.key))]


def current_request(model: str | None = None) -> AttackRequest:
    """What the controls say, against `model` (None: the chosen one), checked; raises ExplorerError with one sentence."""
    return AttackRequest(**chosen_picture(), **attack_settings(model)).checked().within()


def chosen_picture() -> dict[str, Any]:
    """A request's `image`, and the `label` that one's own picture is said to have."""
    image = st.session_state["image"]
    return {"image": image, "label": _true_label() if _is_upload(image) else None}


def attack_settings(model: str | None = None) -> dict[str, Any]:
    """A request's arguments but for the picture, as the controls say; nothing is checked yet."""
    state = st.session_state
    norm = state["norm"]
    number = state[_eps_key(norm)]
    eps = float(number) / 255 if norm == "linf" else float(number)
    cls = ATTACKS[state["attack"]]
    hyper = {
        p.name: state.get(f"{state['attack']}.{p.name}", p.default) for p in cls.params()
    }  # not drawn yet: the default
    return {
        "dataset": state["dataset"],
        "model": model or state["model"],
        "attack": state["attack"],
        "hyper": hyper,
        "norm": norm,
        "eps": eps,
        "target": None if state["target"] == ANY else state["target"],
        "seed": state["seed"],
    }


@st.cache_resource(show_spinner=False)
def sample(name: str):
    """The bundled pictures of a dataset, decoded once per process; read only."""
    return load(name, split="test", source="sample")


def _eps_key(norm: str) -> str:
    return f"eps.{norm}"


def _is_upload(image: int | str) -> bool:
    return isinstance(image, str)


def _true_label() -> int | None:
    state = st.session_state
    if _is_upload(state["image"]):
        shows = state.get(_shows_key(state["image"]), UNTOLD)
        return None if shows == UNTOLD else dataset(state["dataset"]).classes.index(shows)
    return int(sample(state["dataset"]).y[state["image"]])


def rows_of_class(name: str, wanted: str) -> list[int]:
    """Rows of the sample that show this class, or EVERY."""
    labels = sample(name).y
    if wanted == EVERY:
        return list(range(len(labels)))
    return torch.nonzero(labels == dataset(name).classes.index(wanted)).flatten().tolist()


@st.cache_data(show_spinner=False, max_entries=512)
def thumbs(name: str, rows: tuple[int, ...]) -> list[Thumb]:
    """The sample's pictures in these rows, for a gallery."""
    images = sample(name)
    return [
        Thumb(row, to_url(images.x[row].numpy()), f"{images.classes[images.y[row]]}, picture {row}") for row in rows
    ]


def _jump(where: str) -> None:
    state = st.session_state
    rows = rows_of_class(state["dataset"], state["class"])
    if where == "first":
        state["image"] = rows[0]
    elif where == "next":
        at = rows.index(state["image"]) if state["image"] in rows else -1
        state["image"] = rows[(at + 1) % len(rows)]
    else:
        state["image"] = secrets.choice(rows)


def _jump_to_right(models: Sequence[str] | None) -> None:
    """To a random picture that all of `models` get right, if there is one among 64."""
    state = st.session_state
    images, rows = sample(state["dataset"]), rows_of_class(state["dataset"], state["class"])
    right = secrets.SystemRandom().sample(rows, min(64, len(rows)))
    for model in models or [state["model"]]:
        try:
            future = engine().submit(session_id(), predict_work(engine(), model, images.x[right]), alive=still_open())
        except ExplorerError as error:
            state["notice"] = str(error)
            return
        future.wait(10)
        if future.latest is None:
            state["notice"] = future.error or "The model is busy; try again in a moment."
            return
        right = [row for row, seen in zip(right, future.latest.tolist(), strict=True) if seen == int(images.y[row])]
        if not right:
            who = "This model got" if models is None or len(models) == 1 else "These models together got"
            state["notice"] = f"{who} none of 64 such pictures right; choose another class or model."
            return
    state["image"] = right[0]


def _dataset_changed() -> None:
    st.session_state["class"], st.session_state["target"] = EVERY, ANY
    st.session_state["image"] = 0


def _upload_panel(name: str) -> None:
    state = st.session_state
    file = st.file_uploader("PNG, JPEG or WebP, up to 5 MB", type=["png", "jpg", "jpeg", "webp"], key="upload")
    if file is None:
        return
    try:
        upload = read_upload(file.getvalue(), file.name, dataset(name).shape)
    except BadImage as error:
        st.error(str(error), icon=":material/block:")
        return
    picture = "upload:" + hashlib.sha256(upload.pixels.numpy().tobytes()).hexdigest()[:16]
    engine().keep_upload(picture, upload.pixels)
    left, right = st.columns(2)
    left.image(upload.preview, caption="your picture", width="stretch")
    size = f"{upload.pixels.shape[2]} x {upload.pixels.shape[1]}"
    right.image(to_png(upload.pixels.numpy(), 8), caption=f"what the model sees, {size}", width="stretch")
    for note in upload.notes:
        st.caption(note)
    st.session_state.setdefault(_shows_key(picture), UNTOLD)
    st.selectbox(
        "It shows",
        [UNTOLD, *dataset(name).classes],
        key=_shows_key(picture),
        persist_state="session",
        help="The true class. If it is unknown, the attack turns away from what the model sees at first.",
    )
    if state["image"] != picture and st.button("Use this picture", type="primary", width="stretch"):
        state["image"] = picture
        st.rerun()


def _shows_key(picture: str) -> str:
    return f"shows.{picture}"
