"""The browser's share of the app's own components: what several of them use stands in drawing.js and keyboard.js."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.ui.components.files import publish

# Asks for the script; a later drawing waits behind an earlier one, as both wait for the same.
_LOADER = """
export default function (component) {
  const drawn = import(new globalThis.URL(ADDRESS, document.baseURI).href).then((script) => {
    script.furnish(component.parentElement);
    return script.default(component);
  });
  return () => drawn.then((undo) => undo?.());
}
"""
# A place that is drawn for the first time gets the component's html and css.
_FURNISH = """
const FURNISHED = new WeakSet();
export function furnish(place) {
  if (FURNISHED.has(place)) return;
  FURNISHED.add(place);
  place.innerHTML = MARKUP;
}
"""
_SHARED = tuple(Path(__file__).with_name(f"{name}.js") for name in ("drawing", "keyboard"))


def parts(folder: Path, name: str) -> dict[str, str]:
    """The html, css and js of a component in `folder`, files of this `name`; what all share is put before its own js."""
    own = {kind: (folder / f"{name}.{kind}").read_text("utf-8") for kind in ("html", "css", "js")}
    return own | {"js": "".join(path.read_text("utf-8") for path in _SHARED) + own["js"]}


class Component:
    """What draws a component made of these parts: `component(key=, data=, on_..._change=)`.

    Streamlit sends what a component is made of with each of its drawings. So all of it is a file that the browser fetches
    once, and what is sent is the line that asks for it.
    """

    def __init__(self, title: str, folder: Path, name: str):
        own = parts(folder, name)
        markup = json.dumps(f"<style>{own['css']}</style>{own['html']}")
        self._title, self._script = title, (own["js"] + _FURNISH.replace("MARKUP", markup)).encode()
        self._mount: tuple[str, Any] = ("", None)  # of the script at this address

    def __call__(self, **asked: Any) -> Any:
        url = publish(self._script, "text/javascript", f"{self._title}.js")
        if self._mount[0] != url:
            self._mount = url, st.components.v2.component(self._title, js=_LOADER.replace("ADDRESS", json.dumps(url)))
        return self._mount[1](**asked)
