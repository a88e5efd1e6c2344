"""A screen of the class goes on where what Streamlit sent to it was lost."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

from playwright.sync_api import WebSocketRoute, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from explorer.classroom import lessons
from explorer.ui.room import SETTLES

from .follow import Client
from .test_app import APP, MINUTE

LESSON = "1-a-change-nobody-sees"
SCENE, NEXT = (scene.title for scene in lessons()[0][LESSON].scenes[:2])


class Losing:
    """A connection that once loses a drawing of the whole page after its first message, as Streamlit does: with it go the clocks
    of the page's looks, since the first message ends those and the others begin them anew."""

    def __init__(self) -> None:
        self.loses, self.lost = False, 0

    def __call__(self, here: WebSocketRoute) -> None:
        server = here.connect_to_server()

        def passed_on(data: str | bytes) -> None:
            message = ForwardMsg.FromString(data)
            kind = message.WhichOneof("type")
            if not (self.loses and self.lost):
                here.send(data)
                self.lost += self.loses and kind == "new_session" and not message.metadata.run.fragment_ids
                return
            self.lost += 1
            self.loses = kind != "script_finished"

        server.on_message(passed_on)


def test_a_lost_drawing_does_not_leave_a_screen_behind(open_page, serve):
    url = serve(APP)
    lecturer = open_page(f"{url}/lessons")
    lecturer.get_by_text("In a class: join a room").click(timeout=MINUTE)
    lecturer.get_by_role("button", name="Open a room").click()
    bar = lecturer.locator(".st-key-room-bar")
    expect(bar).to_contain_text("all see what you show", timeout=MINUTE)
    code = re.search(r"Room (\w{6})", bar.inner_text())[1]

    student, connection = open_page(), Losing()
    student.route_web_socket("**/_stcore/stream*", connection)
    student.goto(f"{url}/lessons?room={code}")
    student.get_by_role("button", name="Join").last.click(timeout=MINUTE)
    expect(student.locator(".st-key-room-bar")).to_contain_text("you follow", timeout=MINUTE)
    student.wait_for_timeout(1500)  # its page is drawn again once it has a place
    connection.loses = True
    lecturer.locator(f".st-key-lesson-begin-{LESSON} button").click()
    expect(student.get_by_role("heading", name=SCENE)).to_be_visible(timeout=MINUTE)
    assert connection.lost > 10
    lecturer.get_by_role("button", name="End the room").click()


class Late(Client):
    """A browser whose messages all come from the address that it had some seconds ago."""

    late = 0.0  # seconds

    async def take(self, data: bytes) -> None:
        message = ForwardMsg.FromString(data)
        if self.late and message.WhichOneof("type") == "page_info_changed":
            asyncio.get_running_loop().call_later(self.late, self.went, message.page_info_changed.query_string)
        else:
            await super().take(data)

    def went(self, query: str) -> None:
        self.query = dict(parse_qsl(query))


async def behind(address: str) -> str:
    """The scene of a student's late browser, some seconds after the lecturer went on to the second."""
    lecturer, student = Client(address), Late(address)
    tasks = [asyncio.create_task(lecturer.live())]
    try:
        await lecturer.until("Open a room")
        await lecturer.click("Open a room")
        code = (await lecturer.until("room ")).split()[1]
        lecturer.query = {"lesson": LESSON, "scene": "1", "room": code}
        await lecturer.run()
        tasks.append(asyncio.create_task(student.live()))
        await student.until("Join")
        await student.click("Join", Code=code)
        await student.until(SCENE)
        await asyncio.sleep(1.2 * SETTLES[1])
        student.late = 1.25 * SETTLES[1]
        lecturer.query = lecturer.query | {"scene": "2"}
        await lecturer.run()
        await student.until(NEXT)
        await asyncio.sleep(2.5 * SETTLES[1])
        return student.query["scene"]
    finally:
        lecturer.leave()
        student.leave()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_messages_from_an_old_address_do_not_leave_a_screen_behind(serve):
    address = serve(APP).replace("http", "ws") + "/_stcore/stream"
    with ThreadPoolExecutor(1) as aside:  # Playwright's loop may be running in this thread
        assert aside.submit(asyncio.run, behind(address)).result() == "2"
