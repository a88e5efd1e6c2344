"""Head of the page: styles that stand in Streamlit's index.html itself, so that the very first paint has them.

Streamlit's own styles, and those that a script writes, arrive after the first paint: a dark page would be white until then,
and everything would move to its place. `Head` is ASGI middleware (`App` in app.py takes it): nothing of Streamlit is patched.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIGHT, DARK = "#ffffff", "#0e1117"  # as in .streamlit/config.toml
PRESSED = "#3557a5"  # under white letters, in both themes: 6.8 to 1
SIDEBAR = 330  # pixels
STYLES = f"""
:root {{ color-scheme: light dark; }}
html {{ background: {LIGHT}; }}
@media (prefers-color-scheme: dark) {{ html {{ background: {DARK}; }} }}
.block-container {{ padding: 3.4rem 2rem 1.5rem !important; max-width: 1720px !important; }}
[data-testid="stSidebarHeader"] {{ height: 3rem; margin-bottom: 0; padding-bottom: 0; }}
[data-testid="stHeading"] h2 {{ padding: 0.5rem 0 1rem !important; }}
[data-testid="stMain"] [data-testid="stHeading"] h2 {{ font-size: 1.75rem !important; line-height: 1.2 !important; }}
[data-testid="stMarkdownContainer"] :is(h2, h3) {{ font-size: 1.5rem !important; padding: 0.75rem 0 1rem !important; }}
:is([class*="st-key-headline"], .st-key-training-headline) [data-testid="stColumn"]:last-child {{ min-width: 8rem; }}
.katex-display {{ padding: 0.45em 0; }}
[data-testid="stMarkdownContainer"] div:has(> table), [data-testid="stMarkdownContainer"]:has(> table) {{ overflow-x: auto; }}
section[data-testid="stSidebar"] .katex {{ font-size: 0.95em; }}
[data-testid="stCaptionContainer"] {{ opacity: 0.72 !important; }} /* 5.9 to 1, in the sidebar, too; Streamlit's is 4.1 */
[data-testid="stBaseButton-primary"], [data-testid="stMultiSelect"] [data-tag-index] {{ background: {PRESSED} !important; }}
.visually-hidden {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
[data-testid="stSidebarUserContent"] {{ padding-top: 0.25rem; }}
.st-key-scene-words [data-testid="stHorizontalBlock"] {{ row-gap: 1rem; }} /* on a telephone, where they stand below each other */
section[data-testid="stSidebar"] [data-testid="stVerticalBlock"] {{ gap: 0.7rem; }}
"""
# The room of what comes later than what stands below or beside it: heights as measured in Chromium.
RESERVED = """
.st-key-page-name [data-testid="stSkeleton"] { display: none; } /* the heading itself takes no room */
.st-key-notes { min-height: 110px; }
.st-key-gallery { min-height: 215px; }
.st-key-lessons-kept [data-testid="stSkeleton"] { display: none; } /* asks this browser, shows nothing */
[data-testid="stSidebar"] :is(.st-key-dataset, .st-key-many-pick, .st-key-many-count, .st-key-models-dataset, .st-key-models-search)
  [data-testid="stSkeleton"] { height: 68px; }
.st-key-models-kinds [data-testid="stSkeleton"] { height: 96px; }
.st-key-features-map { min-height: 900px; }
.st-key-many-cards { container-type: inline-size; } /* as many as at first */
.st-key-many-cards .st-key-many-strip { min-height: 1402px; }
@container (min-width: 741px) { .st-key-many-cards .st-key-many-strip { min-height: 721px; } }
@container (min-width: 1200px) { .st-key-many-cards .st-key-many-strip { min-height: 331px; } }
.st-key-models { min-height: 101px; }
[class*="st-key-headline"] [data-testid="stColumn"]:not(:last-child) { min-height: 68px; }
.st-key-headline-lab [data-testid="stColumn"]:not(:last-child) { min-height: 101px; } /* two models, two attacks */
.st-key-training-headline [data-testid="stColumn"]:first-child { min-height: 68px; }
.st-key-training-smoke [data-testid="stSkeleton"] { height: 32px; }
[data-testid="stSidebar"] [class*="st-key-train"] [data-testid="stSkeleton"] { height: 68px; }
.st-key-training-how [data-testid="stColumn"]:first-child { min-height: 270px; }
.st-key-training-how [data-testid="stColumn"]:first-child [data-testid="stSkeleton"] { height: 62px; }
.st-key-training-how [data-testid="stColumn"]:first-child :nth-child(2) [data-testid="stSkeleton"] { height: 154px; }
.st-key-training-how [data-testid="stColumn"]:last-child { min-height: 120px; }
[class*="st-key-models-table"], .st-key-models-plot { min-height: 460px; }
.st-key-stage { container-type: inline-size; min-height: 1960px; }
.st-key-player-place { min-height: 1226px; }
.st-key-verdict { min-height: 640px; }
.st-key-compare-stage { min-height: 3030px; }
.st-key-certify-stage, .st-key-many-stage, .st-key-features-stage { min-height: 1200px; }
.st-key-certify-stage [data-testid="stAlertContainer"] { min-height: 80px; }
@media (max-width: 640px) { /* a telephone: three pictures in a row, what can be done below them */
  .st-key-close-look [data-testid="stHorizontalBlock"] { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 0.6rem; }
  .st-key-close-look [data-testid="stColumn"] { min-width: 0; width: auto; }
  .st-key-close-look [data-testid="stColumn"]:last-child { grid-column: 1 / -1; }
}
@container (max-width: 360px) { .st-key-player-place { min-height: 1294px; } }
@container (min-width: 741px) {
  .st-key-player-place { min-height: 633px; }
  .st-key-verdict { min-height: 340px; }
}
@container (min-width: 1000px) { .st-key-player-place { min-height: 657px; } }
@container (min-width: 1200px) { .st-key-player-place { min-height: 718px; } }
@container (min-width: 1500px) { .st-key-player-place { min-height: 825px; } }
@media (min-width: 769px) {
  .st-key-notes { min-height: 58px; }
  .st-key-models { min-height: 68px; }
  .st-key-training-how [data-testid="stColumn"]:first-child { min-height: 219px; }
  .st-key-training-how [data-testid="stColumn"]:first-child :nth-child(2) [data-testid="stSkeleton"] { height: 102px; }
  .st-key-stage { min-height: 990px; }
  .st-key-compare-stage { min-height: 1106px; }
  .st-key-certify-stage, .st-key-many-stage { min-height: 900px; }
  .st-key-features-stage { min-height: 690px; }
  .st-key-features-map { min-height: 489px; }
}
"""
SIDEBAR_TO_COME = f"""
@media (min-width: 769px) {{
  [data-testid="stAppViewContainer"]:not(:has([data-testid="stSidebar"], .st-key-footer)) {{ padding-left: {SIDEBAR}px; }}
}}
"""


class Head:
    """Adds the styles to every HTML file that goes out: Streamlit has one, for all pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name.lower() != b"accept-encoding"]
        start: Message | None = None
        body = b""

        async def sent(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _send_page(start, body, send, sidebar=_has_sidebar(scope))

        await self.app({**scope, "headers": plain}, receive, sent)


def _is_page(message: Message) -> bool:
    return message["status"] == 200 and Headers(raw=message["headers"]).get("content-type", "").startswith("text/html")


def _has_sidebar(scope: Scope) -> bool:
    """Whether the page that is asked for has one: all but the shelf of lessons, and where a link hides what stands there."""
    query = QueryParams(scope.get("query_string", b""))
    if scope["path"].endswith("/lessons") and "lesson" not in query:
        return False
    hidden = query.get("hide", "")
    return not {"settings", "gallery"} <= set(hidden.split(","))


async def _send_page(start: Message, body: bytes, send: Send, sidebar: bool) -> None:
    if body:  # an answer to HEAD has none
        styles = STYLES + RESERVED + SIDEBAR_TO_COME * sidebar
        body = body.replace(b"</head>", f"<style>{styles}</style></head>".encode(), 1)
        headers = MutableHeaders(raw=start["headers"])
        headers["content-length"] = str(len(body))
        for name in ("etag", "last-modified"):  # they are the file's
            if name in headers:
                del headers[name]
    await send(start)
    await send({"type": "http.response.body", "body": body})
