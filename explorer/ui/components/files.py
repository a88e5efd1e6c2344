"""Files of a session that the browser fetches once, by Streamlit's media file manager: frames of a walk, scripts of components."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime import get_instance


def publish(data: bytes, kind: str, place: str) -> str:
    """The address, from the server's root, of `data` of this MIME type; `place` names it on the page: a later one takes its place.

    Streamlit keeps it while the session's page refers to it. The same bytes have the same address in every session.
    """
    url = get_instance().media_file_mgr.add(data, kind, place)
    base = st.config.get_option("server.baseUrlPath").strip("/")
    return f"/{base}{url}" if base else url
