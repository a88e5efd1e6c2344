"""Tournament: one board of many networks on one set of pictures, with intervals and McNemar's paired test against a baseline.

Which pictures, nobody can know before all entries are in: the seed is the hash of all entries and of a word said in class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.core import USUAL_EPS, Ball, InvalidValue, wilson
from explorer.core.statistics import holm, mcnemar
from explorer.evaluation.masking import CHECKS

PGD = {"steps": 50, "rel_step": 0.1}
DRAWN = {"steps": 20, "rel_step": 0.125, "draws": 20}
LINF, L2 = (Ball(norm, USUAL_EPS[norm]) for norm in ("linf", "l2"))


@dataclass(frozen=True)
class Test:
    """One column. A random network's attack averages over draws, a fixed one's needs none."""

    title: str
    ball: Ball | None = None  # None: nothing is attacked
    fixed: tuple[str, Mapping[str, Any]] = ("pgd", PGD)
    random: tuple[str, Mapping[str, Any]] = ("pgd", DRAWN)
    train: bool = False  # on training images, as the course's platform did

    def attack(self, stochastic: bool) -> tuple[str, Mapping[str, Any]]:
        return self.random if stochastic else self.fixed


TESTS = {
    "natural": Test("natural"),
    "linf": Test("PGD-50, L∞ 8/255", LINF, random=("pgd", PGD)),
    "l2": Test("PGD-50, L2 0.5", L2, random=("pgd", PGD)),
    "adaptive": Test("adaptive, L∞ 8/255", LINF, fixed=("apgd-ce", {"steps": 50})),
    "platform": Test("natural, on training images", train=True),
    "platform-linf": Test("PGD-50, L∞ 8/255, on training images", LINF, random=("pgd", PGD), train=True),
}
CLASS, MASKING = "class", "masking"  # what else a tournament asks: an attack of the class; gradient masking
AGAINST = ("natural", "linf", "adaptive")  # in the same ball as the class's attacks
TOGETHER = "all of these"
TITLES = {check.key: check.title for check in CHECKS}
RANKED = ("adaptive", "linf", "l2", "natural")  # what decides about places, in this order


def seed_of(identities: Iterable[str], word: str) -> int:
    """The seed of the pictures: sha256 over all entries' hashes, sorted, and the word. Raises InvalidValue without a word."""
    word = " ".join(word.split()).lower()
    if not word or len(word) > 100:
        raise InvalidValue("a tournament needs a word of at most 100 letters, said in class once all entries are in.")
    text = "\n".join([*sorted(identities), word])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


@dataclass(frozen=True)
class Share:
    """Pictures that stay right, of n, with the 95 % Wilson interval; `p`: McNemar's exact test against the baseline, two-sided,
    adjusted by Holm over all entries of the column."""

    right: int
    n: int
    p: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.n)


@dataclass(frozen=True)
class Entry:
    """One line of the board: a share for each test that has been measured; `refused`: why it was not measured to the end."""

    model: str
    shares: Mapping[str, Share] = field(default_factory=dict)
    refused: str = ""


def board(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[Entry]:
    """The board of a tournament's rows (`jobs/tournament.py`): the best first, and the refused ones at the end.

    Only pictures that both have been measured on are paired, so that a board under way is right, too.
    """
    bits: dict[str, dict[str, str]] = {}
    refused: dict[str, str] = {}
    for row in rows:
        if row["conditions"]["test"] not in TESTS:
            continue  # of the matrix
        model = row["conditions"]["model"]
        bits.setdefault(model, {})[row["conditions"]["test"]] = row["each"]
        if row["refused"]:
            refused.setdefault(model, row["refused"])
    p = {test: _against(bits, test, baseline) for test in TESTS}
    entries = []
    for model, found in bits.items():
        shares = {test: _share(found[test], p[test].get(model)) for test in TESTS if _n(found.get(test, ""))}
        entries.append(Entry(model, shares, refused.get(model, "")))
    return sorted(entries, key=_place)


@dataclass(frozen=True)
class Matrix:
    """Attacks (rows) against networks: pictures that stay right, the project's own attacks first, then the class's."""

    attacks: tuple[str, ...]
    models: tuple[str, ...]
    shares: Mapping[tuple[str, str], Share]  # by attack and model; absent: not measured
    refused: Mapping[tuple[str, str], str]  # why an attack could not be run to its end on a model
    outside: Mapping[tuple[str, str], int]  # pictures that left the ball or [0,1], which fool nobody
    flags: Mapping[
        str, tuple[int, tuple[str, ...]]
    ]  # by model that could be asked: how many checks, titles of those raised


def matrix(rows: Sequence[Mapping[str, Any]]) -> Matrix:
    """Of a tournament's rows; the last line, `TOGETHER`, counts a picture that stays right under all of the others.

    An attack fools at most whom it fools: a high share under the class's attacks is no robustness.
    """
    bits: dict[tuple[str, str], str] = {}
    refused: dict[tuple[str, str], str] = {}
    outside: dict[tuple[str, str], int] = {}
    flags: dict[str, tuple[int, tuple[str, ...]]] = {}
    for row in rows:
        about, model = row["conditions"], row["conditions"]["model"]
        if about["test"] == MASKING:
            asked = [one for one in row["checks"] if one["raised"] is not None]
            raised = tuple(TITLES[one["check"]] for one in asked if one["raised"])
            flags |= {model: (len(asked), raised)} if asked else {}
        elif about["test"] in AGAINST or about["test"] == CLASS:
            place = about["attack"] if about["test"] == CLASS else TESTS[about["test"]].title, model
            bits[place] = row["each"]
            refused |= {place: row["refused"]} if row["refused"] else {}
            outside |= {place: row["outside"]} if row.get("outside") else {}
    names, models = (list(dict.fromkeys(place[k] for place in bits)) for k in (0, 1))
    for model in models:
        whole = [bits[name, model] for name in names if _n(bits.get((name, model), ""))]
        if len(whole) > 1:
            bits[TOGETHER, model] = "".join(map(_worst, zip(*whole, strict=False)))
    shares = {place: _share(each, None) for place, each in bits.items() if _n(each)}
    return Matrix((*names, TOGETHER), tuple(models), shares, refused, outside, flags)


def _worst(each: tuple[str, ...]) -> str:
    """Of one picture under several attacks: "." where one is missing."""
    return "." if "." in each else min(each)


def _n(each: str) -> int:
    return each.count("0") + each.count("1")


def _share(each: str, p: float | None) -> Share:
    return Share(each.count("1"), _n(each), p)


def _against(bits: Mapping[str, Mapping[str, str]], test: str, baseline: str) -> dict[str, float]:
    """By model: the adjusted p-value of this test's pairs."""
    own = bits.get(baseline, {}).get(test, "")
    names = [model for model, found in bits.items() if model != baseline and _n(own) and _n(found.get(test, ""))]
    raw = []
    for model in names:
        pairs = list(zip(bits[model][test], own, strict=False))
        raw.append(mcnemar(pairs.count(("1", "0")), pairs.count(("0", "1"))))
    return dict(zip(names, holm(raw), strict=True))


def _place(entry: Entry) -> tuple[Any, ...]:
    shares = [entry.shares.get(test) for test in RANKED]
    return bool(entry.refused), *(-(one.right / one.n) if one else 1.0 for one in shares), entry.model
