"""One attack on one image, as a value: checked whole, written as a link, a title or a script."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.attacks import ATTACKS
from explorer.core import NORMS, USUAL_EPS, Attack, Ball, InvalidValue, UnknownName, parse_number
from explorer.core.ball import EPS_LIMIT
from explorer.data import Dataset, dataset, raw
from explorer.models import zoo

SEED_LIMIT = 2**63  # what a torch.Generator surely takes
QUERY_LIMIT = 512  # characters of a link's names and values
_UPLOAD = re.compile(r"upload:[0-9a-f]{8,64}")
_WORDS = {
    "steps": ("step", "steps"),
    "searches": ("search", "searches"),
    "restarts": ("restart", "restarts"),
    "draws": ("draw", "draws"),
}
_BAD_UPLOAD = "image must be a row of the sample or upload:<8 to 64 hexadecimal digits>; got {!r}."


@dataclass(frozen=True)
class Budget:
    """The most that one request may ask for. The defaults are what a page grants."""

    passes: int = 20_000  # forward and backward passes together, draws counted one by one
    draws: int = 128  # they go through the network together, so they cost memory
    frames: int = 3_000  # recorded images


PAGE = Budget()


@dataclass(frozen=True)
class AttackRequest:
    """Everything that decides about a walk; equal requests give equal walks.

    Every field is checked when one is made: raises UnknownName or InvalidValue with one sentence, DataUnavailable if
    the bundled sample is damaged, BadCheckpoint if the model's card is.
    """

    dataset: str
    image: int | str  # row of the bundled sample, or "upload:" and the beginning of the picture's sha256
    model: str
    attack: str = "pgd"
    hyper: dict[str, Any] = field(default_factory=dict, hash=False)  # kept: what differs from the attack's defaults
    norm: str = "linf"
    eps: float = USUAL_EPS["linf"]  # in pixel units; "8/255" is understood. The whole range if `is_minimal`
    target: int | None = None  # a class, or its name; None: any wrong class will do
    seed: int = 0
    label: int | None = None  # what an upload shows; None: what the model takes it for. A sample's row has its own

    def __post_init__(self) -> None:
        spec = dataset(as_text("dataset", self.dataset))
        card = zoo.card(as_text("model", self.model))
        if card.dataset != spec.name:
            raise InvalidValue(f"model {card.name} was made for {card.dataset}; got dataset {spec.name!r}.")
        attack = _attack(self.attack, self.hyper)
        _partners(attack.partners, card)
        eps = _eps(_norm(self.attack, self.norm), self.eps)
        if self.is_minimal:
            eps = EPS_LIMIT[self.norm]  # it says itself how far it had to go
        image, label = _picture(spec, self.image, self.label)
        target = None if self.target is None else as_class("target", self.target, spec)
        if target is not None and target == label:
            raise InvalidValue(f"target must differ from the true class; got {spec.classes[target]!r}.")
        changed = {p.name: getattr(attack, p.name) for p in attack.params() if getattr(attack, p.name) != p.default}
        seed = as_whole("seed", self.seed, 0, SEED_LIMIT - 1)
        values = {"hyper": changed, "eps": eps, "image": image, "label": label, "target": target, "seed": seed}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    # What it asks for

    @property
    def method(self) -> Attack:
        """The attack with its hyper-parameters."""
        return ATTACKS[self.attack].from_dict(self.hyper)

    @property
    def is_minimal(self) -> bool:
        """Whether the attack looks for the smallest change, so that there is no eps to choose."""
        return ATTACKS[self.attack].budget == "minimal"

    @property
    def ball(self) -> Ball:
        return Ball(self.norm, self.eps)

    @property
    def classes(self) -> tuple[str, ...]:
        return dataset(self.dataset).classes

    @property
    def is_upload(self) -> bool:
        return isinstance(self.image, str)

    @property
    def restarts(self) -> int:
        return self.method.restarts

    @property
    def draws(self) -> int:
        return self.method.draws

    @property
    def frames(self) -> int:
        """How many frames the walk may have: the untouched image, then the attack's `expected_frames`."""
        return 1 + self.method.expected_frames

    @property
    def passes(self) -> int:
        """Forward and backward passes it may need, draws counted one by one: the attack's `expected_passes`."""
        return self.method.expected_passes

    def within(self, budget: Budget = PAGE) -> AttackRequest:
        """Itself if it asks for no more than `budget`; raises InvalidValue."""
        asked = {
            "draws": (self.draws, budget.draws),
            "steps x restarts": (self.frames, budget.frames),
            "steps x restarts x draws": (self.passes, budget.passes),
        }
        units = {"draws": "draws per step", "steps x restarts": "recorded images"}
        for name, (amount, limit) in asked.items():
            if amount > limit:
                unit = units.get(name, "forward and backward passes")
                raise InvalidValue(f"{name} may come to at most {limit:,} {unit} here; got {amount:,}.")
        return self

    # As a link

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""
        query = {"data": self.dataset, "image": str(self.image), "model": self.model, "attack": self.attack}
        query["norm"] = self.norm
        if not self.is_minimal:
            query["eps"] = eps_text(self.eps)
        if self.hyper:
            query["with"] = ",".join(f"{name}:{_plain(value)}" for name, value in self.hyper.items())
        if self.target is not None:
            query["target"] = self.classes[self.target]
        if self.is_upload and self.label is not None:
            query["label"] = self.classes[self.label]
        if self.seed:
            query["seed"] = str(self.seed)
        return query

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> AttackRequest:
        """The request a link names. Other pages' parameters are ignored; raises an ExplorerError for anything unfit."""
        return cls(**from_link(query, _KEYS, needed=("data", "image", "model")))

    # In words

    def title(self) -> str:
        """One line: "PGD against cifar10/pgd-linf, Linf 8/255, 20 steps, toward cat"."""
        parts = [
            f"{ATTACKS.entry(self.attack).title} against {self.model}",
            _NORMS[self.norm] if self.is_minimal else f"{_NORMS[self.norm]} {eps_text(self.eps)}",
        ]
        values = self.method.to_dict()
        for name, (one, many) in _WORDS.items():
            amount = values.get(name, 1)
            if amount > 1 or name in self.hyper:
                parts.append(f"{amount} {one if amount == 1 else many}")
        if aside := self.method.aside:
            parts.append(aside)
        if self.target is not None:
            parts.append(f"toward {self.classes[self.target]}")
        return ", ".join(parts)

    def to_python(self, label: int | None = None) -> str:
        """A script that repeats the walk with the project's public names.

        `label`: for an upload whose class the request leaves to the model, what the model said.
        """
        settings = ", ".join(f"{name}={value!r}" for name, value in self.hyper.items())
        label = self.label if label is None else label
        return "\n".join(
            [
                *self._imports(),
                "",
                f'model = zoo.load("{self.model}", device="cpu")',
                *self._image_lines(label),
                f'attack = ATTACKS["{self.attack}"]({settings})',
                f'ball = Ball("{self.norm}", eps={_eps_code(self.eps)}){self._whole_range()}',
                "goal = Goal.untargeted(y)" if self.target is None else self._target_line(),
                f"rng = torch.Generator().manual_seed({self.seed})",
                f"outcome = run(attack.walk(model, x, goal, ball, rng), goal{', minimal=True' * self.is_minimal})",
                "print(outcome.success, outcome.distance)  # outcome.x holds the attacked image",
                "",
            ]
        )

    def _whole_range(self) -> str:
        return "  # the whole pixel range: the attack looks for the smallest change" if self.is_minimal else ""

    def _imports(self) -> list[str]:
        source = "from explorer.data import read_upload" if self.is_upload else "from explorer.data import load"
        return [
            *(["from pathlib import Path", ""] if self.is_upload else []),
            "import torch",
            "",
            "from explorer.attacks import ATTACKS",
            "from explorer.core import Ball, Goal, run",
            source,
            "from explorer.models import zoo",
        ]

    def _image_lines(self, label: int | None) -> list[str]:
        if not self.is_upload:
            row = self.image
            name = self.classes[label]
            return [
                f'images = load("{self.dataset}", split="test", source="sample")',
                f"x, y = images.x[{row}:{row + 1}], images.y[{row}:{row + 1}]  # {name}",
            ]
        shape = dataset(self.dataset).shape
        known = f"torch.tensor([{label}])  # {self.classes[label]}" if label is not None else "model(x).argmax(1)"
        return [
            'file = Path("picture.png")  # the picture that was uploaded',
            f"x = read_upload(file.read_bytes(), file.name, {shape}).pixels[None]",
            f"y = {known}",
        ]

    def _target_line(self) -> str:
        return f"goal = Goal.targeted(torch.tensor([{self.target}]))  # {self.classes[self.target]}"


