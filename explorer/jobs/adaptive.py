"""Adaptive attacks on a stochastic network as a run's work: each attack of `explorer.evaluation.adaptive` is one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from explorer.core import InvalidValue, param
from explorer.core.statistics import wilson
from explorer.evaluation.adaptive import DRAWS, SLOW_SHARE, STEPS, AdaptiveBench, Test, adaptive_tests, held_by_all
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures, pinned
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

CLEAN, ALL = "untouched", "all of these together"


@dataclass(frozen=True)
class AdaptiveSettings(MeasuringSettings, images=40):
    """What the Lab page asks of a random model."""

    twin: str = param("", "twin", help="A deterministic model whose attacked pictures are tried on it; empty: none.")
    most: int = param(16, "most draws a step", lo=1, hi=DRAWS[-1],
                      help="PGD averages its gradient over 1, 2, 4 ... so many draws.")  # fmt: skip
    queries: int = param(200, "queries", lo=1, hi=5000, help="Of Square, which needs no gradient.")


class Adaptive:
    """The kind."""

    verb = "Attacks"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        identity = pinned(settings)
        card = zoo.card(str(settings["model"]))
        found = AdaptiveSettings.from_dict(dict(settings) | {"weights": identity})
        if not card.stochastic:
            raise InvalidValue(f"model must be stochastic, so that its draws can be asked about; {card.name} is not.")
        if found.twin and (zoo.card(found.twin).dataset != card.dataset or zoo.card(found.twin).stochastic):
            raise InvalidValue(f"the twin must be a deterministic model of {card.dataset}; got {found.twin}.")
        pictures(card.dataset, found.images, found.shuffle)
        return found.to_dict()

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        asked = AdaptiveSettings.from_dict(settings)
        images, chosen = pictures(zoo.card(asked.model).dataset, asked.images, asked.shuffle)
        shared = _Shared(asked, images, chosen, device, should_stop)
        twin = zoo.card(asked.twin).identity if asked.twin else ""
        conditions = dict(settings) | facts_of(images, chosen, device) | {"twin_weights": twin}

        def make(index: int) -> Cell:
            if index == 0:
                return share(CLEAN, shared.bench.clean().to_dict()) | {"held": []}
            test = shared.tests[index - 1]
            measure, each = shared.bench.ask(test)
            return share(test.label, measure.to_dict()) | {"held": [] if test.judge is not None else each}

        sizes = [len(images), *(len(shared.few if test.slow else images) for test in shared.tests)]
        return [Question("adaptive attacks", conditions, sizes, make)]

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        shares = [{name: value for name, value in cell.items() if name != "held"} for cell in cells]
        every = held_by_all([cell["held"] for cell in cells if cell["held"]])
        if every:
            low, high = wilson(sum(every), len(every))
            shares.append({"what": ALL, "draws": None, "kind": "adaptive", "accuracy": sum(every) / len(every), "low": low, "high": high,
                           "n": len(every), "note": "the pictures that all attacks saw"})  # fmt: skip
        return {"title": "adaptive attacks", "conditions": dict(conditions), "done": len(cells), "shares": shares}


KIND = Adaptive()


def share(what: str, measure: Mapping[str, Any]) -> dict[str, Any]:
    """A measure as a line of the table; `draws` is named where it is PGD-20 through the model itself."""
    own = {name: measure[name] for name in ("kind", "accuracy", "low", "high", "n", "note")}
    itself = measure["attack"] == "pgd" and measure["kind"] in ("white-box", "adaptive") and not measure.get("variant")
    draws = measure.get("draws") if itself and measure["hyper"].get("steps") == STEPS else None
    return {"what": what, "draws": draws, **own}


def usual_twin(card: zoo.Card) -> str:
    """The deterministic network of the same build and training, where there is one; "": none."""
    known = {other.name for other in zoo.cards()}
    name = f"{card.dataset}/relu-twin"
    return name if card.recipe == "lwta" and name in known else ""


@dataclass
class _Shared:
    """Model and pictures of all cells of a run, loaded when the first of them is made."""

    asked: AdaptiveSettings
    images: Images
    chosen: str
    device: torch.device
    should_stop: ShouldStop

    @cached_property
    def few(self) -> Images:
        n = max(len(self.images) // SLOW_SHARE, 1)
        return replace(self.images, x=self.images.x[:n], y=self.images.y[:n], index=self.images.index[:n])

    @cached_property
    def bench(self) -> AdaptiveBench:
        model = zoo.load(self.asked.model, self.device)
        return AdaptiveBench(model, self.images, self.few, self.chosen, self.asked.seed, should_stop=self.should_stop)

    @cached_property
    def tests(self) -> list[Test]:
        draws = [k for k in DRAWS if k <= self.asked.most]
        twins = [self.asked.twin] if self.asked.twin else []
        return list(adaptive_tests(self.bench.model, self.device, twins, draws, self.asked.queries, self.asked.seed))
