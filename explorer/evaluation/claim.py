"""A claim: what a card says of a model, for others to check, as JSON like RobustBench's, a row of LaTeX and one of Markdown.

It names the sha256 of weights, code and images as far as the card has them; nothing is measured for it.
RobustBench's fields (`clean_acc`, `autoattack_acc`, `eps`, ...; Croce et al., arXiv:2010.09670) are filled only with what was
measured: no AutoAttack, no `autoattack_acc`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from explorer.core import InvalidValue
from explorer.evaluation.standing import COLUMNS, lowest_measure
from explorer.evaluation.tables import what
from explorer.models import zoo
from explorer.models.zoo import Card

FORMATS = ("json", "latex", "markdown")
HEAD = (
    "Model",
    "Data",
    "Architecture",
    "Clean",
    "Linf 8/255",
    "L2 0.5",
    "Certified, L2 0.5",
    "Weights",
    "Code",
    "Images",
)
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\^{}",
}
SHORT = 12  # digits of a hash in a row
UNKNOWN = "not recorded"
LARGEST = 2**24  # bytes of a claim


def best(card: Card) -> dict[str, Mapping[str, Any] | None]:
    """The lowest measure of each of the standing's columns: clean, linf, l2, certified; None where nothing was measured."""
    return {column: lowest_measure(card, fits) for column, fits in COLUMNS.items()}


def claim(card: Card) -> dict[str, Any]:
    """The whole claim, as plain values: RobustBench's fields, the hashes, and every measure with its conditions."""
    found = best(card)
    attack = [m for m in card.measures if m["attack"] == "autoattack" and COLUMNS["linf"](m)]
    linf = found["linf"]
    return {
        "claim": 1,
        "model": card.name,
        "name": card.title,
        "dataset": card.dataset,
        "architecture": card.architecture,
        "parameters": card.parameters,
        "eps": "8/255" if linf else None,
        "clean_acc": _percent(found["clean"]),
        "autoattack_acc": _percent(min(attack, key=lambda m: m["accuracy"], default=None)),
        "lowest_linf_acc": _percent(linf),
        "lowest_linf_by": None if linf is None else what(linf),
        "number_forward_passes": None if found["clean"] is None else found["clean"]["verdict_draws"],
        "weights_sha256": card.sha256,
        "identity_sha256": card.identity,
        "code": sorted({m["code"] for m in card.measures if m.get("code")}),
        "rows_sha256": sorted({m["rows"] for m in card.measures if m.get("rows")}),
        "measures": card.measures,
        "footnote": "An accuracy under attack is an upper bound: a stronger attack may leave less.",
        "check": "python -m explorer verify FILE --sample 200",
    }


def row(card: Card, form: str) -> str:
    """One row of a table, "latex" (with a comment that names the columns) or "markdown" (with its head). Raises InvalidValue."""
    if form not in FORMATS[1:]:
        raise InvalidValue(f"a row is latex or markdown; got {form!r}.")
    cells = _cells(card)
    if form == "markdown":
        return "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, ["---"] * len(HEAD), cells))
    return f"% {' & '.join(HEAD)}\n{' & '.join(map(_escaped, cells))} \\\\"


def text(card: Card, form: str) -> str:
    """The claim in one of FORMATS, ending in a newline. Raises InvalidValue."""
    told = json.dumps(claim(card), indent=1, ensure_ascii=False) if form == "json" else row(card, form)
    return f"{told}\n"


def read(path: Path) -> Card:
    """The card of the model that a claim is about, with the claim's measures in place of its own. Raises InvalidValue where the
    file is no claim, or of other weights or code; UnknownName where the model is not here.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        told = json.loads(path.read_text("utf-8"))
        name, identity, measures = str(told["model"]), str(told["identity_sha256"]), list(told["measures"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidValue(f"{path} is no claim: `python -m explorer models claim NAME` writes one.") from error
    card = zoo.card(name)
    if card.identity != identity:
        raise InvalidValue(
            f"The claim is about other weights or code than {name} has here: {identity[:SHORT]} there, "
            f"{card.identity[:SHORT]} here."
        )
    return replace(card, measures=measures)


def _cells(card: Card) -> list[str]:
    found = best(card)
    told = [_interval(m) for m in found.values()]
    measures = [m for m in found.values() if m is not None]
    code = {hash[1] for m in measures if (hash := re.search(r"code (\w+)", m.get("code", "")))}
    rows = {m["rows"] for m in measures if m.get("rows")}
    hashes = [", ".join(sorted(one[:SHORT] for one in group)) or UNKNOWN for group in ({card.identity}, code, rows)]
    return [card.title, card.dataset, card.architecture, *told, *hashes]


def _percent(m: Mapping[str, Any] | None) -> str | None:
    return None if m is None else f"{100 * m['accuracy']:.2f}"


def _interval(m: Mapping[str, Any] | None) -> str:
    if m is None:
        return "not measured"
    return f"{100 * m['accuracy']:.1f} [{100 * m['low']:.1f}, {100 * m['high']:.1f}], n={m['n']}"


def _escaped(cell: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in cell)
