"""No student does what only the lecturer may, and none sees another's answer before the reveal: over the raw websocket.

The sessions are those of `follow.py`. A member sends what the lecturer's own browser would send (each widget that the lecturer has
and the member has not), a made-up key, and the messages by which Streamlit lets any browser touch all sessions.
"""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Common_pb2 import StringArray
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from explorer.classroom import lessons
from explorer.ui.room import BLACK
from tests.browser.conftest import ROOT
from tests.browser.follow import Client

KEY = "2-fgsm-and-pgd"
FIRST, SECOND = (scene.title for scene in lessons()[0][KEY].scenes[:2])
COUNTED, BLACKENED = b"Answers of the class", BLACK[:40].encode()
TOUCH_ALL = ("clear_cache", "set_run_on_save", "load_git_info")


@dataclass
class Session(Client):
    """A session that keeps all that it is sent, and the widgets that it has."""

    received: bytes = b""
    drawn: set[bytes] = field(default_factory=set)  # every element, as it was sent
    widgets: dict[str, str] = field(default_factory=dict)  # kinds by id

    async def take(self, data: bytes) -> None:
        self.received += data
        message = ForwardMsg.FromString(data)
        if message.WhichOneof("type") == "delta":
            element = message.delta.new_element
            self.drawn.add(element.SerializeToString())
            kind = element.WhichOneof("type")
            if kind and getattr(getattr(element, kind), "id", ""):
                self.widgets[getattr(element, kind).id] = kind
            if kind == "button":
                self.buttons[element.button.label] = element.button.id
        await super().take(data)

    def has(self, key: str) -> str:
        """The id of the widget with this key."""
        return next(name for name in self.widgets if name.endswith(f"-{key}"))

    async def comes(self, text: bytes, seconds: float = 30.0) -> None:
        """Wait until something with this text has come."""
        async with asyncio.timeout(seconds):
            while text not in self.received:
                await asyncio.sleep(0.02)

    async def press(self, name: str) -> None:
        await self.run(widgets=[WidgetState(id=name, trigger_value=True)])

    async def drawn_anew(self) -> None:
        """The whole page, and a look at the room."""
        await self.run()
        await asyncio.sleep(1.0)  # longer than between two looks

    def kept(self, name: str) -> str:
        """The key or token that this browser is to keep."""
        found = re.search(rf'{name}\\+": \\+"([\w-]+)'.encode(), self.received)
        assert found is not None
        return found[1].decode()


def connected(address: str, tasks: list[asyncio.Task], **query: str) -> Session:
    session = Session(address, query)
    tasks.append(asyncio.create_task(session.live()))
    return session


async def in_class(url: str) -> None:
    address, tasks = f"{url.replace('http', 'ws')}/_stcore/stream", []
    lecturer, members = Session(address), []
    tasks.append(asyncio.create_task(lecturer.live()))
    try:
        await lecturer.until("Open a room")
        await lecturer.press(lecturer.has("room.open"))
        code = (await lecturer.until("room ")).split()[1]
        await lecturer.press(lecturer.has(f"lesson.begin.{KEY}"))
        await lecturer.until(FIRST)
        members += [connected(address, tasks) for _ in range(2)]
        ada, ben = members
        for member, name in ((ada, "Ada"), (ben, "Ben the unmistakable")):
            await member.until("Join")
            await member.click("Join", Code=code, Your=name)
            await member.until(FIRST)
        await _nothing_of_an_answer(lecturer, ada, ben)
        await _no_act(lecturer, ada, ben)
        await _the_lecturer_may(lecturer, ben)
        await _no_key_but_the_rooms(address, code, lecturer, ada, tasks)
        await lecturer.press(lecturer.has("room.end"))
        await ben.comes(b"The room has ended")
        assert not [one.errors for one in (lecturer, ada, ben) if one.errors]
    finally:
        for session in (lecturer, *members):
            session.leave()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _nothing_of_an_answer(lecturer: Session, ada: Session, ben: Session) -> None:
    """While Ben answers, Ada is sent no element that she was not sent before."""
    await ada.drawn_anew()
    before = set(ada.drawn)
    answer = WidgetState(id=ben.has(f"answer.{KEY}/1"), string_array_value=StringArray(data=["yes"]))
    await ben.run(widgets=[answer])
    await asyncio.sleep(0.8)
    await ben.run(widgets=[answer, WidgetState(id=ben.has("lesson-lock"), trigger_value=True)])
    await ben.comes(b"Locked: yes")
    await lecturer.comes(b"1 of 2 have answered")
    await ada.drawn_anew()
    assert ada.drawn == before
    assert b"unmistakable" not in ada.received + lecturer.received and b"have answered" not in ada.received


