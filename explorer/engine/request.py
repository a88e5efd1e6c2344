"""Request for one attack on one image, as a plain value: checked whole at the border, written as a link, title or script."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from explorer.attacks import ATTACKS
from explorer.core import NORMS, USUAL_EPS, Attack, InvalidValue, ThreatModel, parse_eps
from explorer.core.ball import THREAT_LIMIT, THREAT_NAMES, TRANSFORMATIONS, as_norm
from explorer.data import Dataset, dataset, raw
from explorer.engine.parsing import as_class, as_text, as_whole, from_link
from explorer.models import zoo

LARGE = 20_000  # pixel values from which on a recorded image counts as more than one: 3,000 such take 240 MB
SEED_LIMIT = 2**63  # what a torch.Generator surely takes
_UPLOAD = re.compile(r"upload:[0-9a-f]{8,64}")
_WORDS = {
    "steps": ("step", "steps"),
    "searches": ("search", "searches"),
    "restarts": ("restart", "restarts"),
    "draws": ("draw", "draws"),
}
_BAD_UPLOAD = "image must be a row of the sample or upload:<8 to 64 hexadecimal digits>; got {!r}."
ATTACK_LINK = {"data": "dataset", "with": "hyper"} | {
    name: name for name in ("model", "attack", "norm", "eps", "target", "seed")
}


@dataclass(frozen=True)
class Budget:
    """The most that one request may ask for. The defaults are what a page grants."""

    passes: int = 20_000  # forward and backward passes together, draws counted one by one
    draws: int = 128  # they go through the network together, so they cost memory
    frames: int = 3_000  # recorded images


PAGE = Budget()
Amount = tuple[str, int, int, str]  # name, what is asked for, the most there may be, its unit


class Request(ABC):
    """Base of all requests: plain values. Making or replacing one reads no file and refuses nothing; `checked` does.

    `link` says which key of a link stands for which field; the `needed` keys must be there.
    """

    link: ClassVar[Mapping[str, str]]
    needed: ClassVar[tuple[str, ...]]
    advice: ClassVar[str] = ""  # to whom asks for too much

    @abstractmethod
    def checked(self) -> Self:
        """The same request with every field in its own type, what is derived filled in; a checked one gives an equal one.

        Raises UnknownName or InvalidValue with one sentence, DataUnavailable if the bundled sample is damaged,
        BadCheckpoint if a model's card is.
        """

    @abstractmethod
    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        """What `within` compares."""

    def within(self, budget: Budget = PAGE) -> Self:
        """Itself if it asks for no more than `budget`; raises InvalidValue."""
        for name, amount, limit, unit in self._amounts(budget):
            if amount > limit:
                raise InvalidValue(f"{name} may come to at most {limit:,} {unit} here; got {amount:,}.{self.advice}")
        return self

    @abstractmethod
    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Self:
        """The request a link names, checked. Other pages' parameters are ignored; raises an ExplorerError for anything unfit."""
        return cls.of_link(query).checked()

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Self:
        """As `from_query`, but not checked yet."""
        return cls(**from_link(query, cls.link, cls.needed))


