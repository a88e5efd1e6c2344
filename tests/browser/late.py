"""A slow connection: what the server sends reaches the page late, in its order; by so many milliseconds, or when told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# `late(f)` is what takes a message in the place of `f`.
PATCH = """late => {
    const own = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage');
    Object.defineProperty(WebSocket.prototype, 'onmessage', { ...own, set(f) { own.set.call(this, f && late(f)); } });
    const add = WebSocket.prototype.addEventListener;
    WebSocket.prototype.addEventListener = function (kind, f, ...rest) {
        return add.call(this, kind, f && kind === 'message' ? late(f) : f, ...rest);
    };
}"""
HELD = """f => e => {
    if (!window.answers) return f.call(e.target, e);
    window.answers.push({ says: new TextDecoder().decode(e.data), arrive: () => f.call(e.target, e) });
}"""


def answers_late(page: Page, milliseconds: int = 600) -> None:
    """Call it before the page is opened."""
    page.add_init_script(f"({PATCH})(f => e => setTimeout(() => f.call(e.target, e), {milliseconds}))")


def answers_can_be_held(page: Page) -> None:
    """Call it before the page is opened; answers arrive as ever until `hold_answers`."""
    page.add_init_script(f"({PATCH})({HELD})")


def hold_answers(page: Page) -> None:
    page.evaluate("() => { window.answers = []; }")


def wait_for_answer(page: Page, words: str) -> int:
    """Until the server has answered in these words; how many answers are held by now."""
    page.wait_for_function("words => window.answers.some(answer => answer.says.includes(words))", arg=words)
    return page.evaluate("() => window.answers.length")


def let_answers_arrive(page: Page, count: int | None = None) -> None:
    """The first so many of those that are held; None: all, and from now on as ever."""
    page.evaluate(
        """count => {
            const held = window.answers;
            if (count === null) window.answers = null;
            for (const answer of held.splice(0, count ?? held.length)) answer.arrive();
        }""",
        count,
    )
