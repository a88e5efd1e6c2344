"""Prints how long a class waits that opens the app at once: `python tests/browser/classroom.py [students]`.

Students are sessions on the server's websocket that do what a browser does (run the page, look again where the page asks
for it), without drawing: thirty browsers would need the processor that is measured. Each student opens the Attack page
with another picture, and has an answer when the verdict has arrived. Run it on an idle machine.
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
VERDICT = b"White-box: the attack used"
LIMIT = 120.0  # seconds


@dataclass
class Student:
    """One session. `answered`: seconds from opening the page to the verdict."""

    url: str
    query: str
    answered: float = float("nan")
    complaint: str = ""
    received: int = 0
    looks: int = 0
    _timers: dict[str, asyncio.Task] = field(default_factory=dict)

    async def attend(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(LIMIT), connect(self.url, subprotocols=["streamlit"], max_size=None, close_timeout=0.1) as socket:
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
        state.is_auto_rerun = bool(fragment)
        state.context_info.timezone = "UTC"
        return message.SerializeToString()

    async def _take(self, socket: ClientConnection, data: bytes) -> bool:
        """Do what a browser would with a message; True when it brought the verdict."""
        self.received += len(data)
        message = ForwardMsg.FromString(data)
        kind = message.WhichOneof("type")
        if kind in ("new_session", "stop_auto_rerun"):
            whole = kind == "new_session" and not message.metadata.run.fragment_ids
            for name in list(self._timers) if whole else message.stop_auto_rerun.fragment_ids:
                if name in self._timers:
                    self._timers.pop(name).cancel()
        elif kind == "auto_rerun":
            name = message.auto_rerun.fragment_id
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = asyncio.create_task(self._again(socket, name, message.auto_rerun.interval))
        elif kind == "delta" and message.delta.new_element.WhichOneof("type") == "exception":
            self.complaint = message.delta.new_element.exception.message
        return VERDICT in data

    async def _again(self, socket: ClientConnection, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self.looks += 1
            await socket.send(self._run(fragment))


def student(url: str, image: int) -> Student:
    return Student(f"{url.replace('http', 'ws')}/_stcore/stream", urlencode(LINK | {"image": image}))


async def lesson(url: str, count: int, process: psutil.Process) -> None:
    first = student(url, 0)
    await first.attend()
    say(f"the first of all, server cold: {first.answered:.2f} s {first.complaint}")
    before = sum(process.cpu_times()[:2])
    students = [student(url, 1 + at) for at in range(count)]
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
    with tempfile.TemporaryDirectory() as made:
        server, url = _start(str(ROOT / "app.py"), {"EXPLORER_CACHE": made, "OMP_NUM_THREADS": ""}, Path(os.devnull))
        try:
            asyncio.run(lesson(url, count, psutil.Process(server.pid)))
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
