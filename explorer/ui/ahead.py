"""What every first page needs, read while the first browser is still on its way."""

from contextlib import suppress
from threading import Thread

from explorer.core.errors import ExplorerError


def read_ahead() -> None:
    """Begin to read it, in a thread: the pages' modules, the cards, the first picture and its model."""
    Thread(target=_read, name="ahead", daemon=True).start()


def _read() -> None:
    from explorer.ui import attack, frame, own_attack, room  # noqa: F401 - half a second that nobody need wait for
    from explorer.ui.inputs.attack import default_request
    from explorer.ui.inputs.choices import families
    from explorer.ui.session import engine

    with suppress(ExplorerError):  # no model, say: the page itself tells it
        families()
        engine().model(default_request().model)
