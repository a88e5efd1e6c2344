"""The form of a model to add: what one has, what it is called, its architecture, and what it wants of pixels."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence

import streamlit as st

from explorer.core import InvalidValue
from explorer.core.params import parse_numbers
from explorer.data import dataset
from explorer.engine.adding import (
    CODE_KB,
    MOST_MB,
    WEIGHTS,
    File,
    WeightsUpload,
    torchvision_work,
    weights_work,
    zip_work,
)
from explorer.evaluation.torchvision_weights import OFFERED, Published, published_weights
from explorer.models.external import is_external
from explorer.ui.add_model import acts
from explorer.ui.inputs.choices import families, named
from explorer.ui.text import adding as words

ZIP, KNOWN, CODE, DOWNLOAD = "zip", "known", "code", "download"
KINDS = {ZIP: "Submissions (zip)", KNOWN: "Weights", CODE: "Weights and code", DOWNLOAD: "From torchvision"}
TORCHVISION, TIMM, ROBUSTBENCH, OURS = "torchvision", "timm", "robustbench", "ours"
SOURCES = {TORCHVISION: "torchvision", TIMM: "timm", ROBUSTBENCH: "RobustBench", OURS: "a model here"}
UNIT, SIGNED, BYTES, USUAL, OWN = "unit", "signed", "bytes", "usual", "own"
RANGES = {
    UNIT: "[0, 1], as they are",
    SIGNED: "[-1, 1]",
    BYTES: "[0, 255]",
    USUAL: "the dataset's mean and std",
    OWN: "a mean and std of its own",
}
ABOUT = {
    ZIP: "A zip of a submission, or of a class with a folder each: `model.py` with a class `Net`, and weights in `models/`. Pixels are "
    "in [0, 1].",
    KNOWN: "A file of weights in any usual form (.pth, .pt, .bin, .ckpt, .safetensors), read in a confined process.",
    CODE: "A Python file that makes the network, which runs in a confined process for as long as the model stands, and its weights.",
}  # fmt: skip


def show() -> None:
    """All widgets, and the button."""
    state = st.session_state
    name = state["models.dataset"]
    spec = dataset(name)
    state.setdefault("add.kind", ZIP)
    st.segmented_control(
        "What you have", list(KINDS), key="add.kind", format_func=named(KINDS), required=True, persist_state="session"
    )
    kind = state["add.kind"]
    if kind == DOWNLOAD:
        _download()
        return
    size = " x ".join(map(str, spec.shape))
    st.caption(f"{ABOUT[kind]} For {spec.title}, as chosen at the left: {size} pixels, {len(spec.classes)} classes.")
    if kind == ZIP:
        _zip(name)
    else:
        _weights(name, kind)


def _download() -> None:
    """torchvision's networks for photographs, each with what its download takes."""
    found = {network: _published(network) for network in OFFERED}
    st.caption(words.DOWNLOAD)
    st.selectbox("Network", list(found), key="add.torchvision", format_func=lambda one: words.offered(found[one]),
                 persist_state="session")  # fmt: skip
    asked = found[st.session_state["add.torchvision"]]
    st.button(f"Download {asked.size / 2**20:.0f} MB and add", type="primary", icon=":material/download:", key="add.add",
              on_click=_add_download, args=(asked.network,))  # fmt: skip
    st.caption(words.LICENCE)


@st.cache_data(show_spinner=False)
def _published(network: str) -> Published:
    return published_weights(network)


def _add_download(network: str) -> None:
    acts.add(_published(network).name, lambda: torchvision_work(network))


def _zip(name: str) -> None:
    left, right = st.columns([3, 2], gap="medium")
    left.file_uploader("Zip archive", type=["zip"], key="add.zip", max_upload_size=MOST_MB)
    right.text_input("Their names begin with", key="add.prefix", max_chars=40, placeholder="nothing: their folders' names",
                     help="Of one submission this is its name.")  # fmt: skip
    if st.session_state["add.zip"] is None:
        st.caption("Choose the archive first.")
    st.button("Add", type="primary", icon=":material/add:", key="add.add", on_click=_add_zip, args=(name,),
              disabled=st.session_state["add.zip"] is None)  # fmt: skip


def _weights(name: str, kind: str) -> None:
    state = st.session_state
    left, right = st.columns([3, 2], gap="medium")
    with left:
        types = [suffix.removeprefix(".") for suffix in WEIGHTS]
        st.file_uploader("File of weights", type=types, key="add.weights", max_upload_size=MOST_MB)
        if kind == CODE:
            st.file_uploader("Python file", type=["py"], key="add.code", max_upload_size=1)
            state.setdefault("add.factory", "Net")
            st.text_input("What makes the network", key="add.factory", max_chars=60, persist_state="session", help=(
                f"A class or function in the file, which is called without arguments, or with num_classes if it takes that. The "
                f"file may have {CODE_KB} KB, and finds no other file of yours."))  # fmt: skip
    with right:
        st.text_input("Call it", key="add.title", max_chars=60, placeholder="my model")
        if kind == KNOWN:
            _architecture(name)
        if kind == CODE or state["add.source"] in (TORCHVISION, TIMM):
            _range()
            state.setdefault("add.size", 0)
            st.number_input("Enlarge images to", 0, 1024, key="add.size", persist_state="session", help=(
                "So many pixels a side, for networks made for larger images; 0 leaves them."))  # fmt: skip
    missing = [what for what, key in _needed(kind) if not state[key]]
    if missing:
        st.caption(f"Still missing: {', '.join(missing)}.")
    st.button("Add", type="primary", icon=":material/add:", key="add.add", on_click=_add_weights, args=(name, kind),
              disabled=bool(missing))  # fmt: skip


