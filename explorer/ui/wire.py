"""What a browser may tell the server: to run a page, to stop it, that it is still there, and to take files up and down.

Streamlit takes more from every browser, whoever it is of: `clear_cache` drops what all sessions share (the rooms of all classes, the
engine, the counts of wrong passwords), others install files or rerun all sessions. `Wire` is ASGI middleware (`App` in app.py takes it)
that drops such messages before Streamlit reads them.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg

ALLOWED = {"rerun_script", "stop_script", "app_heartbeat", "file_urls_request", "backend_operation_request"}
OPERATIONS = {"deferred_file", "dataframe_chunk"}  # of backend_operation_request


class Wire:
    """Drops messages of a browser that are not ALLOWED."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def allowed() -> Message:
            while True:
                message = await receive()
                if message["type"] != "websocket.receive" or is_allowed(message.get("bytes") or b""):
                    return message

        await self.app(scope, allowed if scope["type"] == "websocket" else receive, send)


def is_allowed(data: bytes) -> bool:
    """Whether Streamlit may read this message; one that is none is Streamlit's to refuse."""
    try:
        message = BackMsg.FromString(data)
    except DecodeError:
        return True
    kind = message.WhichOneof("type")
    if kind == "backend_operation_request":
        return message.backend_operation_request.WhichOneof("payload") in OPERATIONS
    return kind in ALLOWED
