"""Save what a page shows, in one place: its table (CSV), all of it with its conditions (JSON), files, pictures, and its link."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import streamlit as st

from explorer.engine.tables import Table
from explorer.ui.components.save_pictures import save_pictures

Content = bytes | Callable[[], bytes]


@dataclass(frozen=True)
class File:
    """One more thing to take home; `content` may be a function, which is called when somebody wants it."""

    label: str
    name: str
    content: Content
    mime: str = "application/octet-stream"
    icon: str = "download"


def as_csv(table: Table) -> bytes:
    """UTF-8 with a mark at its beginning, by which spreadsheets know it; numbers unrounded."""
    return table.to_csv().encode("utf-8-sig")


def save_place(
    stem: str,
    *,
    about: str,
    key: str,
    table: Table | None = None,
    files: Sequence[File] = (),
    figures: Mapping[str, str] | None = None,
) -> None:
    """A button that opens on everything that can be taken from this page.

    `stem` begins each file's name, `about` is the line of conditions below a figure, `figures` names them by their keys.
    """
    with st.popover("Save", icon=":material/download:", key=f"{key}.popover"):
        own = []
        if table is not None:
            whole = table.to_json().encode()
            own = [
                File("Table (CSV)", f"{stem}.csv", as_csv(table), "text/csv", "table"),
                File("With all conditions (JSON)", f"{stem}.json", whole, "application/json", "data_object"),
            ]
        for k, file in enumerate([*own, *files]):
            st.download_button(
                file.label, file.content, file.name, file.mime, key=f"{key}.{k}", on_click="ignore",
                icon=f":material/{file.icon}:", width="stretch",
            )  # fmt: skip
        st.markdown("**Pictures**")
        save_pictures(stem, about, figures or {}, key=f"{key}.pictures")
        link = page_link()
        if link:
            st.markdown("**Link**")
            st.code(link, language=None, wrap_lines=True)


def page_link() -> str:
    """The address of what is on show, without the room one is in; empty where the page has none."""
    query, address = {k: v for k, v in st.query_params.to_dict().items() if k != "room"}, st.context.url
    return f"{address.partition('?')[0]}?{urlencode(query, safe='/:,')}" if query and address else ""
