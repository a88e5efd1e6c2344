"""Kinds of runs: a training (`explorer.jobs.train`), or a measurement, cell by cell: of one model (certify, evaluate, masking,
adaptive, roc) or of several (transfer, tournament).

A measurement is a list of questions; each question has cells (pictures, or batches of them), whose plain values follow from
the question's conditions and the cell's index alone. So a cell that is finished is never measured again.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from explorer.core.errors import InvalidValue, UnknownName
from explorer.core.params import Hyper, param
from explorer.core.versions import versions

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

TRAIN = "train"
MEASURING = (
    "certify",
    "evaluate",
    "masking",
    "transfer",
    "tournament",
    "adaptive",
    "roc",
)  # each a module of explorer.jobs with `KIND`
KINDS = (TRAIN, *MEASURING)
CODE = "code"  # of a question's conditions: the versions that it was measured with

ShouldStop = Callable[[], bool]
Cell = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One line of a measurement's table."""

    title: str
    conditions: Mapping[str, Any]  # all that decides about its cells, as JSON can hold it
    pictures: Sequence[int]  # of each cell
    make: Callable[[int], Cell]  # of the index of a cell; raises Cancelled where the run is to stop


@dataclass(frozen=True)
class MeasuringSettings(Hyper):
    """What every measurement asks: of which model, on which pictures, with which draws."""

    model: str = param("", "model")
    weights: str = param("", "weights", help="The identity of its weights; empty: what they are now.")
    images: int = param(100, "test pictures", lo=1, hi=1000)
    shuffle: int = param(0, "choice of the pictures", lo=-1, hi=2**31 - 1,
                         help="Seed of a draw from the bundled ones; -1: evenly from all classes.")  # fmt: skip
    seed: int = param(0, "seed", lo=0, hi=2**53 - 1, help="Of every draw.")
    precision: str = param("float32", "precision", choices=("float32",))


class Kind(Protocol):
    """What a measurement must be able to do."""

    verb: str  # what a run of it does: "Certifies"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All settings named, of untrusted ones, with the model's weights. Raises UnknownName, InvalidValue, DataUnavailable."""

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        """Of `checked` settings. Raises InvalidValue where the model cannot be asked this."""

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        """What the cells so far (at least one) say: plain values, among them `shares`, each with what, accuracy, low, high, n, and
        `said` where sentences say it better.
        """


def kind_of(name: str) -> Kind:
    """Raises UnknownName."""
    if name not in MEASURING:
        raise UnknownName("kind of measurement", name, MEASURING)
    kind: Kind = importlib.import_module(f"explorer.jobs.{name}").KIND
    return kind


def pinned(settings: Mapping[str, Any]) -> str:
    """The identity of the model's weights, which are those that the settings name, if they do. Raises UnknownName, InvalidValue."""
    from explorer.models import zoo

    card = zoo.card(str(settings.get("model", "")))
    if settings.get("weights") not in (None, "", card.identity):
        raise InvalidValue(f"The weights of {card.name} have changed since this run was submitted: submit a new one.")
    return card.identity


def pictures(name: str, n: int, shuffle: int) -> tuple[Images, str]:
    """Test images of a dataset, and in words how they were chosen: evenly from all classes, as `evaluate` and `certify` do
    (`shuffle` -1), or at random from the bundled ones, as the Certify page does. Raises InvalidValue, DataUnavailable.
    """
    from explorer.data import chosen_rows, how_chosen, load

    if shuffle < 0:
        return load(name, n=n), how_chosen(n, n)
    images = load(name, source="sample")
    rows = list(chosen_rows(name, shuffle, n))
    if len(rows) < n:
        raise InvalidValue(f"images must be a whole number in [1, {len(images)}]; got {n}.")
    some = replace(images, x=images.x[rows], y=images.y[rows], index=images.index[rows])
    return some, f"{n:,} drawn at random from the bundled test pictures (seed {shuffle})"


def facts_of(images: Images, chosen: str, device: torch.device) -> dict[str, Any]:
    """Conditions of every question: which pictures, which versions, which kind of device."""
    from explorer.certify.store import picture_hash

    return {
        "images": len(images),
        "data": f"{images.name} {images.split}, {images.source}",
        "chosen": chosen,
        "pixels": picture_hash(images.x),
        "labels": hashlib.sha256(repr(images.y.tolist()).encode()).hexdigest(),
        CODE: versions(),
        "device": device.type,
    }
