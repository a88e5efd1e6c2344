"""What the documentation's build adds: the registered attacks, and what this house's docstrings and comments mean."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

import griffe

from explorer.attacks import ATTACKS, GROUPS
from explorer.core import Attack, Entry, Param

PLACE = "<!-- attacks -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs calls this with each page's text: the registry's attacks stand where the page says so."""
    return markdown.replace(PLACE, attacks()) if PLACE in markdown else markdown


def attacks() -> str:
    """Every registered attack in Markdown, by group: what it is, its docstring, its hyper-parameters."""
    parts = []
    for group in GROUPS:
        parts.append(f"## {group[0].upper()}{group[1:]}\n")
        parts += [_attack(entry) for entry in ATTACKS if entry.group == group]
    return "\n".join(parts)


def _attack(entry: Entry[Attack]) -> str:
    cls = entry.cls
    facts = f"`{entry.key}`, {entry.paper}; in {', '.join(cls.threats)}"
    facts += "; looks for the smallest change" if cls.budget == "minimal" else ""
    text = f"### {entry.title}\n\n{facts}.\n\n{entry.summary}\n\n::: {cls.__module__}.{cls.__qualname__}\n"
    text += "    options: {show_root_heading: false, show_root_toc_entry: false, show_bases: false, members: []}\n"
    rows = [f"| `{p.name}` | {p.help.replace('|', '/')} | `{p.default}` | {_range(p)} |\n" for p in cls.params()]
    return text + ("\n| | | Default | Range |\n| --- | --- | --- | --- |\n" + "".join(rows) if rows else "")


def _range(p: Param) -> str:
    if p.choices:
        return ", ".join(p.choices)
    return "" if p.lo is None else f"{p.lo:g} to {p.hi:g} {p.unit}".strip()


class House(griffe.Extension):
    """The comment behind a field is its description (`x: Tensor  # (N,C,H,W) in [0,1]`); docstrings become Markdown."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        found = re.search(r"\S  # (.+)$", attr.source)
        if attr.docstring is None and found and not found[1].startswith(("type:", "noqa")):
            attr.docstring = griffe.Docstring(found[1].strip(), lineno=attr.lineno, parent=attr)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if not isinstance(obj, griffe.Class):
            _to_markdown(obj, obj.parameters if isinstance(obj, griffe.Function) else ())

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        _to_markdown(cls, cls.parameters)  # its __init__ is known by now


def _to_markdown(obj: griffe.Object, parameters: Iterable[griffe.Parameter]) -> None:
    if obj.docstring is not None:
        names = [p.name for p in parameters]
        obj.docstring.value = "\n\n".join(_paragraph(part, names) for part in obj.docstring.value.split("\n\n"))


def _paragraph(text: str, names: list[str]) -> str:
    """ "differs:" begins a paragraph, a line about a parameter an item of a list; an example is one."""
    if text.startswith(">>> "):
        return "Examples:\n" + textwrap.indent(text, "    ")
    text = re.sub(r"^differs:", "\n*Differs:*", text, flags=re.MULTILINE)
    if not names:
        return text
    return re.sub(rf"^`?({'|'.join(names)})`?: ", r"\n- `\1`: ", text, flags=re.MULTILINE)
