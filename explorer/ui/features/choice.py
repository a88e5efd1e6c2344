"""The Feature space page's choices: whom the attack is on, which models, which map."""

from __future__ import annotations

import streamlit as st

from explorer.core import InvalidValue
from explorer.data import dataset
from explorer.engine.batch_request import ManyRequest
from explorer.engine.featurespace import MAX_IMAGES, CloudRequest
from explorer.ui.frame import row
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.choices import (
    EVERY,
    FIRST_PICTURES,
    class_number,
    classes_of,
    classes_with_pictures,
    draw_others,
    model_labels,
    model_titles,
    named,
    sample,
)
from explorer.ui.inputs.picture import dataset_box, image_panel
from explorer.ui.text.keys import MAP, PLAY, keys

NONE = "no second model"
FAVOURITES = ("cifar10/baseline", "cifar10/pgd-linf")  # what the defence did to the clusters
VIEWS = {"pca": ("PCA", "pca", 2), "pca3": ("PCA, 3-D", "pca", 3), "umap": ("UMAP", "umap", 2)}
WHO = {"many": "many pictures", "picture": "one picture"}
NAMED = frozenset({"pick", "count", "class", "shuffle", "rows"})  # what a link may say of the pictures
COUNT = 16  # pictures at first


def usual(name: str, target: str | None = None) -> dict[str, str]:
    """As a link says it: the pictures of a dataset that the page begins with; of all classes where theirs is the target."""
    first = _first_class(name)
    return {"pick": "right", "count": str(COUNT)} | ({} if first in (target, EVERY) else {"class": first})


def _first_class(name: str) -> str:
    """That of the picture which the app begins with; all of them where it has too few pictures for a cloud."""
    labels = sample(name).y
    first = int(labels[FIRST_PICTURES.get(name, 0)])
    return dataset(name).classes[first] if int((labels == first).sum()) >= COUNT else EVERY


def prepare() -> None:
    """The first choices; models and classes of another dataset are taken off."""
    state = st.session_state
    for key, default in (
        ("who", "many"),
        ("count", COUNT),
        ("right", True),
        ("shuffle", 0),
        ("rows", ()),
        ("view", "pca"),
    ):
        state.setdefault(f"features.{key}", default)
    if state.get("features.of") not in (EVERY, *classes_with_pictures(state["dataset"])):
        state["features.of"] = _first_class(state["dataset"])
    titles = model_titles()
    if state["model"] not in titles:
        state["model"] = FAVOURITES[0] if FAVOURITES[0] in titles else next(iter(titles))
    others = [name for name in titles if name != state["model"]]
    if state.get("features.beside") not in (NONE, *others):
        state["features.beside"] = next((name for name in reversed(FAVOURITES) if name in others), NONE)


def show(request: CloudRequest, details: bool) -> None:
    """Make the controls show this request. `details`: also the choice among random pictures."""
    state, batch = st.session_state, request.batch
    controls.show(batch.one)
    single = batch.pick == "hand" and batch.count == 1
    state["features.beside"], state["features.who"] = request.beside or NONE, "picture" if single else "many"
    if single:
        state["image"] = batch.rows[0]
    state["features.rows"] = batch.rows if batch.count > 1 else ()
    if batch.pick != "hand" and details:
        state["features.of"] = EVERY if batch.of is None else batch.classes[batch.of]
        state["features.count"], state["features.shuffle"] = batch.count, batch.shuffle
        state["features.right"] = batch.pick == "right"


def pictures_panel() -> None:
    """Whom the attack is on: one picture, or many of a class or of all."""
    state = st.session_state
    st.session_state.setdefault("dataset", "cifar10")
    name = state["dataset"]
    st.segmented_control(
        "Attack", list(WHO), key="features.who", persist_state="session", format_func=named(WHO), required=True, width="stretch",
    )  # fmt: skip
    if state["features.who"] == "picture":
        image_panel(chosen_models(), more_keys=(PLAY, MAP))
        return
    st.header("Pictures", anchor=False)
    dataset_box()
    if state["features.rows"]:
        st.caption(f"The {len(state['features.rows'])} pictures that the link names.")
        st.button(
            "Draw others", on_click=_forget_rows, width="stretch", icon=":material/shuffle:", key="features.forget"
        )
        return
    st.selectbox(
        "Class", [EVERY, *classes_with_pictures(name)], key="features.of", persist_state="session",
        help="The cloud of one class, or a mix of all.",
    )  # fmt: skip
    st.slider("How many", 1, MAX_IMAGES, key="features.count", persist_state="session")
    st.toggle(
        "Only what the models get right",
        key="features.right",
        persist_state="session",
        help="Pictures that are wrong before any attack are never attacked; with this on, none is among them.",
    )
    draw_others("features.shuffle")
    st.caption(keys(PLAY, MAP))


def _forget_rows() -> None:
    st.session_state["features.rows"] = ()


def model_boxes() -> None:
    """Which model, beside which, on which map."""
    labels = model_labels()
    others = [name for name in labels if name != st.session_state["model"]]
    one, two, three = row([3, 3, 3.2], key="headline-models")
    one.selectbox(
        "What this model sees", list(labels), key="model", persist_state="session", format_func=named(labels),
        filter_mode="contains",
    )  # fmt: skip
    two.selectbox(
        "beside this one", [NONE, *others], key="features.beside", persist_state="session", format_func=named(labels),
        filter_mode="contains",
    )  # fmt: skip
    three.segmented_control(
        "on this map",
        list(VIEWS),
        key="features.view",
        persist_state="session",
        format_func=lambda key: VIEWS[key][0],
        required=True,
        help="PCA is exact and linear. UMAP keeps neighbours together, and preserves no distances.",
    )


def own_classes() -> list[int] | None:
    """Classes that cannot be wished for: that of the pictures, where there is one."""
    state = st.session_state
    if state["features.who"] == "picture":
        return None
    if state["features.rows"]:
        return classes_of(state["features.rows"])
    return [] if state["features.of"] == EVERY else [class_number(state["features.of"])]


def chosen_models() -> tuple[str, ...]:
    """The model, and the one beside it if there is one."""
    model, beside = st.session_state["model"], st.session_state["features.beside"]
    return (model,) if beside in (NONE, model) else (model, beside)


def request() -> CloudRequest:
    """What the controls say, not checked yet."""
    return CloudRequest(_batch(), (chosen_models()[1:] or (None,))[0])


def _batch() -> ManyRequest:
    state, settings = st.session_state, controls.attack_settings()
    if state["features.who"] == "picture":
        if not isinstance(state["image"], int):
            raise InvalidValue("Your own picture is none of the sample's: choose one of those on this page.")
        return ManyRequest(pick="hand", rows=(state["image"],), **settings)
    if state["features.rows"]:
        return ManyRequest(pick="hand", rows=state["features.rows"], **settings)
    of = None if state["features.of"] == EVERY else state["features.of"]
    pick = "right" if state["features.right"] else "random"
    count, shuffle = state["features.count"], state["features.shuffle"]
    return ManyRequest(pick=pick, count=count, of=of, shuffle=shuffle, **settings)
