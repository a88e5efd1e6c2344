"""Repeat-a-paper sheets (reproduction): every cell of a report's tables and figures with its state, the reason and the command.

Cells of tables come from `reports`; what a report shows besides (figures, and tables without a counterpart) is listed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.data import dataset
from explorer.defenses import RECIPES
from explorer.evaluation import published, reports
from explorer.evaluation.boundary import VANILLA
from explorer.evaluation.published import Source
from explorer.evaluation.report_tables import Ask, tables
from explorer.evaluation.reports import Here
from explorer.evaluation.tables import headline_measure
from explorer.models.zoo import Card

SAME, OTHER, NOT_MEASURED, CANNOT_BE = "same", "other", "not measured", "cannot be"
STATES = (SAME, OTHER, NOT_MEASURED, CANNOT_BE)
ABSTRACTS = Source(
    "Page and abstracts on representations",
    "Mao et al.: Metric Learning for Adversarial Robustness (page), and abstracts of related papers",
    "Numbers of the abstracts alone.",
    "https://arxiv.org/abs/1909.00900",
)
MEASURE = "python -m explorer evaluate {model} --reports-settings --write"
CERTIFY = "python -m explorer certify {model} --write"
PREDICT = "python -m explorer certify {model} --predict --write"


@dataclass(frozen=True)
class Cell:
    """One number or figure of a paper beside ours."""

    paper: str
    table: str
    what: str
    published: str  # as printed; "": none
    ours: str  # with its 95 % interval; "": none
    n: int | None
    model: str
    state: str  # one of STATES
    reason: str
    command: str = ""  # what measures it, or the page that draws it
    link: tuple[str, str] = ("", "")  # the page that draws ours, and its parameters
    ask: Ask | None = field(default=None, compare=False)  # which measure of a card it is, of a table's cell


def cells(cards: Sequence[Card], here: Here | None = None) -> list[Cell]:
    """All of them, paper by paper; `here` as of `reports.result`."""
    asks = [[row.asks for row in table.rows] for table in tables()]
    found = [
        cell for table, own in zip(reports.result(cards, here), asks, strict=True) for cell in _of_table(table, own)
    ]
    known = {card.name: card for card in cards}
    found += [*_figures(known), _spectral(known), *_abstracts(known)]
    order = list(dict.fromkeys(cell.paper for cell in found))
    return sorted(found, key=lambda cell: order.index(cell.paper))


def counts(found: Sequence[Cell]) -> dict[str, int]:
    """How many there are in each state."""
    seen = Counter(cell.state for cell in found)
    return {state: seen[state] for state in STATES}


def _of_table(table: Mapping[str, Any], asks: Sequence[Sequence[Ask]]) -> list[Cell]:
    found = []
    for row, own in zip(table["rows"], asks, strict=True):
        told = {"paper": table["what"], "table": table["title"], "what": row["what"], "published": row["published"]}
        if not row["ours"]:
            found.append(
                Cell(
                    **told,
                    ours="",
                    n=None,
                    model="",
                    state=CANNOT_BE,
                    reason="No model here was trained or attacked so.",
                )
            )
        found += [
            Cell(**told, **_ours(row, cell, table["key"], ask), ask=ask)
            for cell, ask in zip(row["ours"], own, strict=True)
        ]
    return found


def _ours(row: Mapping[str, Any], cell: Mapping[str, Any], key: str, ask: Ask) -> dict[str, Any]:
    template = PREDICT if key == "predict" else CERTIFY if key.startswith(("certified", "curves")) else MEASURE
    told = {"model": cell["model"], "command": template.format(model=cell["model"])}
    if ask.kind == "class AUC":
        told["link"] = _roc(ask.model, ask.where["source_model"])
    if cell["value"] is None:
        return told | {
            "ours": "",
            "n": None,
            "state": NOT_MEASURED,
            "reason": f"The card holds no such measure ({cell['asked']}).",
        }
    digits = 1 if cell["measure"]["kind"] not in ("rho_2", "class AUC") else 4
    value, low, high = (f"{cell[name]:.{digits}f}" for name in ("value", "low", "high"))
    told |= {"ours": f"{value} [{low}, {high}]", "n": cell["n"]}
    here = _here(cell, digits)
    if not row["published"]:
        return told | {"state": CANNOT_BE, "reason": f"The paper prints no number beside ours.{here}"}
    if not row["fair"]:
        return told | {
            "state": CANNOT_BE,
            "reason": "Measured otherwise, or not what it is called: the note of the table says why.",
        }
    how = f"{cell['how']}.{here}"
    if cell["stands"] == "within the interval":
        return told | {"state": SAME, "reason": f"The published number lies within our 95 % interval; {how}"}
    return told | {
        "state": OTHER,
        "reason": f"Ours stands {cell['stands']}; another network, training and images; {how}",
    }


def _here(cell: Mapping[str, Any], digits: int) -> str:
    """That a number was measured here and stands in no card; "": it is the card's."""
    if not cell.get("here"):
        return ""
    seed = cell["measure"]["seed"]
    drawn = f"seed {seed}" if seed >= 0 else "each picture's own seed"
    beside = "" if cell["card"] is None else f", which says {cell['card']:.{digits}f}"
    return f" Measured here, n {cell['n']:,}, {drawn}; not in the card{beside}."


