"""The whole app in Streamlit's AppTest: opened at a page, by a link or after some choices, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

ENTRY = str(Path(__file__).parents[1] / "entry.py")


def open_page(page: str = "", query: Mapping[str, str] | None = None, **state: Any) -> AppTest:
    """The app at one of its pages ("": the first), with a link's parameters and what a session has kept."""
    app = AppTest.from_file(ENTRY, default_timeout=120)
    if page:
        app.session_state["wanted page"] = page
    for key, value in state.items():
        app.session_state[key] = value
    for key, value in (query or {}).items():
        app.query_params[key] = value
    return app.run()


def ended(app: AppTest, key: str = "future") -> AppTest:
    """The page once the work that it waits for is done."""
    assert app.session_state[key].wait(120)
    return app.run()


def press(app: AppTest, key: str) -> AppTest:
    return app.button(key=key).click().run()


def texts(app: AppTest) -> str:
    """All that it says in words, notices and tables in HTML among them."""
    kinds = (app.header, app.markdown, app.caption, app.error, app.warning, app.info, app.success)
    return "\n".join([*(element.value for kind in kinds for element in kind), *(e.proto.body for e in app.get("html"))])
