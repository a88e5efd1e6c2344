"""Limits of uploads: what a browser may send before anybody has looked at it. 25 MB for everybody, more for who may add models.

Streamlit has one limit for all (`server.maxUploadSize`), and holds what comes in memory. `Uploads` is ASGI middleware (`App` in
app.py takes it): it refuses what is too large for its session before it is read.
"""

from __future__ import annotations

import re
from collections import OrderedDict

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from explorer.data.upload import MAX_BYTES

FRAMING = 1 << 20  # bytes that a form has around its file
KEPT = 10_000  # sessions that are remembered
PLACE = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")
_large: OrderedDict[str, None] = OrderedDict()  # sessions that may upload as much as Streamlit takes


def allow_large(session: str) -> None:
    """From now on this browser session may upload as much as Streamlit takes."""
    _large[session] = None
    while len(_large) > KEPT:
        _large.popitem(last=False)


class Uploads:
    """Answers 413 to an upload of more than MAX_BYTES from a session that may not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        place = PLACE.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if place is not None and place[1] not in _large:
            length = Headers(scope=scope).get("content-length", "")  # the server believes it: more is cut off
            if not length.isdecimal() or int(length) > MAX_BYTES + FRAMING:
                await PlainTextResponse("File too large", 413)(scope, receive, send)
                return
        await self.app(scope, receive, send)
