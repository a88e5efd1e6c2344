"""Uploads: one's own pictures, several at once or from the camera, as a strip to choose from; they last for the session.

One that is chosen stands in `st.session_state["image"]` as "upload:" and the beginning of its sha256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from explorer.core import BadImage
from explorer.data import Dataset, Look, dataset, read_upload
from explorer.data.upload import MAX_BYTES, Upload
from explorer.ui.components.gallery import Thumb, gallery
from explorer.ui.components.pictures import thumb_url, to_png
from explorer.ui.session import engine

UNTOLD = "not in the list, or unknown"
MOST = 24  # pictures that are kept for a session and a dataset; the oldest go first
FILES, CAMERA, OWN = (
    "upload",
    "camera",
    "own pictures",
)  # keys of st.session_state: the last: dataset -> file -> what was read
KINDS = ["png", "jpg", "jpeg", "webp", "gif", "avif", "heic", "heif"]
# What is refused in our own words: Streamlit's would stay beside later uploads.
REFUSED = ["bmp", "tif", "tiff", "svg", "pdf"]
SHOWN = 224  # pixels a side that the picture as the model sees it has on the page, at least


@dataclass(frozen=True, eq=False)
class Own:
    """One of them: as `st.session_state["image"]` names it, its file's name and id, and what was read how."""

    picture: str
    name: str
    file: str
    look: Look
    upload: Upload


def own_pictures(name: str) -> list[Own]:
    """Those of this session for a dataset's models, the newest last; one that was handed in twice once."""
    found = {one.picture: one for one in _read(name).values() if isinstance(one, Own)}
    return list(found.values())


def choose(one: Own) -> None:
    """Make it the picture to attack."""
    engine().keep_upload(one.picture, one.upload.pixels)
    st.session_state["image"] = one.picture


def upload_panel(name: str) -> None:
    """Where files are handed in, the strip of what was read, and the chosen one as it was and as the model sees it."""
    state, limit = st.session_state, MAX_BYTES // 1_000_000
    files = st.file_uploader(
        f"PNG, JPEG, WebP, GIF, AVIF or HEIC, up to {limit} MB each", [*KINDS, *REFUSED], key=FILES,
        accept_multiple_files=True, max_upload_size=limit, on_change=_handed_in, args=(name,),
    )  # fmt: skip
    photo = None
    if st.toggle("Use the camera", key="camera.on"):
        photo = st.camera_input(
            "Photograph something", key=CAMERA, label_visibility="collapsed", on_change=_handed_in, args=(name,)
        )
    files = [*files, *([photo] if photo is not None else [])]
    for refused in _take(name, files):
        st.error(refused, icon=":material/block:")
    own = own_pictures(name)
    if not own:
        return
    at = next((k for k, one in enumerate(own) if one.picture == state["image"]), None)
    if len(own) > 1:
        thumbs = [Thumb(k, thumb_url(one.upload.pixels.numpy()), one.name) for k, one in enumerate(own)]
        chosen = () if at is None else (at,)
        gallery(thumbs, chosen, key="own.gallery", label="Your own pictures", on_pick=partial(_pick, own))
    one = own[-1] if at is None else own[at]
    engine().keep_upload(one.picture, one.upload.pixels)  # it may have been forgotten meanwhile
    _show(one, name, [file for file in files if file.file_id == one.file])
    if at is None and st.button("Use this picture", type="primary", width="stretch"):
        choose(one)
        st.rerun()


def _handed_in(name: str) -> None:
    """Whoever hands pictures in wants to see them attacked: the first that is new becomes the chosen one."""
    known = {one.picture for one in own_pictures(name)}
    _take(name, _files())
    new = [one for one in own_pictures(name) if one.picture not in known]
    if new:
        choose(new[0])


def _files() -> list[Any]:
    """What is handed in at the moment; in a callback."""
    state = st.session_state
    return [file for file in [*(state.get(FILES) or []), state.get(CAMERA)] if file is not None]


