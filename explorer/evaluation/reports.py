"""The reports' tables beside ours. Theirs stand in `published`, ours in the models' cards; nothing is measured for a table.

A cell of ours is a card's measure under exactly the conditions asked for (`report_tables`). Cells without one say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from explorer.core import Ball, InvalidValue
from explorer.core.ranks import ALONE, Ranks
from explorer.data import how_chosen, load
from explorer.evaluation.batch_attack import ShouldStop
from explorer.evaluation.boundary import BoundaryMeasure, boundary_measures
from explorer.evaluation.measure import Measure
from explorer.evaluation.report_tables import LINF, Ask, Row, norm_words, tables, wanted
from explorer.evaluation.robustness import BATCH, clean_accuracy
from explorer.evaluation.standard import StageProgress, attacked
from explorer.evaluation.tables import NOT_MEASURED
from explorer.models import zoo
from explorer.models.zoo import Card

FEW = 2000  # test images

Here = Callable[[Ask], Mapping[str, Any] | None]  # a measure of this computer's own, with the fields of a card's


def settings_measures(
    name: str,
    *,
    held: Card | None = None,
    device: torch.device | str = "cpu",
    n: int | None = 1000,
    seed: int = 0,
    data_seed: int = 0,
    source: str = "auto",
    batch: int = BATCH,
    precision: str = "float32",
    ranks: Ranks = ALONE,
    progress: StageProgress | None = None,
    should_stop: ShouldStop | None = None,
) -> Iterator[Measure | BoundaryMeasure]:
    """Measure exactly the cells that the reports' tables ask of `name`: clean on all test images, attacks on n of them.

    A stochastic model, whose clean accuracy takes many draws of each image, is measured clean on `FEW` of them. Cells that
    `held` has a measure for, on as many images or more, are left out. For Fashion-MNIST n None means all (it is cheap, and
    nothing is left out). Certified accuracies are `certify`'s. Raises InvalidValue where no table asks for anything, and
    what `standard_measures` raises.
    """
    about = zoo.card(name)
    shared: dict[str, Any] = {"batch": batch, "ranks": ranks, "should_stop": should_stop}
    if about.dataset == "fashion_mnist":
        yield from boundary_measures(
            name, device=device, n=n, seed=seed, data_seed=data_seed, source=source, progress=progress, **shared
        )
        return
    asks = wanted(name)
    if not asks:
        raise InvalidValue(f"no report's table asks for an accuracy of {name} under attack or without.")
    model = zoo.load(name, device)
    for ask in asks:
        size = n if ask.kind != "clean" else FEW if model.stochastic else None
        images = load(about.dataset, "test", size, data_seed, source)
        if held is not None and (kept := ask.find({name: held})) is not None and kept["n"] >= len(images):
            continue
        told = shared | {"seed": seed, "chosen": how_chosen(len(images), size, data_seed)}
        told["progress"] = None if progress is None else partial(progress, _asked(ask))
        if ask.kind == "clean":
            yield clean_accuracy(model, images, **told)
        else:
            ball = Ball(ask.where["norm"], ask.where["eps"])
            yield attacked(model, ask.attacks, ball, images=images, precision=precision, **told)


def _asked(ask: Ask) -> str:
    return f"{'+'.join(key for key, _ in ask.attacks) or ask.kind}{_ball(ask.where)}"


def result(cards: Sequence[Card], here: Here | None = None) -> list[dict[str, Any]]:
    """Every table as plain values: what was published, and each of our cells with its conditions (None: not measured).

    `here`: what was measured of a cell on this computer without being put into a card; it goes before the card's measure, is
    marked by `here`, and `card` is the card's number beside it (None: it has none).
    """
    by_name = {card.name: card for card in cards}
    return [
        {
            "key": table.key,
            "title": table.title,
            "source": table.source.name,
            "what": table.source.what,
            "conditions": table.source.conditions,
            "url": table.source.url,
            "notes": list(table.notes),
            "rows": [
                {
                    "what": row.what,
                    "published": row.theirs,
                    "fair": row.fair,
                    "ours": [_newest(ask, row, ask.find(by_name), here and here(ask)) for ask in row.asks],
                }
                for row in table.rows
            ],
        }
        for table in tables()
    ]


def _newest(ask: Ask, row: Row, card: Mapping[str, Any] | None, here: Mapping[str, Any] | None) -> dict[str, Any]:
    if here is None:
        return _cell(ask, row, card)
    return _cell(ask, row, here) | {"here": True, "card": None if card is None else _number(ask, card)[0]}


def _cell(ask: Ask, row: Row, m: Mapping[str, Any] | None) -> dict[str, Any]:
    if m is None:
        return {"model": ask.model, "asked": _asked(ask), "value": None}
    value, low, high = _number(ask, m)
    return {
        "model": ask.model,
        "value": value,
        "low": low,
        "high": high,
        "n": m["n"],
        "how": _how(m),
        "stands": _stands(row, value, low, high),
        "measure": dict(m),
    }


def _number(ask: Ask, m: Mapping[str, Any]) -> tuple[float, float, float]:
    """In the unit of the table: percent, but for rho_2 and AUC."""
    if ask.kind == "class AUC":
        return tuple(m["classes"][ask.part])
    if ask.kind == "predict":
        return tuple(100 * m["outcomes"][ask.part][name] for name in ("share", "low", "high"))
    if m["kind"] == "rho_2":
        return m["value"], m["low"], m["high"]
    return tuple(100 * m[name] for name in ("accuracy", "low", "high"))


def _stands(row: Row, value: float, low: float, high: float) -> str:
    """How ours stands beside the published number: beyond the 95 % interval of ours, or within it."""
    if not row.theirs or not row.fair:
        return ""
    theirs = float(row.theirs)
    return "above" if low > theirs else "below" if high < theirs else "within the interval"


def _how(m: Mapping[str, Any]) -> str:
    """ "pgd, 50 steps, 3 restarts, L∞ 0.01; majority of 20 fresh draws"."""
    if m["kind"] == "certified":
        return f"n0 {m['n0']}, {m['draws']:,} draws, alpha {m['alpha']:g}"
    if m["kind"] == "predict":
        return f"{m['draws']:,} draws, alpha {m['alpha']:g}"
    parts = [m["attack"]] if m.get("attack") else []
    hyper = m.get("hyper") or {}
    parts += [f"{hyper[name]} {name}" for name in ("steps", "target_classes", "restarts") if hyper.get(name, 1) != 1]
    if (m.get("draws") or 1) > 1:
        parts.append(f"{m['draws']} draws a step")
    text = ", ".join(parts).replace("_", " ") + _ball(m)
    more = [text] if text else ["no attack"]
    if m.get("source_model"):
        more.append(f"made on {m['source_model']}")
    if m.get("variant"):
        more.append(m["variant"])
    if m["verdict_draws"] > 1:
        more.append(f"majority of {m['verdict_draws']} fresh draws")
    if "not adaptive" in m.get("note", ""):
        more.append("not adaptive")
    return "; ".join(more)


def _ball(where: Mapping[str, Any]) -> str:
    eps, norm = where.get("eps"), where.get("norm")
    if eps is None or norm is None:
        return ""
    return f", {norm_words(norm)} " + (f"{255 * eps:g}/255" if norm == "linf" and eps == LINF else f"{eps:.4g}")


PAGE = """\
# The reports' tables beside ours

