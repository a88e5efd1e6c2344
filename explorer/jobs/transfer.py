"""A transfer matrix as a run's work: each row, the pictures made on one model and tried on all, is one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.attacks import ATTACKS
from explorer.core import Attack, Ball, InvalidValue, param
from explorer.core.ball import as_norm
from explorer.evaluation.measure import packed, unpacked
from explorer.evaluation.transfer_matrix import Tried, tried_on_each
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

FEWEST, MOST = 2, 8  # models


@dataclass(frozen=True)
class TransferSettings(MeasuringSettings):
    """What a transfer matrix asks; the attack's hyper-parameters stand beside it."""

    model: str = param("", "models", help="Two to eight of one dataset, with commas between them.")
    weights: str = param("", "weights", help="The identities of their weights; empty: what they are now.")
    attack: str = param("pgd", "attack")
    norm: str = param("linf", "norm of the attack")
    eps: float = param(8 / 255, "eps", lo=0.0, hi=10_000.0, help="In pixel units.")


class Transfer:
    """The kind."""

    verb = "Carries over"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: value for key, value in settings.items() if key != "hyper"}
        asked = TransferSettings.from_dict(rest)
        names = asked.model.split(",")
        if not FEWEST <= len({*names}) == len(names) <= MOST:
            raise InvalidValue(f"models must be {FEWEST} to {MOST} different ones; got {asked.model!r}.")
        cards = [zoo.card(name) for name in names]
        if len({card.dataset for card in cards}) > 1:
            raise InvalidValue(f"models must be made for the same pictures; got {asked.model}.")
        identities = weights_of(names)
        if asked.weights not in ("", identities):
            raise InvalidValue(
                f"The weights of {asked.model} have changed since this run was submitted: submit a new one."
            )
        attack = _attack(settings)
        attack.check_threat(_ball(asked))
        pictures(cards[0].dataset, asked.images, asked.shuffle)
        return asked.to_dict() | {"weights": identities, "hyper": attack.to_dict()}

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        asked = TransferSettings.from_dict({key: value for key, value in settings.items() if key != "hyper"})
        names = asked.model.split(",")
        images, chosen = pictures(zoo.card(names[0]).dataset, asked.images, asked.shuffle)
        models = {name: zoo.load(name, device) for name in names}

        def make(index: int) -> Cell:
            found = tried_on_each(
                models[names[index]],
                models,
                images,
                _attack(settings),
                _ball(asked),
                seed=asked.seed,
                should_stop=should_stop,
            )
            tried = {name: {"right": packed(one.right), "fooled": packed(one.fooled)} for name, one in found.items()}
            return {"source": names[index], "tried": tried}

        conditions = dict(settings) | facts_of(images, chosen, device)
        return [Question("transfer", conditions, [len(images)] * len(names), make)]

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        n = conditions["images"]
        found = {
            (cell["source"], judge): Tried(unpacked(one["right"], n), unpacked(one["fooled"], n))
            for cell in cells
            for judge, one in cell["tried"].items()
        }
        shares = [
            {"what": f"made on {a}, fools {b}", "source": a, "judge": b, **one.facts()} for (a, b), one in found.items()
        ]
        examples = {f"{a} {b}": [k for k, fooled in enumerate(one.fooled) if fooled] for (a, b), one in found.items()}
        return {
            "title": "transfer", "conditions": dict(conditions), "done": len(cells) * n, "shares": shares, "examples": examples,
        }  # fmt: skip


KIND = Transfer()


def weights_of(names: Sequence[str]) -> str:
    """The identities of these models' weights, as one text."""
    return ",".join(zoo.card(name).identity for name in names)


def _attack(settings: Mapping[str, Any]) -> Attack:
    return ATTACKS[str(settings.get("attack", TransferSettings.attack))].from_dict(settings.get("hyper", {}))


def _ball(asked: TransferSettings) -> Ball:
    return Ball(as_norm(asked.norm), asked.eps)
