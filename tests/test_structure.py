"""How the rooms stand to each other: a room's private names are its own. (Order and circles are import-linter's.)"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted([ROOT / "app.py", *ROOT.glob("pages/*.py"), *ROOT.glob("explorer/**/*.py")])


def borrowed(module: str, source: str) -> set[str]:
    """Private modules, functions and attributes of other rooms that the module with this dotted name uses."""
    room = ".".join(module.split(".")[:2])
    tree = ast.parse(source)
    imported: dict[str, str] = {}  # the name here: what it names
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            imported |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            imported |= {name.asname or name.name: name.name for name in node.names}
    used = {
        f"{imported[node.value.id]}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    return {name for name in used | {*imported.values()} if _is_private(name) and not f"{name}.".startswith(f"{room}.")}


def _is_private(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "explorer" and any(part.startswith("_") and not part.startswith("__") for part in parts)


def test_no_room_uses_anothers_private_names():
    found = {}
    for file in CODE:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if names := borrowed(module, file.read_text("utf-8")):
            found[module] = sorted(names)
    assert len(CODE) > 200 and found == {}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from explorer.attacks._climb import climb", "explorer.attacks._climb.climb"),
        ("from explorer.attacks import _climb", "explorer.attacks._climb"),
        ("import explorer.attacks._climb as loop", "explorer.attacks._climb"),
        ("from explorer.models import zoo\nzoo._read_card('x')", "explorer.models.zoo._read_card"),
        ("def f():\n    from explorer.models.zoo import _read_card", "explorer.models.zoo._read_card"),
    ],
)
def test_a_planted_use_of_a_private_name_is_found(line, name):
    assert borrowed("explorer.ui.x", line) == {name}
    assert borrowed(f"{'.'.join(name.split('.')[:2])}.x", line) == set()  # at home