def _show(one: Own, name: str, files: Sequence[Any]) -> None:
    """Before and after what was done to it, how else it could be seen, and what it is said to show."""
    left, right = st.columns(2)
    left.image(one.upload.preview, caption="your picture", width="stretch")
    size = f"{one.upload.pixels.shape[2]} x {one.upload.pixels.shape[1]}"
    factor = -(-SHOWN // max(one.upload.pixels.shape[1:]))
    right.image(to_png(one.upload.pixels.numpy(), factor), caption=f"what the model sees, {size}", width="stretch")
    for note in one.upload.notes:
        st.caption(note)
    if files:
        _look_boxes(one, name)
    st.caption("Your own picture has no link: the address bar cannot carry it, and names nothing while it is on show.")
    st.session_state.setdefault(shows_key(one.picture), UNTOLD)
    st.selectbox(
        "It shows",
        [UNTOLD, *dataset(name).classes],
        key=shows_key(one.picture),
        persist_state="session",
        filter_mode="contains",
        help="The true class. If it is unknown, the attack turns away from what the model sees at first.",
    )


def _look_boxes(one: Own, name: str) -> None:
    """Moving and narrowing the crop, and inverting where the model's own pictures have a plain ground."""
    spec, state = dataset(name), st.session_state
    _, height, width = spec.shape
    wide, tall = one.upload.size[0] * height, one.upload.size[1] * width
    share, across, down = (_key(name, one.file, part) for part in ("share", "across", "down"))
    changed: dict[str, Any] = {"on_change": partial(_look_again, name, one)}
    if spec.background is not None:
        st.toggle("Invert: dark becomes bright", key=_key(name, one.file, "invert"), **changed)
    st.slider("How much of it (%)", 10, 100, step=5, key=share, value=100, **changed)
    if wide > tall or state[share] < 100:
        st.slider("Move left or right", 0, 100, key=across, value=50, format="", **changed)
    if tall > wide or state[share] < 100:
        st.slider("Move up or down", 0, 100, key=down, value=50, format="", **changed)


def _look_again(name: str, before: Own) -> None:
    """After a control has changed: the picture as it is to be seen now; it stays the chosen one, and what it is said to show."""
    state = st.session_state
    _take(name, _files())
    now = _read(name).get(before.file)
    if not isinstance(now, Own) or now.picture == before.picture:
        return
    state[shows_key(now.picture)] = state.get(shows_key(before.picture), UNTOLD)
    if state["image"] == before.picture:
        choose(now)


def _look(name: str, file: str, spec: Dataset) -> Look:
    """As the controls of a file say; as usual before they are drawn."""
    state = st.session_state
    share, across, down = (
        state.get(_key(name, file, part), usual) / 100 for part, usual in (("share", 100), ("across", 50), ("down", 50))
    )
    return Look(spec.background, bool(state.get(_key(name, file, "invert"))), across, down, share)


def _key(name: str, file: str, part: str) -> str:
    return f"look.{name}.{file}.{part}"


def _pick(own: Sequence[Own], picked: list[int]) -> None:
    if picked and picked[-1] < len(own):
        choose(own[picked[-1]])


def _read(name: str) -> dict[str, Own | str]:
    """What was read of each file for this dataset's models: a picture, or why not."""
    read: dict[str, dict[str, Own | str]] = st.session_state.setdefault(OWN, {})
    return read.setdefault(name, {})


def _take(name: str, files: Sequence[Any]) -> list[str]:
    """Read what has not been read yet, or not as it is to be seen now; returns why some of the files there were not."""
    read, spec = _read(name), dataset(name)
    for file in files:
        look, known = _look(name, file.file_id, spec), read.get(file.file_id)
        if isinstance(known, str) or (known is not None and known.look == look):
            continue
        try:
            upload = read_upload(file.getvalue(), file.name, spec.shape, look)
        except BadImage as error:
            read[file.file_id] = str(error)
            continue
        picture = "upload:" + hashlib.sha256(upload.pixels.numpy().tobytes()).hexdigest()[:16]
        read[file.file_id] = Own(picture, file.name, file.file_id, look, upload)
    for old in list(read)[:-MOST]:
        del read[old]
    return [found for file in files if isinstance(found := read.get(file.file_id), str)]


def is_upload(image: int | str) -> bool:
    """Whether this is one's own picture."""
    return isinstance(image, str)


def shows_key(picture: str) -> str:
    """In st.session_state: what somebody says that it shows."""
    return f"shows.{picture}"