def from_link(query: Mapping[str, str], names: Mapping[str, str], needed: Sequence[str]) -> dict[str, Any]:
    """A request's arguments from a link; `names` says which key of the link stands for which argument.

    Other keys are ignored. Raises InvalidValue for a key that is `needed` and missing, and for a link too long.
    """
    known = {key: value for key, value in query.items() if key in names}
    for key, value in known.items():
        as_text(key, value)
    if sum(len(key) + len(value) + 2 for key, value in known.items()) > QUERY_LIMIT:
        raise InvalidValue(f"a link may hold at most {QUERY_LIMIT} characters of settings.")
    for key in needed:
        if key not in known:
            wanted = f"{', '.join(needed[:-1])} and {needed[-1]}"
            raise InvalidValue(f"the link must name {wanted}; {key} is missing.")
    values: dict[str, Any] = {names[key]: value for key, value in known.items()}
    if "hyper" in values:
        values["hyper"] = as_pairs(values["hyper"])
    return values


_NORMS = {"linf": "L∞", "l2": "L2"}
HOW = {"data": "dataset", "with": "hyper"} | {n: n for n in ("model", "attack", "norm", "eps", "target", "seed")}
_KEYS = HOW | {"image": "image", "label": "label"}


def eps_text(eps: float) -> str:
    """ "8/255" where that is exactly it and shorter than the decimal: reading it gives the same float."""
    decimal = f"{eps:g}" if float(f"{eps:g}") == eps else repr(eps)
    levels = f"{eps * 255:.6g}"
    exact = "e" not in levels and float(levels) / 255 == eps
    return f"{levels}/255" if exact and len(levels) + 4 < len(decimal) else decimal


