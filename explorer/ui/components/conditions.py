"""Conditions under which a result was made, as a page shows them: sentences, JSON, and the Python that repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import streamlit as st


def bullets(lines: Iterable[str]) -> None:
    """One sentence each."""
    st.markdown("\n".join(f"- {line}" for line in lines))


def as_json(conditions: Any) -> None:
    """All of them, to be copied."""
    st.code(json.dumps(conditions, indent=1, ensure_ascii=False), language="json")


def as_python(script: str) -> None:
    """A script, to be copied."""
    st.code(script, language="python", wrap_lines=True)
