"""What a browser sends reaches Streamlit, but for what would touch all sessions."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg

from explorer.ui.wire import Wire


def reached(*sent: bytes, kind: str = "websocket") -> list[bytes]:
    """What a server behind `Wire` reads of these messages."""
    waiting = [{"type": "websocket.connect"}, *({"type": "websocket.receive", "bytes": data} for data in sent)]
    waiting.append({"type": "websocket.disconnect"})
    got = []

    async def receive():
        return waiting.pop(0)

    async def server(scope, receive, send):
        while (message := await receive())["type"] != "websocket.disconnect":
            got.append(message.get("bytes", b""))

    with ThreadPoolExecutor(1) as aside:  # a loop of its own, whatever runs in this thread
        aside.submit(asyncio.run, Wire(server)({"type": kind}, receive, None)).result()
    return got[1:]


def message(kind: str, value: object = True) -> bytes:
    found = BackMsg()
    if isinstance(value, bool):
        setattr(found, kind, value)
    else:
        getattr(found, kind).SetInParent()
    return found.SerializeToString()


RUN = message("rerun_script", None)


@pytest.mark.parametrize(
    "kind", ["clear_cache", "set_run_on_save", "load_git_info", "debug_disconnect_websocket", "debug_shutdown_runtime"]
)
def test_what_touches_all_sessions_is_dropped_and_what_follows_is_read(kind):
    assert reached(message(kind), RUN) == [RUN]


def test_files_are_installed_by_nobody_and_downloads_go_on():
    install, download = BackMsg(), BackMsg()
    install.backend_operation_request.install_skills.SetInParent()
    download.backend_operation_request.deferred_file.SetInParent()
    assert reached(install.SerializeToString(), download.SerializeToString()) == [download.SerializeToString()]


def test_the_rest_is_as_it_was():
    sent = [
        RUN,
        message("stop_script"),
        message("app_heartbeat"),
        message("file_urls_request", None),
        b"\xff\xff nonsense",
    ]
    assert reached(*sent) == sent