def _item(
    source: Source, table: str, what: str, state: str, reason: str, command: str = "", printed: str = "", link: tuple[str, str] = ("", ""),
) -> Cell:  # fmt: skip
    return Cell(source.what, table, what, printed, "", None, "", state, reason, command, link)


_FASHION_CURVES = (  # around the eps of reference of the shipped networks, 0.062
    "data=fashion_mnist&models=fashion_mnist/fashion-mlp,fashion_mnist/fashion-deepfool,fashion_mnist/deep-defense&attacks=fgsm"
    "&norm=linf&eps=0,0.01,0.02,0.03,0.04,0.05,0.06,0.08,0.1&n=1000"
)


def _roc(model: str, source: str | None) -> tuple[str, str]:
    """The view that draws these curves, on all test images."""
    made_on = f"&source={source}" if source not in (None, model) else ""
    return "lab", f"view=roc&model={model}{made_on}&images={dataset('fashion_mnist').rows['test']}"


def _pretrained(cards: Mapping[str, Card]) -> Cell:
    """Figure 2's other half: from ImageNet's weights, beside the same network from random ones."""
    what, twins = "Figure 2: after pretraining on ImageNet", ("lite0-imagenet", "lite0-scratch")
    there = [card.name for card in cards.values() if card.recipe in twins]
    missing = [key for key in twins if key not in {cards[name].recipe for name in there}]
    if missing:
        reason = "The recipes are there (EfficientNet-Lite0, with and without the weights that come along), but not both were trained."
        return _item(published.REPORT, "Figures", what, NOT_MEASURED, reason, f"python -m explorer train {missing[0]}")
    reason = f"Its numbers can only be read off a curve; ours are the histories of {' and '.join(there)}, on another network."
    return _item(published.REPORT, "Figures", what, CANNOT_BE, reason, "Models: the two histories")


def _figures(cards: Mapping[str, Card]) -> list[Cell]:
    """Figures, and tables that no card can hold."""
    slides, report, lenet, fashion = published.SLIDES, published.REPORT, published.LENET, published.FASHION
    drawn, unread = (
        "It shows pictures, no numbers: the page named here draws ours.",
        "Its numbers can only be read off a curve.",
    )
    found = [
        _item(slides, "Figures", "PCA of the features, without and with a contrastive loss", CANNOT_BE, drawn,
              "Feature space: baseline, contrastive"),
        _item(slides, "Figures", "FGSM and PGD beside each other", CANNOT_BE, drawn, "Compare: one model, attacks FGSM and PGD"),
        _item(report, "Figures", "Figure 1: which unit of a block wins", CANNOT_BE, drawn, "Attack: LWTA, Look inside",
              link=("attack", "data=cifar10&model=cifar10/lwta&attack=pgd&norm=linf&eps=8/255")),
        _item(report, "Figures", "Figure 2: adversarial training, clean and robust accuracy over epochs", CANNOT_BE, unread,
              "Training: recipe pgd-linf"),
        _pretrained(cards),
        _item(report, "Figures", "Figure 3: certified accuracy over the radius", CANNOT_BE, unread, "Certify: Test set",
              link=("certify", "view=set")),
        _item(lenet, "Text", "Distillation is bypassed by Carlini and Wagner's attack", CANNOT_BE, "It is said without a number.",
              "Attack: C&W on the distilled network",
              link=("attack", "data=fashion_mnist&model=fashion_mnist/distilled&attack=cw&norm=l2")),
        _item(lenet, "Text", "M-DI2-FGSM carries over better", CANNOT_BE, "It is said without a number.", "Lab: Transfer",
              link=("lab", "view=transfer")),
        _item(fashion, "Figures", "Figure 3.5: accuracy over eps of the three networks", CANNOT_BE, unread,
              "Lab: accuracy over eps of fashion-mlp, fashion-deepfool and deep-defense, FGSM", link=("lab", _FASHION_CURVES)),
    ]  # fmt: skip
    for sigma, (train, _) in published.UNDER_NOISE.items():
        found.append(
            _item(report, "Accuracy of the network itself on noisy images", f"Training accuracy under noise, σ {sigma:g}", CANNOT_BE,
                  "Cards hold accuracies on test images alone.", printed=f"{100 * train:.1f}")
        )  # fmt: skip
        found.append(_item(report, "Figures", f"Table 2: training and test loss over epochs, σ {sigma:g}", CANNOT_BE, unread,
                           "Models: the history of a card (training loss, held-out accuracy)"))  # fmt: skip
    for number, images in ((1, "the original pictures"), (2, "DeepFool's pictures"), (3, "FGSM's pictures")):
        found.append(_item(fashion, "Figures", f"Figure 3.{number}: {images}", CANNOT_BE, drawn, "Many pictures"))
    for number, net, model in (
        (7, "vanilla", "fashion-mlp"),
        (8, "DeepFool images", "fashion-deepfool"),
        (9, "Deep Defense", "deep-defense"),
    ):
        found.append(_item(fashion, "Figures", f"Figure 3.{number}: ROC curves of classes 2 and 3, {net}", CANNOT_BE, unread,
                           "Lab: ROC curves on the vanilla network's DeepFool images",
                           link=_roc(f"fashion_mnist/{model}", VANILLA)))  # fmt: skip
    return found