def _eps_code(eps: float) -> str:
    return eps_text(eps).replace("/", " / ")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"{name} must be text; got {value!r}.")
    return value


def as_pairs(text: str) -> dict[str, str]:
    """ "steps:40,loss:margin" as a dict; a name given twice is refused."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, colon, value = part.partition(":")
        if not colon or name in found:
            raise InvalidValue(f'with must look like "steps:40,loss:margin", each name once; got {text!r}.')
        found[name] = value
    return found


def _attack(key: Any, hyper: Any) -> Attack:
    cls = ATTACKS[as_text("attack", key)]
    if not isinstance(hyper, Mapping):
        raise InvalidValue(f"hyper must be names and values; got {hyper!r}.")
    return cls.from_dict(hyper)


def _partners(names: tuple[str, ...], card: zoo.Card) -> None:
    """Whether an attack's other models see the same pictures as the attacked one, and are others."""
    for name in names:
        if name == card.name:
            raise InvalidValue(f"models must be other models than the attacked one; got {name!r}.")
        if zoo.card(name).dataset != card.dataset:
            raise InvalidValue(f"models must be made for {card.dataset}, as {card.name} is; got {name!r}.")


def _norm(key: str, norm: Any) -> str:
    """The norm, if it is one and the attack is defined in it."""
    if as_text("norm", norm) in NORMS and norm not in ATTACKS[key].norms:
        title = ATTACKS.entry(key).title
        raise InvalidValue(f"norm must be {' or '.join(ATTACKS[key].norms)} for {title}; got {norm!r}.")
    return norm  # an unknown one is Ball's to refuse


def _eps(norm: str, value: Any) -> float:
    try:
        number = parse_number(None if isinstance(value, bool) else value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f'eps must be a number or a fraction such as "8/255"; got {value!r}.') from error
    return Ball(norm, number).eps


def _picture(spec: Dataset, image: Any, label: Any) -> tuple[int | str, int | None]:
    """The image and its class: of the sample, or as the person says."""
    if isinstance(image, str) and image.startswith("upload"):
        if not _UPLOAD.fullmatch(image):
            raise InvalidValue(_BAD_UPLOAD.format(image))
        return image, None if label is None else as_class("label", label, spec)
    labels = raw(spec.name, "test", "sample")[1]
    row = as_whole("image", image, 0, len(labels) - 1)
    own = int(labels[row])
    if label is not None and as_class("label", label, spec) != own:
        raise InvalidValue(f"label of image {row} of {spec.title} is {spec.classes[own]!r}; got {label!r}.")
    return row, own


def as_class(name: str, value: Any, spec: Dataset) -> int:
    """A class by number or name."""
    if isinstance(value, str):
        if value in spec.classes:
            return spec.classes.index(value)
        if not value.strip().lstrip("-").isdecimal():
            raise UnknownName(f"{name} class", value, spec.classes)
    return as_whole(name, value, 0, len(spec.classes) - 1)


def as_whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in [low, high], as a number or as text."""
    wrong = InvalidValue(f"{name} must be a whole number in [{low}, {high}]; got {value!r}.")
    if isinstance(value, bool):
        raise wrong
    try:
        number = int(value) if isinstance(value, str) else operator.index(value)
    except (ValueError, TypeError) as error:
        raise wrong from error
    if not low <= number <= high:
        raise wrong
    return number
