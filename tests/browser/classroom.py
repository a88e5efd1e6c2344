"""Prints how long a class waits that opens a page at once: `python tests/browser/classroom.py [students] [page] [times]`.

Students are sessions on the server's websocket that do what a browser does (run the page, look again where the page asks
for it), without drawing: thirty browsers would need the processor that is measured. Each student opens the page with
another picture or model (`PAGES`), so many `times`, and has an answer when the whole page has been drawn and nothing in it
looks again; then it draws the page once more, which is timed as a rerun.
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
    "certify": (lambda at: {"data": "cifar10", "image": at, "model": "cifar10/gaussian-0.25"}, b"Not attacked yet"),
}
FIRST = {"certify": (b"radius at least", b"No radius yet", b"Certified:")}  # what a page may show before it is done
LIMIT = 300.0  # seconds
REFUSED = b"could not be followed"  # a page that says so of its link has answered another question


@dataclass
class Student:
    """One session. `answered`: seconds from opening the page until it is done; `first`: until it shows one of `early`;
    `redrawn`: of drawing it once more.
    """

    url: str
    page: str
    query: str
    text: bytes
    early: tuple[bytes, ...] = ()
    first: float = float("nan")
    answered: float = float("nan")
    redrawn: float = float("nan")
    complaint: str = ""
    received: int = 0
    looks: int = 0
    _opened: float = 0.0
    _timers: dict[str, asyncio.Task] = field(default_factory=dict)
    _script: str = ""  # the page's own name for the server, once it has told
    _whole: bool = False  # the run under way is the whole page's
    _read: bool = False  # the page has shown its text

    async def attend(self) -> None:
        self._opened = began = time.monotonic()
        try:
            async with (
                asyncio.timeout(LIMIT),
                connect(self.url, subprotocols=["streamlit"], max_size=None, close_timeout=0.1) as socket,
            ):
                await socket.send(self._run())
                async for data in socket:
                    if not await self._take(socket, data):
                        continue
                    if self.answered == self.answered:
                        self.redrawn = time.monotonic() - began
                        return
                    self.answered, began, self._read = time.monotonic() - began, time.monotonic(), False
                    await socket.send(self._run())
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
        if self.first != self.first and any(word in data for word in self.early):
            self.first = time.monotonic() - self._opened
        if REFUSED in data:
            self.complaint = "the link could not be followed"
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
        f"{url.replace('http', 'ws')}/_stcore/stream", "" if page == "attack" else page, urlencode(query(at)), text,
        FIRST.get(page, ()),
    )  # fmt: skip


async def lesson(url: str, count: int, page: str, process: psutil.Process, times: int = 1) -> None:
    first = student(url, 0, page)
    await first.attend()
    say(f"the first of all, server cold: {first.answered:.2f} s {first.complaint}")
    before = sum(process.cpu_times()[:2])
    students = [[student(url, 1 + turn * count + at, page) for turn in range(times)] for at in range(count)]

    async def attend(turns: list[Student]) -> None:
        for turn in turns:
            await turn.attend()

    began = time.monotonic()
    await asyncio.gather(*(attend(turns) for turns in students))
    took, used = time.monotonic() - began, sum(process.cpu_times()[:2]) - before
    every = [one for turns in students for one in turns]
    complaints = {one.complaint for one in every if one.complaint}
    for what, seconds in (
        ("first words", [s.first for s in every]),
        ("new", [s.answered for s in every]),
        ("rerun", [s.redrawn for s in every]),
    ):
        waits = sorted(value for value in seconds if value == value)
        if waits:
            late = waits[min(int(0.95 * len(waits)), len(waits) - 1)]
            say(
                f"{what}: {len(waits)} of {len(every)}, {median(waits):.2f} s (median), {late:.2f} s (95 %), {waits[-1]:.2f} s at most"
            )
    say(
        f"{count} at once, {times} times: all in {took:.2f} s, {used:.1f} s of processor time, "
        f"{sum(s.received for s in every) / len(every) / 1e6:.2f} MB and {sum(s.looks for s in every) / len(every):.0f} looks each"
    )
    say(f"complaints: {complaints or 'none'}; memory {process.memory_info().rss / 2**20:,.0f} MiB")


def say(text: str) -> None:
    print(f"{text}; load {os.getloadavg()[0]:.1f}", flush=True)  # noqa: T201


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import ROOT, _start

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    page = sys.argv[2] if len(sys.argv) > 2 else "attack"
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory() as made:
        server, url = _start(str(ROOT / "app.py"), {"EXPLORER_CACHE": made, "OMP_NUM_THREADS": ""}, Path(os.devnull))
        try:
            asyncio.run(lesson(url, count, page, psutil.Process(server.pid), times))
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
