"""Save a walk: pictures (PNG), the player as one file (HTML), exact arrays (npz), conditions (JSON), Python, its link."""

from __future__ import annotations

from functools import partial

import streamlit as st

from explorer import __version__
from explorer.engine import Export, Snapshot
from explorer.ui.components.conditions import as_python
from explorer.ui.components.save import page_link
from explorer.ui.components.save_pictures import save_pictures
from explorer.ui.components.trace_player.standalone import standalone
from explorer.ui.text import attack as words

FIGURES = {"smallest.figure": "Smallest eps", "slice.classes": "Slice: classes"}  # by their keys
PREVIEW = 224  # pixels that a saved picture's preview is at least wide


def walk_page(snapshot: Snapshot, model: str, title: str) -> bytes:
    """The walk as one HTML file: the player with everything in it, its conditions below."""
    captions, remark = words.told(snapshot, model)
    footer = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in snapshot.trace.conditions.items())
    page = standalone(snapshot.trace, snapshot.feature_path, captions, title=title, footer=footer, remark=remark)
    return page.encode()


def show(export: Export, snapshot: Snapshot) -> None:
    """Pictures, arrays, conditions, the player as one file, and a script that makes the walk again."""
    verdict, factor = export.result.verdict, export.factor
    change = "nothing changed" if factor is None else f"change × {factor:g}, around grey"
    captions = {"original": "original", "adversarial": "attacked, in 8 bits", "perturbation": change}
    pictures, saved = st.columns([1.6, 1], gap="large")
    with pictures:
        scale = max(1, -(-PREVIEW // export.original.shape[2]))
        shown, plain = export.pictures(scale), export.pictures()
        for column, name in zip(st.columns(3), captions, strict=True):
            column.image(shown[name], caption=captions[name], width="stretch")
            column.download_button(
                "PNG",
                plain[name],
                f"{export.stem}-{name}.png",
                "image/png",
                key=f"save.{name}",
                on_click="ignore",
                icon=":material/image:",
                width="stretch",
            )
        st.caption(words.saved(bool(verdict.reached[0]), bool(verdict.reached_8bit[0])))
    with saved:
        _files(export, snapshot)
        if link := page_link():
            st.caption("**Link**")
            st.code(link, language=None, wrap_lines=True)
    st.markdown("**As Python.** Run beside the saved arrays, it makes the walk again and compares, bit for bit.")
    as_python(export.script())


def _files(export: Export, snapshot: Snapshot) -> None:
    """The walk as files: to play, to measure, to look at."""
    request = export.request
    st.download_button(
        "The player (HTML)",
        partial(walk_page, snapshot, request.model, request.title()),
        f"{export.stem}.html",
        "text/html",
        key="save.html",
        on_click="ignore",
        icon=":material/play_circle:",
        width="stretch",
        help="One file that plays this walk from a disk or by mail, without a server and without asking for anything.",
    )
    for label, data, kind, mime, icon in (
        ("Everything (zip)", export.bundle, "zip", "application/zip", "folder_zip"),
        ("Exact arrays (npz)", export.arrays, "npz", "application/octet-stream", "data_array"),
        ("Conditions and verdict (JSON)", export.conditions, "json", "application/json", "data_object"),
    ):
        st.download_button(
            label,
            data,
            f"{export.stem}.{kind}",
            mime,
            key=f"save.{kind}",
            on_click="ignore",
            icon=f":material/{icon}:",
            type="primary" if kind == "zip" else "secondary",
            width="stretch",
        )
    st.caption(
        "The arrays hold every frame in 32-bit floats, with logits, features, losses and distances; "
        "`numpy.load` reads them without pickle. A picture is rounded to 8 bits: for measuring, take the arrays."
    )
    st.caption("**As the browser draws them**")
    save_pictures(export.stem, f"{request.title()}. Robustness Explorer {__version__}.", FIGURES, key="save.pictures")
