"""Robustness Explorer: `streamlit run app.py`. Streamlit's own app, with styles of its first paint and limits of what browsers send."""

from pathlib import Path

from explorer.core import threads

threads.give_way()  # before what follows imports torch

from starlette.middleware import Middleware  # noqa: E402
from streamlit.starlette import App  # noqa: E402

import explorer.ui  # noqa: E402
from explorer.ui.ahead import read_ahead  # noqa: E402
from explorer.ui.head import Head  # noqa: E402
from explorer.ui.uploads import Uploads  # noqa: E402
from explorer.ui.wire import Wire  # noqa: E402

app = App(
    Path(explorer.ui.__file__).with_name("script.py"),
    middleware=[Middleware(Head), Middleware(Uploads), Middleware(Wire)],
)
read_ahead()
