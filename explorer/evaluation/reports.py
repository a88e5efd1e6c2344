"""The reports' tables beside ours. Theirs stand in `published`, ours in the models' cards; nothing is measured for a table.

A cell of ours is a card's measure under exactly the conditions asked for. Cells without one say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch

from explorer.core import USUAL_EPS, Ball, InvalidValue
from explorer.core.ranks import ALONE, Ranks
from explorer.data import dataset, load
from explorer.evaluation import published
from explorer.evaluation.boundary import SHARES, VANILLA, BoundaryMeasure, boundary_measures
from explorer.evaluation.measure import Measure
from explorer.evaluation.published import RADII, SIGMAS, Source
from explorer.evaluation.robustness import BATCH, ShouldStop, clean_accuracy
from explorer.evaluation.standard import DRAWN, IN_TURN, PGD, StageProgress, attacked
from explorer.evaluation.tables import NOT_MEASURED
from explorer.models import zoo
from explorer.models.zoo import Card

LINF, L2 = USUAL_EPS["linf"], USUAL_EPS["l2"]
FEW = 2000  # test images
Attacks = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Ask:
    """Which measure of which card a cell is."""

    model: str
    kind: str = "clean"
    attacks: Attacks = ()
    where: Mapping[str, Any] = field(default_factory=dict)  # further conditions: norm, eps, sigma, eps_share, variant
    part: int | str | None = None  # of the measure: a class of "class AUC", an outcome of "predict"

    def fits(self, measure: Mapping[str, Any]) -> bool:
        if measure["kind"] != self.kind or measure.get("variant") != self.where.get("variant"):
            return False
        if any(measure.get(name) != value for name, value in self.where.items()):
            return False
        if not self.attacks:
            return True
        hyper = {name: value for _, given in self.attacks for name, value in given.items()}
        named = measure["attack"] == "+".join(key for key, _ in self.attacks)
        return named and all(measure["hyper"].get(name) == value for name, value in hyper.items())

    def find(self, cards: Mapping[str, Card]) -> Mapping[str, Any] | None:
        """Of several that fit, the one of most images, then of most draws."""
        card = cards.get(self.model)
        fitting = [m for m in card.measures if self.fits(m)] if card else []
        return max(fitting, key=lambda m: (m["n"], m.get("draws") or 0), default=None)


@dataclass(frozen=True)
class Row:
    """One published number, or several of ours without one."""

    what: str
    theirs: str  # as printed; "": none
    asks: tuple[Ask, ...]
    fair: bool = True  # whether the number can be what it is called, so that ours may be held against it


@dataclass(frozen=True)
class Table:
    key: str
    title: str
    source: Source
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def clean(model: str) -> Ask:
    return Ask(model, where={"verdict_draws": 20} if model in RANDOM else {})


def fgsm(model: str, eps: float, draws: int = 1) -> Ask:
    return _under(model, (("fgsm", {"draws": draws}),), "linf", eps, draws)


def pgd(model: str, norm: str, eps: float, draws: int = 1) -> Ask:
    """PGD-50 with 3 restarts; over draws PGD-20."""
    return _under(model, (("pgd", PGD if draws == 1 else DRAWN),), norm, eps, draws)


def in_turn(model: str) -> Ask:
    return _under(model, IN_TURN[1], "linf", LINF, 1)


def _under(model: str, attacks: Attacks, norm: str, eps: float, draws: int) -> Ask:
    return Ask(
        model, "white-box" if draws == 1 else "adaptive", attacks, {"norm": norm, "eps": eps, "source_model": None}
    )


RANDOM = ("cifar10/lwta", "cifar10/rat", "cifar10/lenet-rat")  # attacked naively and over draws


def both_ways(model: str, norm: str, eps: float) -> tuple[Ask, ...]:
    """Naively, and for a random model also over 20 draws."""
    return tuple(pgd(model, norm, eps, draws) for draws in ((1, 20) if model in RANDOM else (1,)))


def tables() -> tuple[Table, ...]:
    """All of them, in the order of the reports."""
    return (*_slides(), *_certified(), _lwta(), *_lenet(), *_fashion(), *_networks())


def _slides() -> Iterator[Table]:
    nets = {
        "none": ("baseline-dropout", "baseline"),
        "FGSM": ("fgsm-0.01", "fgsm", "nfgsm"),
        "PGD": ("pgd-linf", "pgd-l2"),
    }
    ours = {training: [f"cifar10/{net}" for net in names] for training, names in nets.items()}
    rows = [Row("No attack, no defence", published.SLIDES_CLEAN, tuple(map(clean, ours["none"])))]
    for (attack, training), numbers in published.SLIDES_TABLE.items():
        for eps, number in zip(published.SLIDES_EPS, numbers, strict=True):
            asks = tuple(fgsm(net, eps) if attack == "FGSM" else pgd(net, "linf", eps) for net in ours[training])
            defence = "no defence" if training == "none" else f"trained on {training} images"
            rows.append(Row(f"{attack}, L∞ {eps:g}, {defence}", number, asks, fair=attack == "FGSM"))
    yield Table(
        "slides",
        "FGSM and PGD, without and with adversarial training",
        published.SLIDES,
        tuple(rows),
        (published.SLIDES_NOTE,),
    )


def _certified() -> Iterator[Table]:
    wide = {0.25: "gaussian-0.25-wide", 0.5: "gaussian-0.5", 1.0: "gaussian-1.0"}  # trained under noise alone
    noisy = [
        Row(
            f"Test accuracy under noise, σ {sigma:g}",
            f"{100 * test:.1f}",
            (Ask(f"cifar10/{wide[sigma]}", "noisy", where={"sigma": sigma}), *_smoothed(sigma, "noisy")),
        )
        for sigma, (_, test) in published.UNDER_NOISE.items()
    ]
    yield Table(
        "noise",
        "Accuracy of the network itself on noisy images",
        published.REPORT,
        tuple(noisy),
        (published.UNDER_NOISE_NOTE,),
    )
    for source in (published.REPORT, published.COHEN):
        rows = []
        for sigma in SIGMAS:
            for radius, share in zip(RADII, published.CERTIFIED[source.name][sigma], strict=True):
                if share > 0:
                    rows.append(
                        Row(_at(sigma, radius), f"{100 * share:.0f}", _smoothed(sigma, "certified", eps=radius))
                    )
        yield Table(f"certified-{source.name}", "Certified accuracy, L2", source, tuple(rows))
    rows = [
        Row(f"{method}: {_at(sigma, radius)}", number, _smoothed(sigma, "certified", eps=radius))
        for (method, sigma), numbers in published.CURVE_TABLE.items()
        for radius, number in zip((0.0, *RADII), numbers, strict=False)
    ]
    notes = ("ACR and certified accuracy reward easy images: look at the whole curve, not at one radius.",)
    yield Table(
        "curves", "Certified accuracy, L2: whole curves of other networks", published.CURVES, tuple(rows), notes
    )
    rows = []
    for draws, p in published.PREDICT.items():
        for outcome, share in asdict(p).items():
            asks = _smoothed(published.PREDICT_SIGMA, "predict", draws=draws, part=outcome)
            rows.append(Row(f"{draws:,} draws: {outcome.replace('_', ', ')}", f"{100 * share:.0f}", asks, fair=False))
    notes = (
        f"σ {published.PREDICT_SIGMA:g}; shares of the images. Accurate: the class that 100,000 draws give. How often it abstains "
        "says how decided the network is; to be above or below here is no merit by itself.",
    )
    yield Table("predict", "How sure PREDICT is", published.REPORT, tuple(rows), notes)


def _at(sigma: float, radius: float) -> str:
    return f"σ {sigma:g}, r = {radius:g}"


def _smoothed(sigma: float, kind: str, *, part: str | None = None, **where: Any) -> tuple[Ask, ...]:
    beside = sigma == 0.25 and kind != "predict"  # which takes an hour
    names = [f"cifar10/smoothed-{sigma}"] + ["cifar10/gaussian-0.25"] * beside
    return tuple(Ask(name, kind, where={"sigma": sigma, **where}, part=part) for name in names)


def _lwta() -> Table:
    name, rows = "cifar10/lwta", []
    for who, numbers in published.LWTA_TABLE.items():
        asks = (
            ("natural", (clean(name),)),
            ("FGSM, L∞ 8/255", (fgsm(name, LINF), fgsm(name, LINF, 20))),
            ("PGD, L∞ 8/255", both_ways(name, "linf", LINF)),
            ("PGD, L2 0.5", both_ways(name, "l2", L2)),
        )
        for (what, ours), number in zip(asks, numbers, strict=True):
            if number:
                rows.append(Row(f"{what}: {who}", number, ours, fair=what == "natural" and "platform" not in who))
    return Table(
        "lwta", "Stochastic local winner-takes-all networks", published.REPORT, tuple(rows), (published.LWTA_NOTE,)
    )


def _lenet() -> Iterator[Table]:
    groups = (
        ("mixed", "PGD training, and half of it with Carlini and Wagner's attack", published.LENET_MIXED,
         {"PGD": ("lenet-at", "pgd-linf"), "C&W and PGD": ("lenet-cw", "half-cw")}, ()),
        ("mat", "Adversarial training, randomised and against several norms", published.LENET_TABLE,
         {"AT": ("lenet-at", "pgd-linf"), "RAT": ("lenet-rat", "rat"),
          "MAT": ("lenet-mat-rand", "lenet-mat-max", "mat-rand", "mat-max")}, (published.LENET_NOTE,)),
    )  # fmt: skip
    for key, title, numbers, nets, notes in groups:
        rows = []
        for training, (natural, l2, linf) in numbers.items():
            names = [f"cifar10/{net}" for net in nets[training]]
            if natural:
                rows.append(Row(f"{training}: natural", natural, tuple(map(clean, names))))
            for norm, number in (("l2", l2), ("linf", linf)):
                eps = published.LENET_EPS[norm]
                asks = tuple(ask for name in names for ask in both_ways(name, norm, eps))
                rows.append(Row(f"{training}: PGD, {_norm(norm)} {eps:g}", number, asks))
        yield Table(key, title, published.LENET, tuple(rows), notes)


def _fashion() -> Iterator[Table]:
    rows, aucs, free = [], [], {"variant": "pixels may leave [0, 1]"}
    for net, (accuracy, rho, *attacked_numbers) in published.FASHION_TABLE.items():
        model = f"fashion_mnist/{net}"
        title = {"fashion-mlp": "Vanilla", "fashion-deepfool": "DeepFool images", "deep-defense": "Deep Defense"}[net]
        rows.append(Row(f"{title}: accuracy", accuracy, (clean(model),)))
        rows.append(Row(f"{title}: ρ₂", rho, (Ask(model, "rho_2", where=free), Ask(model, "rho_2"))))
        for share, number in zip(SHARES, attacked_numbers, strict=True):
            ask = Ask(model, "white-box", (("fgsm", {}),), {"eps_share": share})
            rows.append(
                Row(f"{title}: FGS, {share:g} eps of reference", number, (ask,), fair=False)
            )  # an eps each of its own
        where = free | {"source_model": None if model == VANILLA else VANILLA}
        names = dataset("fashion_mnist").classes
        for index, number in enumerate(published.FASHION_AUC[net]):
            kind = "white-box" if model == VANILLA else "transfer"
            aucs.append(
                Row(f"{title} ({kind}): {names[index]}", number, (Ask(model, "class AUC", where=where, part=index),))
            )
    yield Table(
        "deep-defense", "Deep Defense on Fashion-MNIST", published.FASHION, tuple(rows), (published.FASHION_NOTE,)
    )
    notes = (published.FASHION_AUC_NOTE,)
    yield Table("auc", "Area under each class's ROC curve on DeepFool images", published.FASHION, tuple(aucs), notes)


def _networks() -> Iterator[Table]:
    ours = dict(
        zip(published.LINF_NETS, ("pgd-linf", "nfgsm", "nfgsm", "free", "trades", "pgd-linf", "tla"), strict=True)
    )
    rows = []
    for net, (natural, walked, strongest) in published.LINF_NETS.items():
        model = f"cifar10/{ours[net]}"
        rows.append(Row(f"{net}: clean", natural, (clean(model),)))
        rows += [Row(f"{net}: PGD", walked, (pgd(model, "linf", LINF),))] * bool(walked)
        rows += [Row(f"{net}: AutoAttack", strongest, (in_turn(model),), fair=False)] * bool(strongest)
    note = (
        "Ours are narrower (each card says how wide) and trained for a small part of the time. Beside AutoAttack stands "
        "APGD-CE, followed by targeted APGD on what is left: the first two of its four attacks, so ours is not held against it."
    )
    yield Table("linf", "L∞ 8/255: published networks", published.ROBUSTBENCH, tuple(rows), (note,))
    rows = []
    for net, (natural, walked, strongest) in published.L2_NETS.items():
        rows.append(Row(f"{net}: clean", natural, (clean("cifar10/pgd-l2"),)))
        rows.append(Row(f"{net}: PGD", walked, (pgd("cifar10/pgd-l2", "l2", L2),)))
        rows += [Row(f"{net}: AutoAttack", strongest, ())] * bool(strongest)
    yield Table("l2", "L2 0.5: published networks", published.ROBUSTBENCH, tuple(rows))
    rows = []
    for net, (natural, linf, l2) in published.UNION_TABLE.items():
        models = {"PGD Linf": "pgd-linf", "PGD L2": "pgd-l2", "MAX": "mat-max", "AVG": "mat-rand"}
        names = [f"cifar10/{models[net]}"] if net in models else []
        rows.append(Row(f"{net}: clean", natural, tuple(map(clean, names))))
        for norm, number in (("linf", linf), ("l2", l2)):
            eps = published.LENET_EPS[norm]
            asks = tuple(pgd(name, norm, eps) for name in names)
            rows.append(Row(f"{net}: {_norm(norm)} {eps:g}", number, asks, fair=False))
    note = (
        "Theirs were attacked by several attacks with 10 restarts each, ours by PGD-50 with 3, which is weaker. Ours beside AVG "
        "is MAT-Rand, which draws the norm instead of averaging over both."
    )
    yield Table("union", "Several norms at once", published.UNION, tuple(rows), (note,))


def wanted(name: str) -> list[Ask]:
    """The accuracies that the tables ask of this model's card: clean, and under attacks."""
    asks = [ask for table in tables() for row in table.rows for ask in row.asks if ask.model == name]
    found: list[Ask] = []
    for ask in asks:
        if (ask.kind == "clean" or (ask.attacks and "eps" in ask.where)) and ask not in found:
            found.append(ask)
    return found


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
    bf16: bool = False,
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
    shared = {"batch": batch, "ranks": ranks, "should_stop": should_stop}
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
        drawn = f"{len(images):,}, evenly from all classes, drawn with seed {data_seed}"
        told = shared | {"seed": seed, "chosen": f"all {len(images):,}" if size is None else drawn}
        told["progress"] = None if progress is None else partial(progress, _asked(ask))
        if ask.kind == "clean":
            yield clean_accuracy(model, images, **told)
        else:
            ball = Ball(ask.where["norm"], ask.where["eps"])
            yield attacked(model, ask.attacks, ball, images=images, bf16=bf16, **told)


def _asked(ask: Ask) -> str:
    return f"{'+'.join(key for key, _ in ask.attacks) or ask.kind}{_ball(ask.where)}"


def result(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Every table as plain values: what was published, and each of our cells with its conditions (None: not measured)."""
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
                    "ours": [_cell(ask, row, ask.find(by_name)) for ask in row.asks],
                }
                for row in table.rows
            ],
        }
        for table in tables()
    ]


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
    return f", {_norm(norm)} " + (f"{255 * eps:g}/255" if norm == "linf" and eps == LINF else f"{eps:.4g}")


def _norm(norm: str) -> str:
    return {"linf": "L∞", "l2": "L2"}[norm]


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
