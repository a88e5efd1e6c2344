"""The styles in the page's head: in what is a page, and in nothing else."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.datastructures import Headers

from explorer.ui.head import SIDEBAR, Head

PAGE = "<html><head><title>x</title></head><body>ä</body></html>".encode()
HTML = [(b"accept", b"text/html,*/*"), (b"accept-encoding", b"gzip")]


def asked(path="/", query=b"", kind=b"text/html; charset=utf-8", method="GET"):
    """Headers and body of what a server behind `Head` answers, in two parts, and the headers that it was asked with."""
    got, sent = [], []

    async def server(scope, receive, send):
        got.append(Headers(scope=scope))
        body = PAGE if method == "GET" else b""
        length = str(len(PAGE)).encode()
        headers = [(b"content-type", kind), (b"content-length", length), (b"etag", b"the file's")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:20], "more_body": True})
        await send({"type": "http.response.body", "body": body[20:]})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": HTML}
    with ThreadPoolExecutor(1) as aside:  # a browser test before may have left a loop in this thread
        aside.submit(asyncio.run, Head(server)(scope, None, send)).result()
    return Headers(raw=sent[0]["headers"]), b"".join(part["body"] for part in sent[1:]), got[0]


def test_a_page_gets_its_ground_for_light_and_dark_before_any_script():
    headers, body, question = asked("/compare")
    assert b"color-scheme: light dark" in body and body.endswith("</style></head><body>ä</body></html>".encode())
    assert int(headers["content-length"]) == len(body) and "etag" not in headers
    assert "accept-encoding" not in question  # what is packed cannot be added to


@pytest.mark.parametrize(
    ("path", "query", "reserved"),
    [
        ("/", b"", True),
        ("/certify", b"hide=settings", True),
        ("/models", b"", True),
        ("/", b"hide=settings,gallery", False),
    ],
)
def test_the_sidebars_room_is_kept_where_there_is_one(path, query, reserved):
    assert (f"padding-left: {SIDEBAR}px".encode() in asked(path, query)[1]) == reserved


def test_what_is_no_page_goes_through_untouched():
    headers, body, _ = asked("/app.js", kind=b"text/javascript")
    assert body == PAGE and headers["etag"] == "the file's"
    assert asked(method="HEAD")[1] == b""
