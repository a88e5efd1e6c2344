"""Robustness Explorer: `streamlit run app.py`. Streamlit's own app, with styles of its first paint and limits of what browsers send."""

from pathlib import Path

from starlette.middleware import Middleware
from streamlit.starlette import App

import explorer.ui
from explorer.ui.head import Head
from explorer.ui.uploads import Uploads
from explorer.ui.wire import Wire

app = App(
    Path(explorer.ui.__file__).with_name("script.py"),
    middleware=[Middleware(Head), Middleware(Uploads), Middleware(Wire)],
)
