"""A report card for gradient masking as a run's work: each check of `explorer.evaluation.masking` is one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from explorer.core import Ball, InvalidValue, param
from explorer.core.ball import as_norm
from explorer.evaluation.masking import CHECKS, Bench, Raised, ask, summary
from explorer.evaluation.standing import COLUMNS, lowest
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures, pinned
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class MaskingSettings(MeasuringSettings):
    """What `explorer evaluate --masking` asks."""

    twin: str = param("", "other model", help="Whose attacked pictures are tried on it; empty: the usual one.")
    norm: str = param("linf", "norm of the attacks", choices=NORMS)
    eps: float = param(8 / 255, "eps", lo=1e-5, hi=100.0, help="In pixel units.")


class Masking:
    """The kind."""

    verb = "Checks"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        identity = pinned(settings)
        card = zoo.card(str(settings["model"]))
        found = MaskingSettings.from_dict(dict(settings) | {"weights": identity})
        Ball(as_norm(found.norm), found.eps)  # refuses what is out of range
        twin = found.twin or usual_twin(card)
        if twin == card.name or (twin and zoo.card(twin).dataset != card.dataset):
            raise InvalidValue(f"the other model must be one of {card.dataset} that is not {card.name}; got {twin}.")
        pictures(card.dataset, found.images, found.shuffle)
        return found.to_dict() | {"twin": twin}

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        asked = MaskingSettings.from_dict(settings)
        images, chosen = pictures(zoo.card(asked.model).dataset, asked.images, asked.shuffle)
        shared = _Shared(asked, images, device, should_stop)
        twin = zoo.card(asked.twin).identity if asked.twin else ""
        conditions = dict(settings) | facts_of(images, chosen, device) | {"twin_weights": twin}

        def make(index: int) -> Cell:
            check, bench = CHECKS[index], shared.bench
            found = ask(bench, check).to_dict()
            row = None if found["picture"] is None else int(images.index[found["picture"]])
            return {"check": check.key, "right": len(bench), "index": row, **found}

        return [Question("gradient masking", conditions, [len(images)] * len(CHECKS), make)]

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        found = {cell["check"]: of_cell(cell) for cell in cells}
        return {
            "title": "gradient masking", "conditions": dict(conditions), "done": len(cells), "of": len(CHECKS), "shares": [],
            "said": summary(found), "checks": list(cells),
        }  # fmt: skip


KIND = Masking()


def of_cell(cell: Mapping[str, Any]) -> Raised:
    """What a check found, of its cell."""
    return Raised(**{name: cell[name] for name in ("raised", "said", "n", "picture", "attack", "facts")})


def usual_twin(card: zoo.Card) -> str:
    """The deterministic model of the same pictures, another one, of the highest clean accuracy that a card tells; "": none."""
    others = [
        (share.accuracy, other.name)
        for other in zoo.cards()
        if other.dataset == card.dataset and other.name != card.name and not other.stochastic
        if (share := lowest(other, COLUMNS["clean"])) is not None
    ]
    return max(others, default=(0.0, ""))[1]


@dataclass
class _Shared:
    """The bench of all checks of a run, made when the first of them is asked."""

    asked: MaskingSettings
    images: Images
    device: torch.device
    should_stop: ShouldStop

    @cached_property
    def bench(self) -> Bench:
        twin = zoo.load(self.asked.twin, self.device) if self.asked.twin else None
        ball = Ball(as_norm(self.asked.norm), self.asked.eps)
        model = zoo.load(self.asked.model, self.device)
        return Bench(model, self.images, ball, seed=self.asked.seed, twin=twin, should_stop=self.should_stop)
