"""A screen of the class goes on where what Streamlit sent to it was lost."""

import re

from playwright.sync_api import WebSocketRoute, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from .test_app import APP, MINUTE

LESSON, SCENE = "1-a-change-nobody-sees", "A frog, and twenty small steps"


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
