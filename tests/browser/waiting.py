"""Waits for facts instead of times: so many frames drawn by the browser, a condition, or a page that sends nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

LIMIT_S = 60  # a busy computer may take its time
DRAW = "async n => { while (n-- > 0) await new Promise(requestAnimationFrame); }"


def after_frames(page: Page, frames: int = 20) -> None:
    """Until the browser has drawn so often: whatever was about to happen on the page by itself has happened."""
    page.evaluate(DRAW, frames)


def until(page: Page, fact: Callable[[], bool], seconds: float = LIMIT_S) -> None:
    """Look in every frame until it is so; fails after some seconds."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, f"not so within {seconds} s"
        after_frames(page, 1)


def at_rest(page: Page, sent: Sequence[object], frames: int = 60) -> None:
    """Until the page has sent something, and then nothing for so many frames."""
    before = -1
    end = time.monotonic() + LIMIT_S
    while not sent or len(sent) != before:
        assert time.monotonic() < end, f"the page never rests, it has sent {len(sent)} messages: {sent[-3:]}"
        before = len(sent)
        after_frames(page, frames)