@dataclass(frozen=True)
class AttackRequest(Request):
    """Everything that decides about a walk; equal (checked) requests give equal walks."""

    link = ATTACK_LINK | {"image": "image", "label": "label"}
    needed = ("data", "image", "model")

    dataset: str
    image: int | str  # row of the bundled sample, or "upload:" and the beginning of the picture's sha256
    model: str
    attack: str = "pgd"
    hyper: Mapping[str, Any] = field(default_factory=dict, hash=False)  # kept: what differs from the attack's defaults
    norm: str = "linf"  # or the name of another threat model that the attack is defined under
    eps: float = USUAL_EPS["linf"]  # in pixel units; "8/255" is understood. The whole range if `is_minimal`
    target: int | None = None  # a class, or its name; None: any wrong class will do
    seed: int = 0
    label: int | None = None  # what an upload shows; None: what the model takes it for. A sample's row has its own

    def checked(self) -> Self:
        spec = dataset(as_text("dataset", self.dataset))
        card = zoo.card(as_text("model", self.model))
        if card.dataset != spec.name:
            raise InvalidValue(f"model {card.name} was made for {card.dataset}; got dataset {spec.name!r}.")
        attack = _attack(self.attack, self.hyper)
        _check_partners(attack.partners, card)
        norm = _norm(self.attack, self.norm)
        eps = parse_eps(self.eps)
        eps = THREAT_LIMIT[norm] if self.is_minimal else eps  # a minimal attack says itself how far it had to go
        attack.threat_model(norm, eps)  # refuses what is out of range
        image, label = _picture(spec, self.image, self.label)
        target = None if self.target is None else as_class("target", self.target, spec)
        if target is not None and target == label:
            raise InvalidValue(f"target must differ from the true class; got {spec.classes[target]!r}.")
        return dataclasses.replace(
            self,
            hyper={p.name: getattr(attack, p.name) for p in attack.params() if getattr(attack, p.name) != p.default},
            eps=eps,
            image=image,
            label=label,
            target=target,
            seed=as_whole("seed", self.seed, 0, SEED_LIMIT - 1),
        )

    # What it asks for

    @cached_property
    def method(self) -> Attack:
        """The attack with its hyper-parameters."""
        return ATTACKS[self.attack].from_dict(self.hyper)

    @property
    def is_minimal(self) -> bool:
        """Whether the attack looks for the smallest change, so that there is no eps to choose."""
        return ATTACKS[self.attack].budget == "minimal"

    @property
    def threat(self) -> ThreatModel:
        """What may change, and by how much."""
        return self.method.threat_model(self.norm, self.eps)

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
    def _weight(self) -> float:
        return max(1.0, math.prod(dataset(self.dataset).shape) / LARGE)

    @property
    def recorded(self) -> int:
        """The frames, those of a large picture counting as several: what bounds the memory."""
        return math.ceil(self.frames * self._weight)

    @property
    def passes(self) -> int:
        """Forward and backward passes it may need, draws counted one by one: the attack's `expected_passes`."""
        return self.method.expected_passes

    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        yield "draws", self.draws, budget.draws, "draws per step"
        unit = "recorded images" if self._weight == 1 else f"recorded images, each counting as {self._weight:.3g}"
        yield "steps x restarts", self.recorded, budget.frames, unit
        yield "steps x restarts x draws", self.passes, budget.passes, "forward and backward passes"

    @property
    def allowed(self) -> str:
        """ "L∞ 8/255", "rotation and shift up to 30° and 3 pixels", "corruption of severity 3"."""
        size = str(self.threat) if self.norm == "rotation" else eps_text(self.eps)
        return f"{THREAT_NAMES[self.norm]} {size}"

    # As a link

    def to_query(self) -> dict[str, str]:
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

    # In words

    def title(self, models: str = "") -> str:
        """One line: "PGD against cifar10/pgd-linf, Linf 8/255, 20 steps, toward cat". `models`: to name instead of its own."""
        parts = [
            f"{ATTACKS.entry(self.attack).title} against {models or self.model}",
            THREAT_NAMES[self.norm] if self.is_minimal else self.allowed,
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
        goal = "goal = Goal.untargeted(y)"
        if self.target is not None:
            goal = f"goal = Goal.targeted(torch.tensor([{self.target}]))  # {self.classes[self.target]}"
        return self.script(self._image_lines(self.label if label is None else label), goal, "image")

    def script(self, image_lines: Iterable[str], goal: str, found: str, precision: str = "float32") -> str:
        """A script of this attack: lines that make x (N,C,H,W) and y (N,), the line of the goal, "image" or "images", and
        the precision of the attack's passes."""
        settings = ", ".join(f"{name}={value!r}" for name, value in self.hyper.items())
        seen = "model" if precision == "float32" else f'rounded(model, "{precision}")'
        whole_range = "  # the whole pixel range: the attack looks for the smallest change"
        return "\n".join(
            [
                *self._imports(),
                *(["from explorer.core.precision import rounded"] if precision != "float32" else []),
                "",
                f'model = zoo.load("{self.model}", device="cpu")',
                *image_lines,
                f'attack = ATTACKS["{self.attack}"]({settings})',
                f"threat = {self._threat_code()}{whole_range * self.is_minimal}",
                goal,
                f"rng = torch.Generator().manual_seed({self.seed})",
                f"outcome = run(attack.walk({seen}, x, goal, threat, rng), goal{', minimal=True' * self.is_minimal})",
                f"print(outcome.success, outcome.distance)  # outcome.x holds the attacked {found}",
                "",
            ]
        )

    def _threat_code(self) -> str:
        eps = _eps_code(self.eps)
        return f'Ball("{self.norm}", eps={eps})' if self.norm in NORMS else f'attack.threat_model("{self.norm}", {eps})'

    def _imports(self) -> list[str]:
        look = "" if dataset(self.dataset).background is None else "Look, "
        source = f"from explorer.data import {look}read_upload" if self.is_upload else "from explorer.data import load"
        return [
            *(["from pathlib import Path", ""] if self.is_upload else []),
            "import torch",
            "",
            "from explorer.attacks import ATTACKS",
            f"from explorer.core import {'Ball, ' * (self.norm in NORMS)}Goal, run",
            source,
            "from explorer.models import zoo",
        ]

    def load_line(self) -> str:
        """The script's line that makes `images`."""
        return f'images = load("{self.dataset}", split="test", source="sample")'

    def _image_lines(self, label: int | None) -> list[str]:
        named = "" if label is None else f"  # {self.classes[label]}"
        if isinstance(self.image, int):
            row = self.image
            return [self.load_line(), f"x, y = images.x[{row}:{row + 1}], images.y[{row}:{row + 1}]{named}"]
        spec = dataset(self.dataset)
        look = "" if spec.background is None else f", Look(background={spec.background})"
        known = "model(x).argmax(1)" if label is None else f"torch.tensor([{label}]){named}"
        return [
            'file = Path("picture.png")  # the picture that was uploaded',
            f"x = read_upload(file.read_bytes(), file.name, {spec.shape}{look}).pixels[None]",
            f"y = {known}",
        ]


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


def _attack(key: Any, hyper: Any) -> Attack:
    cls = ATTACKS[as_text("attack", key)]
    if not isinstance(hyper, Mapping):
        raise InvalidValue(f"hyper must be names and values; got {hyper!r}.")
    return cls.from_dict(hyper)


def _check_partners(names: tuple[str, ...], card: zoo.Card) -> None:
    """Whether an attack's other models see the same pictures as the attacked one, and are others."""
    for name in names:
        if name == card.name:
            raise InvalidValue(f"models must be other models than the attacked one; got {name!r}.")
        if zoo.card(name).dataset != card.dataset:
            raise InvalidValue(f"models must be made for {card.dataset}, as {card.name} is; got {name!r}.")


def _norm(key: str, norm: Any) -> str:
    """The norm, or another threat model, if it is one and the attack is defined under it."""
    known = as_text("norm", norm) in (*NORMS, *TRANSFORMATIONS)
    if known and norm not in ATTACKS[key].threats:
        title = ATTACKS.entry(key).title
        raise InvalidValue(f"norm must be {' or '.join(ATTACKS[key].threats)} for {title}; got {norm!r}.")
    return norm if known else as_norm(norm)


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