async def _no_act(lecturer: Session, ada: Session, ben: Session) -> None:
    """Ada sends what the lecturer's browser would: nothing happens to anybody."""
    theirs = {name: kind for name, kind in lecturer.widgets.items() if name not in ada.widgets}
    for key in ("lesson-next", "lesson-black", "room.alone", "room.home"):
        assert [name for name in theirs if name.endswith(f"-{key}")], key
    for name, kind in theirs.items():
        on = WidgetState(id=name, bool_value=True) if kind == "checkbox" else WidgetState(id=name, trigger_value=True)
        await ada.run(widgets=[on])
    for kind in TOUCH_ALL:
        message = BackMsg()
        setattr(message, kind, True)
        await ada.socket.send(message.SerializeToString())
    ada.query = ada.query | {"view": "notes"}  # the lecturer's notes, which everybody may read
    await ada.run()
    await ada.until("Next")
    await ada.press(ada.has("lesson-next"))
    ada.page, ada.query = "attack", {"room": ada.query["room"], "image": "3"}
    await ada.run()
    await asyncio.sleep(1.0)
    for one in (lecturer, ben):
        one.drawn.clear()
    await asyncio.gather(lecturer.drawn_anew(), ben.drawn_anew())
    for one in (lecturer, ben):
        now = b"".join(one.drawn)
        assert FIRST.encode() in now and SECOND not in one.seen
    assert b"1 of 2 have answered" in b"".join(lecturer.drawn) and b"Locked: yes" in b"".join(ben.drawn)
    for one in (lecturer, ada, ben):
        assert COUNTED not in one.received and BLACKENED not in one.received
        assert b"The room has ended" not in one.received
    assert lecturer.kept("key").encode() not in ada.received + ben.received


async def _no_key_but_the_rooms(
    address: str, code: str, lecturer: Session, ada: Session, tasks: list[asyncio.Task]
) -> None:
    """A browser that says it has kept a key leads with the room's own alone."""
    for key, leads in ((ada.kept("token"), False), ("made up", False), (lecturer.kept("key"), True)):
        one = connected(address, tasks, room=code)
        await one.until("Open a room")
        kept = json.dumps([f"explorer.room.{code}", json.dumps({"key": key, "token": None})])
        state = WidgetState(id=one.has("room.kept"), json_value=json.dumps({"kept": kept}))
        await one.run(widgets=[state])
        if leads:
            await one.comes(b"all see what you show")
        else:
            await one.comes(b"Your screen will show what the lecturer shows")
            await asyncio.sleep(0.4)
            assert b"all see what you show" not in one.received
        one.leave()


async def _the_lecturer_may(lecturer: Session, ben: Session) -> None:
    """What did nothing for Ada does it for the lecturer."""
    await lecturer.press(lecturer.has("lesson-next"))
    await ben.comes(COUNTED)
    await lecturer.press(lecturer.has("lesson-black"))
    await ben.comes(BLACKENED)


def test_no_student_does_what_only_the_lecturer_may(serve, tmp_path):
    url = serve(ROOT / "app.py", {"EXPLORER_CACHE": str(tmp_path / "cache"), "EXPLORER_RUNS": str(tmp_path / "runs")})
    with ThreadPoolExecutor(1) as aside:  # Playwright's loop may be running in this thread
        aside.submit(asyncio.run, asyncio.wait_for(in_class(url), 120)).result()
