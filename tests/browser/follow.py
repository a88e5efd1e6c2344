"""Prints how soon a class sees what its lecturer shows: `python tests/browser/follow.py [students] [flooders] [scenes] [minutes]`.

The lecturer and the students are sessions on the server's websocket that do what a browser does (run the page, look again where it
asks for it), without drawing. The lecturer presses one scene of a lesson after another, every student follows through
the room; a student has a scene when the page that names it has been drawn. A flooder asks for its page again and again without waiting.
Run it on an idle machine. With `minutes` the lecturer gives all lessons for so long instead, each scene shown and revealed, and every
minute tells the memory of the app.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect

TITLES = (
    "Told naively",
    "Told honestly",
    "More steps, too",
    "Is it the randomness that protects?",
)  # of the last lesson
PAUSE = 6.0  # seconds between two scenes
WATCH = 4.0  # between two looks by the browser's own clock, as `explorer.ui.room.WATCH`


@dataclass
class Client:
    """One session in a browser that draws nothing."""

    url: str
    query: dict[str, str] = field(default_factory=dict)
    page: str = "lessons"
    seen: dict[str, float] = field(default_factory=dict)  # when each text was drawn
    buttons: dict[str, str] = field(default_factory=dict)  # widget ids by label
    fields: dict[str, str] = field(default_factory=dict)  # and of text fields, by the first word of theirs
    socket: ClientConnection | None = None
    script: str = ""
    errors: list[str] = field(default_factory=list)
    _timers: dict[str, asyncio.Task] = field(default_factory=dict)
    _clock: asyncio.Task | None = None  # a timer of the browser's own

    async def live(self) -> None:
        async with connect(self.url, subprotocols=["streamlit"], max_size=None, close_timeout=0.1) as socket:
            self.socket = socket
            await self.run()
            async for data in socket:
                await self.take(data)

    async def run(self, fragment: str = "", widgets: list[WidgetState] | None = None) -> None:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.fragment_id = urlencode(self.query), fragment
        state.page_script_hash, state.page_name = self.script, "" if self.script else self.page
        state.is_auto_rerun = bool(fragment)
        state.context_info.timezone = "UTC"
        state.widget_states.widgets.extend(widgets or [])
        await self.socket.send(message.SerializeToString())

    async def click(self, label: str, **typed: str) -> None:
        """Press a button; `typed`: what stands in fields, by the first word of their labels."""
        states = [WidgetState(id=self.fields[name], string_value=value) for name, value in typed.items()]
        await self.run(widgets=[*states, WidgetState(id=self.buttons[label], trigger_value=True)])

    async def take(self, data: bytes) -> None:
        message = ForwardMsg.FromString(data)
        kind = message.WhichOneof("type")
        if kind in ("new_session", "stop_auto_rerun"):
            whole = kind == "new_session" and not message.metadata.run.fragment_ids
            for name in list(self._timers) if whole else message.stop_auto_rerun.fragment_ids:
                if name in self._timers:
                    self._timers.pop(name).cancel()
        elif kind == "navigation":
            self.script = message.navigation.page_script_hash
        elif kind == "page_info_changed":
            self.query = dict(
                pair.split("=", 1) for pair in message.page_info_changed.query_string.split("&") if "=" in pair
            )
        elif kind == "auto_rerun":
            name = message.auto_rerun.fragment_id
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = asyncio.create_task(self._again(name, message.auto_rerun.interval))
        elif kind == "delta":
            self._note(message.delta)
            widget = message.delta.new_element.bidi_component.id
            if widget.endswith("-room.watching") and self._clock is None:
                self._clock = asyncio.create_task(self._look(widget, message.delta.fragment_id))

    def _note(self, delta: Any) -> None:
        element = delta.new_element
        what = element.WhichOneof("type")
        if what == "button":
            self.buttons[element.button.label] = element.button.id
        elif what == "text_input":
            self.fields[element.text_input.label.split()[0]] = element.text_input.id
        elif what == "heading":
            self.seen.setdefault(element.heading.body, time.monotonic())
        elif what == "exception":
            self.errors.append(element.exception.message)
        elif what == "markdown" and (found := re.search(r"Room (\w+)\*\*", element.markdown.body)):
            self.seen.setdefault(f"room {found[1]}", time.monotonic())

    def leave(self) -> None:
        """Ask for nothing any more."""
        for timer in (*self._timers.values(), self._clock):
            if timer is not None:
                timer.cancel()

    async def _again(self, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self.run(fragment)

    async def _look(self, widget: str, fragment: str) -> None:
        while True:
            await asyncio.sleep(WATCH)
            await self.run(fragment, [WidgetState(id=widget, json_value=json.dumps({"looked": time.monotonic()}))])

    async def until(self, text: str, seconds: float = 60.0) -> str:
        """Wait for a drawn text that begins so, or a button of that label."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := next((one for one in [*self.seen, *self.buttons] if one.startswith(text)), None):
                return found
            await asyncio.sleep(0.02)
        raise TimeoutError(f"{text!r} was not drawn for {self.query}; errors: {self.errors}")


