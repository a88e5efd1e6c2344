"""A walk as one HTML file: the trace player with everything in it, which plays from a disk, without any server."""

from __future__ import annotations

import base64
import html
import string
from collections.abc import Sequence
from pathlib import Path

from explorer.core.trace import FeaturePath, Trace
from explorer.ui.components import drawing
from explorer.ui.components.trace_player.packing import pack

# What Streamlit says of its page's theme, for a page of our own.
_LIGHT = {
    "background": "#ffffff", "text": "#1d2433", "primary": "#3557a5", "orange-text": "#a15c07", "orange-background": "#fdf0df",
    "blue-text": "#2b4c9b", "blue-background": "#e8eefb", "gray-background": "#f2f4f8",
}  # fmt: skip
_DARK = {
    "background": "#0e1117", "text": "#e7eaf0", "primary": "#6f93e6", "orange-text": "#f0b060", "orange-background": "#3a2a12",
    "blue-text": "#9db8f5", "blue-background": "#1a2540", "gray-background": "#1b212c",
}  # fmt: skip

_PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; connect-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>
:root { color-scheme: light dark; $light --st-font: system-ui, sans-serif; }
@media (prefers-color-scheme: dark) { :root { $dark } }
body {
  margin: 0 auto; padding: 1.5rem; max-width: 1400px; font: 16px system-ui, sans-serif;
  background: var(--st-background-color); color: var(--st-text-color);
}
h1 { position: absolute; clip-path: inset(50%); }
footer { margin-top: 1.5rem; font-size: 0.85rem; opacity: 0.8; }
$css
</style>
</head>
<body>
<h1>$title</h1>
<main>$player</main>
<footer>$footer</footer>
<script type="module">
$script
const bytes = Uint8Array.from(atob("$message"), (c) => c.charCodeAt(0));
show({ data: bytes, parentElement: document.querySelector("main") });
</script>
</body>
</html>
""")


def standalone(
    trace: Trace,
    feature_path: FeaturePath | None,
    captions: Sequence[str],
    *,
    title: str,
    footer: str = "",
    remark: tuple[int, str] | None = None,
) -> str:
    """The page. `footer`: conditions in plain words. It asks for nothing from anywhere, and a policy in it says so.

    Raises InvalidValue as `pack` does.
    """
    message = pack(trace, feature_path, captions, remark=remark, title=title)
    own = drawing.parts(Path(__file__).parent, "player")
    return _PAGE.substitute(
        title=html.escape(title),
        footer=html.escape(footer),
        css=own["css"],
        player=own["html"],
        script=own["js"].replace("export default", "const show ="),
        message=base64.b64encode(message).decode(),
        light=_colors(_LIGHT),
        dark=_colors(_DARK),
    )


def _colors(named: dict[str, str]) -> str:
    names = {"background": "background-color", "text": "text-color", "primary": "primary-color"}
    full = {names.get(name, f"{name}-color"): color for name, color in named.items()}
    return " ".join(f"--st-{name}: {color};" for name, color in full.items())