def _needed(kind: str) -> Sequence[tuple[str, str]]:
    code = [("the Python file", "add.code")] if kind == CODE else []
    return [("the weights", "add.weights"), *code, ("a name", "add.title")]


def _architecture(name: str) -> None:
    """Which library's network, or which model's."""
    state = st.session_state
    sources = [s for s in SOURCES if s in (TORCHVISION, OURS) or importlib.util.find_spec(s) is not None]
    state.setdefault("add.source", OURS)
    st.selectbox(
        "Its network is that of", sources, key="add.source", format_func=named(SOURCES), persist_state="session"
    )
    source = state["add.source"]
    if source == ROBUSTBENCH:
        st.text_input(
            "Name in RobustBench", key="add.network", placeholder="Rice2020Overfitting, or L2/Rice2020Overfitting"
        )
        return
    labels = _ours(name) if source == OURS else {one: one for one in _listed(source)}
    st.selectbox(
        "Network", list(labels), key=f"add.network.{source}.{name}", format_func=named(labels), filter_mode="contains"
    )


def _ours(name: str) -> dict[str, str]:
    """One model of each of this project's architectures, and what it is."""
    found, seen = {}, set()
    for card in families():
        how = ", ".join(f"{key} {value}" for key, value in card.arguments.items())
        if card.dataset == name and not is_external(card.architecture) and (card.architecture, how) not in seen:
            seen.add((card.architecture, how))
            found[card.name] = f"{card.architecture}{', ' if how else ''}{how} (as {card.name})"
    return found


@st.cache_data(show_spinner=False)
def _listed(library: str) -> list[str]:
    """The classifiers of a library, by name."""
    if library == TIMM:
        import timm

        return list(timm.list_models())
    from torchvision import models  # takes a second to import: only who asks waits

    return list(models.list_models(module=models))


def _range() -> None:
    state = st.session_state
    state.setdefault("add.range", UNIT)
    st.selectbox(
        "It wants pixels in", list(RANGES), key="add.range", format_func=named(RANGES), persist_state="session"
    )
    if state["add.range"] == OWN:
        st.text_input(
            "mean, of pixels in [0, 1]", key="add.mean", placeholder="0.5, or one a channel: 0.49, 0.48, 0.45"
        )
        st.text_input("std", key="add.std", placeholder="0.25")


def _normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """mean and std of pixels in [0,1]; raises InvalidValue."""
    spec, state = dataset(name), st.session_state
    asked = state.get("add.range", UNIT)
    if asked == OWN:
        return parse_numbers("mean", state["add.mean"]), parse_numbers("std", state["add.std"])
    known = {UNIT: ([0.0], [1.0]), SIGNED: ([0.5], [0.5]), BYTES: ([0.0], [1 / 255]), USUAL: (spec.mean, spec.std)}
    return known[asked]


def _file(key: str) -> File:
    upload = st.session_state[key]
    if upload is None:
        raise InvalidValue("the file is gone: choose it again.")
    return File(upload.name, upload.getvalue())


def slug(text: str) -> str:
    """A name of small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _add_zip(name: str) -> None:
    prefix = slug(st.session_state["add.prefix"])
    full = f"{name}/{prefix}" if prefix else name
    acts.add(st.session_state["add.zip"].name, lambda: zip_work(full, _file("add.zip")))


def _add_weights(name: str, kind: str) -> None:
    acts.add(st.session_state["add.title"], lambda: weights_work(_asked(name, kind)))


def _asked(name: str, kind: str) -> WeightsUpload:
    state = st.session_state
    title = state["add.title"].strip()
    full, file = f"{name}/{slug(title)}", _file("add.weights")
    mean, std = _normalisation(name)
    if kind == CODE:
        return WeightsUpload(
            full, file, code=_file("add.code"), factory=state["add.factory"].strip(), mean=mean, std=std,
            size=state["add.size"], title=title,
        )  # fmt: skip
    source = state["add.source"]
    network = state["add.network" if source == ROBUSTBENCH else f"add.network.{source}.{name}"]
    if source in (TORCHVISION, TIMM):
        return WeightsUpload(full, file, f"{source}:{network}", mean=mean, std=std, size=state["add.size"], title=title)
    spec = dataset(name)
    if source == OURS:  # for a file that lacks its own
        return WeightsUpload(full, file, network, mean=spec.mean, std=spec.std, title=title)
    return WeightsUpload(full, file, f"robustbench:{network.strip()}", title=title)