async def lesson(url: str, count: int, flooders: int, scenes: int, minutes: float, process: psutil.Process) -> None:
    address = f"{url.replace('http', 'ws')}/_stcore/stream"
    lecturer = Client(address)
    tasks = [asyncio.create_task(lecturer.live())]
    await lecturer.until("Open a room")
    await lecturer.click("Open a room")
    code = (await lecturer.until("room ")).split()[1]
    students = [Client(address) for _ in range(count)]
    for student in students:
        tasks.append(asyncio.create_task(student.live()))
    await asyncio.gather(*(join(student, code) for student in students))
    say(f"{count} have joined room {code}", process)
    for _ in range(flooders):
        tasks.append(asyncio.create_task(flood(Client(address))))
    await (teach(lecturer, students, code, minutes, process) if minutes else pace(lecturer, students, scenes, process))
    errors = [error for one in [lecturer, *students] for error in one.errors]
    say(
        f"errors: {len(errors)} {set(errors) or ''}; sessions that ended: {sum(task.done() for task in tasks)}", process
    )
    for task in tasks:
        task.cancel()


async def pace(lecturer: Client, students: list[Client], scenes: int, process: psutil.Process) -> None:
    """The first scenes of the last lesson: how soon each is on all screens."""
    titles = TITLES[:scenes]
    waits: list[float] = []
    used = sum(process.cpu_times()[:2])
    for number, title in enumerate(titles, 1):
        began = time.monotonic()
        await lecturer.click("Begin" if number == 1 else f"{number}. {title}")
        await asyncio.gather(lecturer.until(title), *(student.until(title) for student in students))
        waits += [student.seen[title] - began for student in students]
        await asyncio.sleep(PAUSE)
    waits.sort()
    late = waits[min(int(0.95 * len(waits)), len(waits) - 1)]
    used = (sum(process.cpu_times()[:2]) - used) / len(titles)
    told = f"{median(waits):.2f} s (median), {late:.2f} s (95 %), {waits[-1]:.2f} s at most, of {len(waits)}"
    say(f"a scene on all screens: {told}; {used:.2f} s of processor time a scene, {PAUSE:g} s of looks in it", process)


async def teach(lecturer: Client, students: list[Client], code: str, minutes: float, process: psutil.Process) -> None:
    """All lessons from the first scene to the last, again and again: each is shown, revealed, and left after some seconds."""
    from explorer.classroom import lessons

    began = told = time.monotonic()
    shown = lost = 0
    for key, at, scene in cycle(
        [(key, k, one) for key, all_ in lessons()[0].items() for k, one in enumerate(all_.scenes)]
    ):
        for client in (lecturer, *students):
            client.seen.clear()
        lecturer.buttons.clear()
        for _ in range(3):  # a message of the lecturer's browser that was under way may name the old address again
            lecturer.query = {"lesson": key, "scene": str(at + 1), "room": code}
            await lecturer.run()
            with suppress(TimeoutError):
                await lecturer.until(scene.title, 10.0)
                break
        here = await asyncio.gather(*(one.until(scene.title) for one in students), return_exceptions=True)
        late = [one for one in here if isinstance(one, TimeoutError)]
        shown, lost = shown + len(here), lost + len(late)
        for one in late:
            say(str(one), process)
        if "Reveal" in lecturer.buttons:
            await lecturer.click("Reveal")
        await asyncio.sleep(PAUSE)
        now = time.monotonic()
        if now - told >= 60:
            told = now
            say(f"minute {(now - began) / 60:.0f}: {shown} screens, {lost} not within a minute", process)
        if now - began >= 60 * minutes:
            return


async def join(student: Client, code: str) -> None:
    await student.until("Join")
    await student.click("Join", Code=code)
    await student.until("room ")


async def flood(client: Client) -> None:
    """Asks for its page without waiting for the answer."""
    task = asyncio.create_task(client.live())
    await client.until("Lessons")
    while True:
        await client.run()
        await asyncio.sleep(0.005)
        if task.done():
            return


def say(text: str, process: psutil.Process) -> None:
    rss = process.memory_info().rss / 2**20
    print(f"{text}; memory {rss:,.0f} MiB, load {os.getloadavg()[0]:.1f}", flush=True)  # noqa: T201


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from conftest import ROOT, _start

    sys.path.insert(0, str(ROOT))
    count, flooders, scenes, minutes = (
        int(sys.argv[k]) if len(sys.argv) > k else usual for k, usual in ((1, 30), (2, 0), (3, 4), (4, 0))
    )
    with tempfile.TemporaryDirectory() as made:
        server, url = _start(str(ROOT / "app.py"), {"EXPLORER_CACHE": made, "OMP_NUM_THREADS": ""}, Path(os.devnull))
        try:
            asyncio.run(lesson(url, count, flooders, scenes, minutes, psutil.Process(server.pid)))
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
