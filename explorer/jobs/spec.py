"""A run's specification (spec.json): its kind, what is trained or measured, and how it is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from explorer.core.errors import InvalidValue
from explorer.jobs.kinds import KINDS, TRAIN, kind_of

if TYPE_CHECKING:
    from explorer.defenses.recipe import Recipe

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
PRECISIONS = ("auto", "float32", "bfloat16")
PLACES = ("local", "slurm")  # who starts the run's process: this computer's own queue, or a cluster's
MAX_TEXT = 200  # characters of a title or summary


@dataclass(frozen=True)
class Spec:
    """Plain values, as spec.json holds them. Wrong types are refused at once, unknown names by `checked`.

    A training has a recipe with its `hyper`, a run of another kind has `settings` (`jobs/kinds.py`) and neither of them.
    """

    recipe: str = ""
    hyper: dict[str, Any] = field(default_factory=dict)  # what differs from the recipe's defaults; all, once submitted
    name: str | None = None  # in the zoo; None: <dataset>/<recipe>-<first letters of the run's id>
    title: str | None = None  # None: the recipe's
    summary: str | None = None  # None: the recipe's
    device: str = "auto"
    processes: int = 1
    threads: int | None = None  # of each process; None: EXPLORER_THREADS, else all cores
    precision: str = "auto"
    limit: int | None = None  # training images; None: all, or the recipe's few in a smoke run
    smoke: bool = False
    every: float | None = None  # seconds between checkpoints; None: the training's own
    place: str = "local"
    cluster: dict[str, Any] = field(default_factory=dict)  # where the place is a cluster: what to ask of it
    created: float = 0.0  # seconds since 1970; set when submitted
    kind: str = TRAIN
    settings: dict[str, Any] = field(default_factory=dict)  # of a kind that measures; all, once submitted
    dataset: str | None = None  # whose pictures are trained on; None: the recipe's own

    def __post_init__(self) -> None:
        for name in ("recipe", "device", "precision", "place", "kind"):
            self._refuse(name, isinstance(getattr(self, name), str), "text")
        for name in ("name", "title", "summary"):
            text = getattr(self, name)
            ok = text is None or (isinstance(text, str) and text.isprintable() and 0 < len(text) <= MAX_TEXT)
            self._refuse(name, ok, f"one line of at most {MAX_TEXT} characters")
        self._refuse("dataset", self.dataset is None or isinstance(self.dataset, str), "text")
        for name in ("hyper", "cluster", "settings"):
            values = getattr(self, name)
            self._refuse(
                name, isinstance(values, Mapping) and all(isinstance(n, str) for n in values), "names with values"
            )
        self._refuse(
            "device", DEVICE.fullmatch(self.device) is not None, "auto, cpu, cuda, cuda:0 and the like, or mps"
        )
        self._refuse("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        self._refuse("place", self.place in PLACES, f"one of {', '.join(PLACES)}")
        self._refuse("kind", self.kind in KINDS, f"one of {', '.join(KINDS)}")
        trains = self.kind == TRAIN
        self._refuse("recipe", bool(self.recipe) == trains, "named by a training, and by no run of another kind")
        self._refuse("settings", not (trains and self.settings), "left out by a training, which has hyper-parameters")
        self._refuse("processes", _whole(self.processes, 1, 1024), "a whole number in [1, 1024]")
        self._refuse("threads", self.threads is None or _whole(self.threads, 1, 1024), "a whole number in [1, 1024]")
        self._refuse(
            "limit", self.limit is None or _whole(self.limit, 1, 10**9), "a whole number of images, at least 1"
        )
        self._refuse("smoke", isinstance(self.smoke, bool), "true or false")
        for name in ("every", "created"):
            number = getattr(self, name)
            ok = isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number < 1e11
            self._refuse(name, ok or (name == "every" and number is None), "a number of seconds, at least 0")
        if self.processes > 1 and (self.device == "mps" or ":" in self.device):
            raise InvalidValue(
                f"{self.processes} processes need device cuda (one GPU each) or cpu; got {self.device!r}."
            )

    def _refuse(self, name: str, ok: bool, allowed: str) -> None:
        if not ok:
            raise InvalidValue(f"{name} must be {allowed}; got {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Of untrusted values (spec.json); raises InvalidValue."""
        known = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or ("recipe" not in values and values.get("kind", TRAIN) == TRAIN):
            raise InvalidValue("a run's spec must be an object that names a recipe.")
        if extra := sorted(values.keys() - known):
            raise InvalidValue(f"a run's spec knows no {extra[0]!r}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def subject(self) -> str:
        """What it is about, for lists: the recipe, or the model that is measured."""
        return self.recipe or str(self.settings.get("model", ""))

    def build(self) -> Recipe:
        """A training's recipe with these values. Raises UnknownName or InvalidValue."""
        from explorer.defenses import RECIPES

        cls = RECIPES[self.recipe].on(self.dataset)
        return cls.from_dict({**(cls.smoke if self.smoke else {}), **self.hyper})

    def checked(self) -> Self:
        """The spec with every hyper-parameter or setting named, so that a later version's defaults do not change the run.

        Raises UnknownName (recipe, hyper-parameter, `start`, model, attack), InvalidValue and DataUnavailable.
        """
        if self.kind != TRAIN:
            settings = kind_of(self.kind).checked(self.settings)
            return replace(self, settings=settings, precision=settings["precision"])
        from explorer.data import dataset
        from explorer.models import zoo
        from explorer.training.export import check_place

        recipe = self.build()
        if "train" not in dataset(recipe.dataset).rows:
            raise InvalidValue(f"dataset must be one with training images; got {recipe.dataset!r}.")
        if recipe.start:
            zoo.card(recipe.start)
        if self.name is not None:
            check_place(self.name, recipe, Path(recipe.dataset))
        limit = self.limit if self.limit is not None else recipe.smoke_images if self.smoke else None
        return replace(self, hyper=recipe.to_dict(), limit=limit)

    def check_known(self) -> None:
        """Raises what keeps a stopped run from going on: a recipe, model or attack that is known no more, changed weights."""
        if self.kind == TRAIN:
            self.build()
        else:
            self.checked()

    def same_work(self, other: Spec) -> bool:
        """Whether the two compute the same, so that one can go on where the other stopped."""
        names = ("kind", "recipe", "hyper", "limit", "settings", "dataset")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def model_name(self, run: str) -> str:
        """What the zoo will call the model of the run with this id."""
        stem = f"{self.recipe}-smoke" if self.smoke else self.recipe
        return self.name or f"{self.build().dataset}/{stem}-{run[:6]}"

    def clone(self, **changes: Any) -> Self:
        """For another run: the same but for `changes`; the model's name is a new one."""
        return replace(self, **{"name": None, "created": 0.0} | changes)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
