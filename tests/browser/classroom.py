"""Prints how long a class waits that opens a page at once: `python tests/browser/classroom.py [students] [attack|compare|...]`.

Students are sessions on the server's websocket that do what a browser does (run the page, look again where the page asks
for it), without drawing: thirty browsers would need the processor that is measured. Each student opens the page with
another picture or model (`PAGES`), and has an answer when the whole page has been drawn and nothing in it looks again.
Run it on an idle machine.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

LINK = {"data": "cifar10", "model": "cifar10/pgd-linf", "attack": "pgd", "norm": "linf", "eps": "8/255"}
PAGES = {  # what the student of this number opens, and what stands on a page that is done
    "attack": (lambda at: LINK | {"image": at}, b"White-box: the attack used"),
    "compare": (lambda at: LINK | {"image": at, "models": "cifar10/baseline,cifar10/pgd-linf"}, b"in every lane"),
    "many": (lambda at: LINK | {"seed": at}, b"What was measured"),
    "features": (
        lambda at: {"data": "cifar10", "model": f"cifar10/{('baseline', 'pgd-linf', 'trades')[at % 3]}"},
        b"Silhouette",
    ),
    "certify": (lambda at: {"data": "cifar10", "image": at}, b"Not attacked yet"),
}
LIMIT = 120.0  # seconds


@dataclass
class Student:
    """One session. `answered`: seconds from opening the page until it is done."""

    url: str
    page: str
    query: str
    text: bytes
    answered: float = float("nan")
    complaint: str = ""
    received: int = 0
    looks: int = 0
    _timers: dict[str, asyncio.Task] = field(default_factory=dict)
    _script: str = ""  # the page's own name for the server, once it has told
    _whole: bool = False  # the run under way is the whole page's
    _read: bool = False  # the page has shown its text

    async def attend(self) -> None:
        began = time.monotonic()
        try:
            async with (
                asyncio.timeout(LIMIT),
                connect(self.url, subprotocols=["streamlit"], max_size=None, close_timeout=0.1) as socket,
            ):
                await socket.send(self._run())
                async for data in socket:
                    if await self._take(socket, data):
                        self.answered = time.monotonic() - began
                        return
        except (TimeoutError, OSError) as error:
            self.complaint = f"{type(error).__name__}: {error}"
        finally:
            for timer in self._timers.values():
                timer.cancel()

    def _run(self, fragment: str = "") -> bytes:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.fragment_id = self.query, fragment
        state.page_script_hash, state.page_name = self._script, "" if self._script else self.page
        state.is_auto_rerun = bool(fragment)
        state.context_info.timezone = "UTC"
        return message.SerializeToString()

    async def _take(self, socket: ClientConnection, data: bytes) -> bool:
        """Do what a browser would with a message; True when the page is done."""
        self.received += len(data)
        self._read |= self.text in data
        message = ForwardMsg.FromString(data)
        kind = message.WhichOneof("type")
        if kind in ("new_session", "stop_auto_rerun"):
            if kind == "new_session":
                self._whole = not message.metadata.run.fragment_ids
                self._read &= not self._whole
            for name in (
                list(self._timers) if kind == "new_session" and self._whole else message.stop_auto_rerun.fragment_ids
            ):
                if name in self._timers:
                    self._timers.pop(name).cancel()
        elif kind == "navigation":
            self._script = message.navigation.page_script_hash
        elif kind == "auto_rerun":
            name = message.auto_rerun.fragment_id
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = asyncio.create_task(self._again(socket, name, message.auto_rerun.interval))
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            self.complaint = message.delta.new_element.exception.message
        return kind == "script_finished" and self._whole and self._read and not self._timers

    async def _again(self, socket: ClientConnection, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self.looks += 1
            await socket.send(self._run(fragment))


def student(url: str, at: int, page: str = "attack") -> Student:
    query, text = PAGES[page]
    return Student(
        f"{url.replace('http', 'ws')}/_stcore/stream", "" if page == "attack" else page, urlencode(query(at)), text
    )


async def lesson(url: str, count: int, page: str, process: psutil.Process) -> None:
    first = student(url, 0, page)
    await first.attend()
    say(f"the first of all, server cold: {first.answered:.2f} s {first.complaint}")
    before = sum(process.cpu_times()[:2])
    students = [student(url, 1 + at, page) for at in range(count)]
    began = time.monotonic()
    await asyncio.gather(*(one.attend() for one in students))
    took, used = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    waits = sorted(one.answered for one in students if one.answered == one.answered)
    complaints = {one.complaint for one in students if one.complaint}
    if waits:
        say(
            f"{count} at once: {len(waits)} answered after {waits[0]:.2f} s at least, {median(waits):.2f} s (median), {waits[-1]:.2f} s "
            f"at most; all in {took:.2f} s, {used:.1f} s of processor time, "
            f"{sum(s.received for s in students) / count / 1e6:.2f} MB and {sum(s.looks for s in students) / count:.0f} looks each"
        )
    say(f"complaints: {complaints or 'none'}; memory {process.memory_info().rss / 2**20:,.0f} MiB")


def say(text: str) -> None:
    print(f"{text}; load {os.getloadavg()[0]:.1f}", flush=True)  # noqa: T201


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import ROOT, _start

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    page = sys.argv[2] if len(sys.argv) > 2 else "attack"
    with tempfile.TemporaryDirectory() as made:
        server, url = _start(str(ROOT / "app.py"), {"EXPLORER_CACHE": made, "OMP_NUM_THREADS": ""}, Path(os.devnull))
        try:
            asyncio.run(lesson(url, count, page, psutil.Process(server.pid)))
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
