"""How much a browser may upload: 5 MB for everybody, more for a session that may add models, before anything is read."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.data.upload import MAX_BYTES
from explorer.ui import uploads

PLACE = "/base/_stcore/upload_file/{}/file"


def answer(session, length, method="PUT", path=PLACE):
    sent = []

    async def server(scope, receive, send):
        sent.append("taken")

    async def send(message):
        sent.append(message.get("status"))

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": method, "path": path.format(session), "headers": headers}
    with ThreadPoolExecutor(1) as aside:  # a browser test before may have left a loop in this thread
        aside.submit(asyncio.run, uploads.Uploads(server)(scope, None, send)).result()
    return sent[0]


@pytest.mark.parametrize(
    ("length", "wanted"), [(MAX_BYTES, "taken"), (100 * MAX_BYTES, 413), (None, 413), ("much", 413)]
)
def test_a_session_of_everybody_may_upload_a_picture(length, wanted):
    assert answer("everybody", length) == wanted


def test_a_session_that_may_add_models_may_upload_more_and_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(uploads, "_large", type(uploads._large)())
    monkeypatch.setattr(uploads, "KEPT", 2)
    uploads.allow_large("mine")
    assert answer("mine", 100 * MAX_BYTES) == "taken" and answer("other", 100 * MAX_BYTES) == 413
    for session in ("b", "c"):
        uploads.allow_large(session)
    assert answer("mine", 100 * MAX_BYTES) == 413


def test_what_is_no_upload_goes_through():
    assert answer("everybody", 10**9, method="POST") == "taken"
    assert answer("everybody", 10**9, path="/_stcore/stream/{}") == "taken"
