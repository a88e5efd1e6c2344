"""Request for one attack on a batch of pictures of the bundled sample, as a plain value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch

from explorer.core import USUAL_EPS, InvalidValue, seeded
from explorer.core.precision import PRECISIONS
from explorer.core.rng import derived_seed
from explorer.data import Dataset, dataset, raw
from explorer.engine.parsing import as_class, as_text, as_whole, from_link
from explorer.engine.request import ATTACK_LINK, Amount, AttackRequest, Budget, Request

MAX_PICTURES = 32  # in one batch
MANY = Budget(passes=320_000, draws=320)  # for all pictures together: AutoAttack on 32, if none of them fell early
USUAL = 16  # pictures
PICKS = ("random", "right", "hand")
PICKING = 3  # stream of randomness beside those of a single walk


@dataclass(frozen=True)
class ManyRequest(Request):
    """Everything that decides about one attack on many pictures; equal (checked) requests give equal outcomes.

    `pick`: "random" pictures of the sample, random ones that the model gets "right", or those in `rows`, chosen by
    "hand". Pictures of the class that is aimed at are never among them.
    """

    link = ATTACK_LINK | {
        "pick": "pick", "count": "count", "class": "of", "shuffle": "shuffle", "rows": "rows", "precision": "precision",
    }  # fmt: skip
    needed = ("data", "model")
    advice: ClassVar[str] = " Fewer pictures or steps fit."

    dataset: str
    model: str
    pick: str = "random"
    count: int = USUAL  # of pictures; the usual number stands for as many as there are where there are fewer
    of: int | None = None  # a class, or its name: pictures of this class only
    shuffle: int = 0  # seed of the random choice of pictures
    rows: tuple[int, ...] = ()  # of the bundled sample, for "hand"; "2,7,9" is understood
    attack: str = "pgd"
    hyper: Mapping[str, Any] = field(default_factory=dict, hash=False)
    norm: str = "linf"
    eps: float = USUAL_EPS["linf"]  # as in AttackRequest
    target: int | None = None
    seed: int = 0
    precision: str = "auto"  # of the attack's passes, see `core.precision`; verdicts are in float32

    def checked(self, most: int = MAX_PICTURES) -> Self:
        """As of every request; of at most so many pictures."""
        spec = dataset(as_text("dataset", self.dataset))
        if self.pick not in PICKS:
            raise InvalidValue(f"pick must be one of {', '.join(PICKS)}; got {self.pick!r}.")
        if self.precision not in PRECISIONS:
            raise InvalidValue(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}.")
        target = None if self.target is None else as_class("target", self.target, spec)
        chosen = self._by_hand(spec, target, most) if self.pick == "hand" else self._at_random(spec, target, most)
        made = dataclasses.replace(self, target=target, **chosen)
        known = len(made.candidates)
        if 0 < known < made.count == USUAL:
            made = dataclasses.replace(made, count=known)
        if known < made.count:
            raise InvalidValue(
                f"count must be at most {known} here: there are no more such pictures; got {made.count}."
            )
        return dataclasses.replace(made, hyper=made.one.hyper, eps=made.one.eps, seed=made.one.seed)

    def _by_hand(self, spec: Dataset, target: int | None, most: int) -> dict[str, Any]:
        rows = self.rows.split(",") if isinstance(self.rows, str) else tuple(self.rows)
        labels = labels_of(spec.name)
        rows = tuple(as_whole("picture", row, 0, len(labels) - 1) for row in rows)
        if not 1 <= len(rows) <= most:
            raise InvalidValue(f"rows must name 1 to {most} pictures; got {len(rows)}.")
        if len(set(rows)) < len(rows):
            raise InvalidValue(f"rows must name each picture once; got {', '.join(map(str, rows))}.")
        for row in rows:
            if target is not None and labels[row] == target:
                raise InvalidValue(
                    f"target must differ from every picture's true class; picture {row} shows {spec.classes[target]!r}."
                )
        return {"rows": rows, "count": len(rows), "of": None, "shuffle": 0}

    def _at_random(self, spec: Dataset, target: int | None, most: int) -> dict[str, Any]:
        if self.rows:
            raise InvalidValue(f'rows go with pick "hand"; got {self.rows!r} with {self.pick!r}.')
        of = None if self.of is None else as_class("class", self.of, spec)
        if of is not None and of == target:
            raise InvalidValue(f"target must differ from the pictures' class; got {spec.classes[of]!r}.")
        count = as_whole("count", self.count, 1, most)
        return {"of": of, "count": count, "shuffle": as_whole("shuffle", self.shuffle, 0, 2**31 - 1)}

    # What it asks for

    @cached_property
    def candidates(self) -> tuple[int, ...]:
        """Rows of the sample in the order in which they are taken."""
        if self.pick == "hand":
            return self.rows
        labels = labels_of(self.dataset)
        fits = np.ones(len(labels), bool) if self.of is None else labels == self.of
        if self.target is not None:
            fits &= labels != self.target
        return shuffled(np.flatnonzero(fits), derived_seed(self.shuffle, PICKING))

    @cached_property
    def one(self) -> AttackRequest:
        """The same attack on the first of the candidates, checked."""
        row = self.candidates[0]
        return AttackRequest(
            self.dataset, row, self.model, self.attack, self.hyper, self.norm, self.eps, self.target, self.seed
        ).checked()

    def single(self, row: int) -> AttackRequest:
        """The same attack on one picture alone."""
        return dataclasses.replace(self.one, image=row, label=None).checked()

    @property
    def classes(self) -> tuple[str, ...]:
        return dataset(self.dataset).classes

    @property
    def is_minimal(self) -> bool:
        return self.one.is_minimal

    @property
    def passes(self) -> int:
        """Forward and backward passes that all pictures together may need, draws counted one by one."""
        return self.count * self.one.passes

    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        return batch_amounts(self, self.passes, budget)

    def within(self, budget: Budget = MANY) -> Self:
        return super().within(budget)

    # As a link

    def to_query(self) -> dict[str, str]:
        query = self.one.to_query()
        del query["image"]
        if self.precision != "auto":
            query["precision"] = self.precision
        if self.pick == "hand":
            return query | {"rows": ",".join(map(str, self.rows))}
        if self.pick != "random":
            query["pick"] = self.pick
        if self.of is not None:
            query["class"] = self.classes[self.of]
        if self.shuffle:
            query["shuffle"] = str(self.shuffle)
        return query | {"count": str(self.count)}

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Self:
        values = from_link(query, cls.link, cls.needed)
        return cls(**({"pick": "hand"} if "rows" in values else {}) | values)

    # In words

    def title(self, models: str = "") -> str:
        """One line: "PGD against cifar10/pgd-linf, Linf 8/255, 20 steps, on 16 pictures". `models`: as of AttackRequest."""
        return f"{self.one.title(models)}, on {self.count} picture{'' if self.count == 1 else 's'}"

    def chosen_words(self, who: str = "the model gets") -> str:
        """How the pictures were chosen: a condition of every share. `who` gets them right, if that was asked for."""
        if self.pick == "hand":
            return "chosen by hand"
        kind = "" if self.of is None else f" of class {self.classes[self.of]}"
        only = "" if self.pick == "random" else f" among those {who} right"
        aimed = "" if self.target is None else f", none that shows the target ({self.classes[self.target]})"
        return f"drawn at random{only}{kind} from the bundled test pictures (seed {self.shuffle}){aimed}"

    def to_python(self, rows: tuple[int, ...], precision: str) -> str:
        """A script that repeats the walk on the pictures `rows` (those the model got right) in one batch, at this precision."""
        lines = [
            self.one.load_line(),
            f"rows = {list(rows)}  # the pictures that the model gets right",
            "x, y = images.x[rows], images.y[rows]",
        ]
        goal = "goal = Goal.untargeted(y)"
        if self.target is not None:
            goal = f"goal = Goal.targeted(torch.full_like(y, {self.target}))  # {self.classes[self.target]}"
        return self.one.script(lines, goal, "images", precision)


def batch_amounts(request: ManyRequest, passes: int, budget: Budget) -> Iterable[Amount]:
    """What a batch asks for that needs so many passes in all, see `Request.within`."""
    yield "pictures x draws", request.count * request.one.draws, budget.draws, "draws per step"
    yield "recorded steps", request.one.frames, budget.frames, "steps"
    yield "pictures x passes", passes, budget.passes, "forward and backward passes"


def labels_of(name: str) -> np.ndarray:
    """(N,) of the bundled sample."""
    return raw(name, "test", "sample")[1].numpy()


def shuffled(rows: np.ndarray, seed: int) -> tuple[int, ...]:
    """Rows in random order."""
    return tuple(rows[torch.randperm(len(rows), generator=seeded(seed)).numpy()].tolist())