def _abstracts(cards: Mapping[str, Card]) -> list[Cell]:
    """What the abstracts claim in numbers, beside ours where there is one."""
    table = "Claims in numbers"
    gain = _gain(cards, "cifar10/tla", "cifar10/nfgsm")
    card = cards.get("cifar10/tla")
    auc = [m for m in card.measures if m["kind"] == "detection"] if card else []
    command = "python -m explorer evaluate cifar10/tla --detection --write"
    detected = (
        _item(ABSTRACTS, table, "TLA: detection of unseen attacks, AUC", NOT_MEASURED, "The card holds no such measure.", command, "+6")
        if not auc else
        Cell(ABSTRACTS.what, table, "TLA: detection of unseen attacks, AUC", "+6", f"AUC {auc[0]['auc']:.2f}", auc[0]["n"], "cifar10/tla",
             CANNOT_BE, "The paper prints a gain over other trainings, the card one AUC.", command)
    )  # fmt: skip
    claims = {  # what is printed, and the recipe that trains so
        "Proxy distributions: robust accuracy, three datasets": ("+6.1, +5.7, +6.7", "proxy"),
        "Robust metric learning: robustness of retrieval": ("5 to 76 fold", "metric-robust"),
        "Deep pursuit: robustness to changed inputs": ("", "pursuit"),
        "Localized attacks and training on MNIST (here: --dataset fashion_mnist)": ("", "localized"),
    }
    return [gain, detected, *(_trained(cards, table, what, *told) for what, told in claims.items())]


def _trained(cards: Mapping[str, Card], table: str, what: str, printed: str, recipe: str) -> Cell:
    """A claim about a way to train: whether a model here was trained so, or could be."""
    there = [card.name for card in cards.values() if card.recipe == recipe]
    if there:
        reason = f"{', '.join(there)}: trained so, on other data and networks than the paper's; the card holds what was measured."
        return _item(ABSTRACTS, table, what, CANNOT_BE, reason, printed=printed)
    if recipe in RECIPES:
        reason = "The recipe is there, but no model was trained by it."
        return _item(ABSTRACTS, table, what, NOT_MEASURED, reason, f"python -m explorer train {recipe}", printed)
    return _item(ABSTRACTS, table, what, CANNOT_BE, "Neither a model nor a recipe here trains so.", printed=printed)


def _spectral(cards: Mapping[str, Card]) -> Cell:
    """What the bound on the layers' norms changes, beside a network trained alike without it."""
    pair, told = ("cifar10/spectral", "cifar10/spectral-twin"), []
    for column in ("PGD, L2 0.5", "PGD, L∞ 8/255"):
        shares = [headline_measure(cards[name], column) if name in cards else None for name in pair]
        if shares[0] is not None and shares[1] is not None:
            gain, n = 100 * (shares[0]["accuracy"] - shares[1]["accuracy"]), min(m["n"] for m in shares if m)
            told.append(f"{column.removeprefix('PGD, ')}: {gain:+.1f} points (n {n:,})")
    return Cell(
        published.LENET.what, "Text", "Spectral normalisation helps in L2 more than in L-infinity", "", "; ".join(told), None, pair[0],
        CANNOT_BE, f"It is said without a number. Ours: PGD on {pair[0]} against the same training without the bound.",
        MEASURE.format(model=pair[1]),
        ("lab", f"data=cifar10&models={','.join(pair)}&attacks=pgd&norm=l2"),
    )  # fmt: skip


def _gain(cards: Mapping[str, Card], ours: str, base: str) -> Cell:
    """What TLA gains over the training that it begins with, under PGD in L-infinity 8/255."""
    told: dict[str, Any] = {
        "paper": ABSTRACTS.what,
        "table": "Claims in numbers",
        "what": "TLA: robust accuracy against its base",
        "published": "+4",
    }
    found = [headline_measure(cards[name], "PGD, L∞ 8/255") if name in cards else None for name in (ours, base)]
    if found[0] is None or found[1] is None:
        return Cell(**told, ours="", n=None, model=ours, state=NOT_MEASURED, reason="A card holds no such measure.",
                    command=MEASURE.format(model=ours))  # fmt: skip
    gain = 100 * (found[0]["accuracy"] - found[1]["accuracy"])
    low, high = 100 * (found[0]["low"] - found[1]["high"]), 100 * (found[0]["high"] - found[1]["low"])
    reason = f"Against {base}; the ends are those of both 95 % intervals, furthest apart."
    state = SAME if low <= 4 <= high else OTHER
    return Cell(**told, ours=f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]", n=found[0]["n"], model=ours, state=state, reason=reason,
                command=MEASURE.format(model=ours))  # fmt: skip