Made by `python -m explorer evaluate --reports --markdown` from the models' cards; nothing here is typed in. Accuracies
are in percent, with Wilson's 95 % interval of the n test images. It covers the choice of the images, not what a
stronger attack would find. *Ours stands* above or below where the published number lies outside of that interval; it
stays empty where the published number cannot be what it is called or was measured otherwise, which the note above the
table explains. Other networks, training and images: the tables stand side by side, they are no duel. `python -m
explorer evaluate MODEL --reports-settings --write` measures what is still missing of a model; certified accuracies are
made by `python -m explorer certify MODEL --write`.

Random networks are judged by the majority of fresh draws. *Not adaptive* means that the attack saw one draw in each
step and so followed a gradient that the next draw no longer has: the number flatters the network, and the line below
it, averaged over many draws, is the one to believe. [How random networks are attacked](stochastic.md) tells more."""
HEAD = ("", "Published", "Ours", "95 % interval", "n", "Model", "How ours was measured", "Ours stands")


def markdown(found: Sequence[Mapping[str, Any]]) -> str:
    """The tables of `result` as a page, one line a cell of ours."""
    page = [PAGE, ""]
    for table in found:
        link = f" <{table['url']}>" if table["url"] else ""
        page += [f"## {table['title']}", "", f"{table['what']}.{link} {table['conditions']}", ""]
        page += [line for note in table["notes"] for line in (note, "")]
        page += [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
        page += [f"| {' | '.join(cells)} |" for row in table["rows"] for cells in lines(row)]
        page.append("")
    return "\n".join(page)


def lines(row: Mapping[str, Any]) -> Iterator[list[str]]:
    theirs = row["published"] or "–"
    if not row["ours"]:
        yield [row["what"], theirs, NOT_MEASURED, "", "", "", "", ""]
    for index, cell in enumerate(row["ours"]):
        first = [row["what"], theirs] if index == 0 else ["", ""]
        model = f"`{cell['model']}`"
        if cell["value"] is None:
            yield [*first, NOT_MEASURED, "", "", model, "", ""]
            continue
        digits = 1 if cell["measure"]["kind"] not in ("rho_2", "class AUC") else 4
        value, low, high = (f"{cell[name]:.{digits}f}" for name in ("value", "low", "high"))
        yield [*first, value, f"{low} to {high}", f"{cell['n']:,}", model, cell["how"], cell["stands"]]
