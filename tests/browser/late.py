"""A slow connection: what the server sends reaches the page late, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

LATE = """ms => {
    const late = f => f && (e => setTimeout(() => f.call(e.target, e), ms));
    const own = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage');
    Object.defineProperty(WebSocket.prototype, 'onmessage', { ...own, set(f) { own.set.call(this, late(f)); } });
    const add = WebSocket.prototype.addEventListener;
    WebSocket.prototype.addEventListener = function (kind, f, ...rest) {
        return add.call(this, kind, kind === 'message' ? late(f) : f, ...rest);
    };
}"""


def answers_late(page: Page, milliseconds: int = 600) -> None:
    """Call it before the page is opened."""
    page.add_init_script(f"({LATE})({milliseconds})")
