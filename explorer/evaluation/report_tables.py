"""Tables of reports and papers as they were published, with what is asked of which model's card for each cell of ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from explorer.core import USUAL_EPS
from explorer.data import dataset
from explorer.evaluation import published
from explorer.evaluation.boundary import SHARES, VANILLA
from explorer.evaluation.published import RADII, SIGMAS, Source
from explorer.evaluation.standard import DRAWN, IN_TURN, PGD, Attacks
from explorer.models.zoo import Card

LINF, L2 = USUAL_EPS["linf"], USUAL_EPS["l2"]


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
                rows.append(Row(f"{training}: PGD, {norm_words(norm)} {eps:g}", number, asks))
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
            rows.append(Row(f"{net}: {norm_words(norm)} {eps:g}", number, asks, fair=False))
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


def norm_words(norm: str) -> str:
    return {"linf": "L∞", "l2": "L2"}[norm]
