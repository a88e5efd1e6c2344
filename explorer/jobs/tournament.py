"""Tournament as a run's work: every entry under every test, on one set of pictures, batch by batch (`evaluation/tournament.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.attacks import ATTACKS
from explorer.core import Cancelled, DataUnavailable, ExplorerError, Goal, Hyper, InvalidValue, param
from explorer.evaluation.batch_attack import ANYWHERE, BatchAttack, stop_if_asked
from explorer.evaluation.course import first_training_images
from explorer.evaluation.measure import count
from explorer.evaluation.outcome import classified_right
from explorer.evaluation.robustness import batch_of
from explorer.evaluation.tournament import MASKING, TESTS, Test, seed_of
from explorer.evaluation.verdict import STOCHASTIC_DRAWS, verify
from explorer.jobs.class_attacks import attack_question, checked_attacks, masking_question, masking_row
from explorer.jobs.kinds import Cell, Question, ShouldStop, facts_of, pictures
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.data import Images

MOST = 100  # entries
BATCH = 100  # images at once


@dataclass(frozen=True)
class TournamentSettings(Hyper):
    """What a tournament asks; the entries, their weights and the class's attacks stand beside it."""

    model: str = param("", "baseline", help="The entry that all others are paired with.")
    word: str = param(
        "", "word", help="Said in class once all entries are in: with them it decides about the pictures."
    )
    images: int = param(500, "test images", lo=10, hi=2000)
    checks: int = param(0, "pictures of the checks for gradient masking", lo=0, hi=500, help="0: they are not asked.")
    precision: str = param("float32", "precision", choices=("float32",))


class Tournament:
    """The kind."""

    verb = "Compares"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        names = settings.get("models")
        if not isinstance(names, list) or not 2 <= len(set(names)) <= MOST or len(set(names)) < len(names):
            raise InvalidValue(f"a tournament has 2 to {MOST} entries, each once, the baseline among them.")
        cards = [zoo.card(str(name)) for name in names]
        if len({card.dataset for card in cards}) > 1:
            raise InvalidValue("all entries of a tournament must be made for the same dataset.")
        now = {card.name: card.identity for card in cards}
        if settings.get("weights") not in (None, now):
            raise InvalidValue("An entry has changed since this tournament began: begin a new one.")
        attacks = checked_attacks(settings.get("attacks", []))
        rest = {key: value for key, value in settings.items() if key not in ("models", "weights", "attacks")}
        found = TournamentSettings.from_dict(rest)
        if found.model not in now:
            raise InvalidValue(f"the baseline must be one of the entries; got {found.model!r}.")
        all_in = found.to_dict() | {"models": sorted(now), "weights": now, "attacks": attacks}
        pictures(cards[0].dataset, found.images, _seed(all_in))
        return all_in

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        seed = _seed(settings)
        name, n = zoo.card(settings["model"]).dataset, settings["images"]
        images, chosen = pictures(name, n, seed)
        sets = {False: (images, facts_of(images, chosen, device))}
        try:
            learnt = first_training_images(name, n)
            sets[True] = (learnt, facts_of(learnt, f"the first {n:,} training images", device))
        except DataUnavailable:
            pass  # then the board is without the platform's column, and says so
        found = []
        for key, test in TESTS.items():
            if test.train in sets:
                own, facts = sets[test.train]
                for model in settings["models"]:
                    entry = {"model": model, "weights": settings["weights"][model], "seed": seed, "batch": BATCH}
                    found.append(_question(key, test, entry | facts, own, device, should_stop))
        images, facts = sets[False]
        for model in settings["models"]:
            entry = {"model": model, "weights": settings["weights"][model], "seed": seed} | facts
            entry["verdict_draws"] = STOCHASTIC_DRAWS if zoo.card(model).stochastic else 1
            found += [attack_question(one, entry, images, device, should_stop) for one in settings.get("attacks", [])]
            if settings.get("checks"):
                found.append(masking_question(model, settings["checks"], device, should_stop))
        return found

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        if conditions["test"] == MASKING:
            return masking_row(conditions, cells)
        each, test = _joined(cells), TESTS.get(conditions["test"])
        title = f"{conditions['model']}: {conditions['attack'] if test is None else test.title}"
        refused = next((cell["refused"] for cell in cells if cell["refused"]), "")
        right, n = each.count("1"), each.count("1") + each.count("0")
        about = {"title": title, "conditions": dict(conditions), "done": n, "each": each, "refused": refused}
        about["outside"] = sum(cell.get("outside", 0) for cell in cells)
        if not n:
            return about | {"shares": []}
        facts = count(right, n)
        return about | facts | {"shares": [{"what": title, **{k: facts[k] for k in ("accuracy", "low", "high", "n")}}]}


KIND = Tournament()


def _seed(settings: Mapping[str, Any]) -> int:
    """Of the pictures: by all that was handed in, networks and attacks, and the word."""
    return seed_of(
        [*settings["weights"].values(), *(one["sha256"] for one in settings.get("attacks", []))], settings["word"]
    )


def _joined(cells: Sequence[Cell]) -> str:
    """By picture "1" right and still so, "0" not, "." not measured."""
    each = ["."] * max((cell["at"] + len(cell["each"]) for cell in cells), default=0)
    for cell in cells:
        each[cell["at"] : cell["at"] + len(cell["each"])] = cell["each"]
    return "".join(each)


def _question(
    key: str, test: Test, facts: Mapping[str, Any], images: Images, device: torch.device, should_stop: ShouldStop
) -> Question:
    """One entry under one test."""
    name = facts["model"]
    stochastic = zoo.card(name).stochastic
    attack, hyper = test.attack(stochastic)
    asked: dict[str, Any] = {"attack": None}
    if test.ball is not None:
        made = ATTACKS[attack].from_dict(hyper)
        asked = {"attack": attack, "hyper": made.to_dict(), "norm": test.ball.norm, "eps": test.ball.eps}
    conditions = {**facts, "test": key, **asked, "verdict_draws": STOCHASTIC_DRAWS if stochastic else 1}
    sizes = [min(BATCH, len(images) - at * BATCH) for at in range(math.ceil(len(images) / BATCH))]
    return Question(f"{name}: {test.title}", conditions, sizes, _maker(test, conditions, images, device, should_stop))


def _maker(
    test: Test, conditions: Mapping[str, Any], images: Images, device: torch.device, should_stop: ShouldStop
) -> Callable[[int], Cell]:
    def make(index: int) -> Cell:
        stop_if_asked(should_stop)
        try:
            each = _each(test, conditions, images, device, should_stop, index)
        except Cancelled:
            raise
        except (
            ExplorerError,
            FloatingPointError,
        ) as refusal:  # what others handed in: it loses its place, the run goes on
            return {"at": index * BATCH, "each": "", "refused": str(refusal)[:300]}
        return {"at": index * BATCH, "each": "".join("1" if right else "0" for right in each), "refused": ""}

    return make


def _each(
    test: Test, conditions: Mapping[str, Any], images: Images, device: torch.device, should_stop: ShouldStop, index: int
) -> list[bool]:
    """Of one batch, which pictures are right, and still so."""
    model = zoo.load(conditions["model"], device)
    x, y, rng = batch_of(images, model, BATCH, conditions["seed"], index)
    if test.ball is None:
        return classified_right(verify(model, x, x, Goal.untargeted(y), ANYWHERE, rng), y).tolist()
    attack = ATTACKS[conditions["attack"]].from_dict(conditions["hyper"])
    return BatchAttack(model, model, attack, test.ball, "float32", should_stop, rng).one_batch(x, y).each
