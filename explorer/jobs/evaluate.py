"""Evaluation as a run's work: clean accuracy, and accuracy under each attack at each eps, batch by batch of test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from explorer.attacks import ATTACKS
from explorer.core import Attack, Ball, InvalidValue, param, parse_eps
from explorer.core.ball import as_norm
from explorer.evaluation.batch_attack import BatchAttack, Tally, joined, stop_if_asked
from explorer.evaluation.measure import count, packed, single_eps
from explorer.evaluation.robustness import BATCH, batch_of, counted, kind_of, of_tally, right_of_batch
from explorer.evaluation.verdict import verdict_draws
from explorer.jobs.kinds import Cell, MeasuringSettings, Question, ShouldStop, facts_of, pictures, pinned
from explorer.models import zoo

if TYPE_CHECKING:
    import torch

    from explorer.core import Classifier
    from explorer.data import Images

MOST = 32  # attacks, and values of eps


@dataclass(frozen=True)
class EvaluateSettings(MeasuringSettings, shuffle=-1):
    """What `explorer evaluate --attack` asks; the attacks and the values of eps stand beside it."""

    clean: bool = param(True, "clean accuracy, too")
    norm: str = param("linf", "norm of the attacks")
    images: int = param(1000, "test images", lo=1, hi=10_000)
    batch: int = param(BATCH, "images at once", lo=1, hi=10_000)
    precision: str = param("float32", "precision", choices=("float32", "bfloat16"))


class Evaluate:
    """The kind."""

    verb = "Evaluates"

    def checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        identity = pinned(settings)
        attacks, eps = _attacks(settings.get("attacks", [])), _list("eps", settings.get("eps", []))
        rest = {key: value for key, value in settings.items() if key not in ("attacks", "eps")}
        found = EvaluateSettings.from_dict(rest | {"weights": identity})
        balls = [Ball(as_norm(found.norm), parse_eps(one)) for one in eps]
        if bool(attacks) != bool(eps) or not (attacks or found.clean):
            raise InvalidValue("an evaluation measures clean accuracy, or attacks at one or more values of eps.")
        for attack in attacks:
            for ball in balls:
                attack.check_threat(ball)
        pictures(zoo.card(found.model).dataset, found.images, found.shuffle)
        named = [{"name": ATTACKS.name_of(attack), "hyper": attack.to_dict()} for attack in attacks]
        return found.to_dict() | {"attacks": named, "eps": [ball.eps for ball in balls]}

    def questions(self, settings: Mapping[str, Any], device: torch.device, should_stop: ShouldStop) -> list[Question]:
        rest = {key: value for key, value in settings.items() if key not in ("attacks", "eps")}
        asked = EvaluateSettings.from_dict(rest)
        images, chosen = pictures(zoo.card(asked.model).dataset, asked.images, asked.shuffle)
        model = zoo.load(asked.model, device)
        shared = {key: value for key, value in rest.items() if key not in ("clean", "norm")}
        shared |= facts_of(images, chosen, device) | {"verdict_draws": verdict_draws(model)}
        found = [_clean(asked, images, model, shared, should_stop)] if asked.clean else []
        for attack in _attacks(settings["attacks"]):
            smallest = _Smallest(asked, images, model, attack, should_stop) if attack.budget == "minimal" else None
            for eps in settings["eps"]:
                ball = Ball(as_norm(asked.norm), eps)
                found.append(_attacked(asked, images, model, attack, ball, shared, should_stop, smallest))
        return found

    def row(self, conditions: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
        title = _title(conditions)
        if conditions["attack"] is None:
            facts = count(sum(one["right"] for one in cells), sum(one["n"] for one in cells))
            facts |= {"verdicts": packed([right for one in cells for right in one.get("each", [])])}
        else:
            whole = joined([Tally(**one) for one in cells])
            facts = of_tally(whole, ATTACKS[conditions["attack"]].from_dict(conditions["hyper"]))
            distances = [d if math.isfinite(d) else None for d in whole.distances]
            facts |= {"verdicts": packed(whole.each), "passes": whole.passes, "distances": distances}
        share = {"what": title, **{key: facts[key] for key in ("accuracy", "low", "high", "n")}}
        return {"title": title, "conditions": dict(conditions), "done": facts["n"], **facts, "shares": [share]}


KIND = Evaluate()


def _list(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or len(values) > MOST:
        raise InvalidValue(f"{name} must be a list of at most {MOST}; got {values!r}.")
    return values


def _attacks(values: Any) -> list[Attack]:
    """Of names with hyper-parameters. Raises UnknownName, InvalidValue."""
    found = []
    for one in _list("attacks", values):
        if (
            not isinstance(one, dict)
            or not one.keys() <= {"name", "hyper"}
            or not isinstance(one.get("hyper", {}), dict)
        ):
            raise InvalidValue(f"an attack must be a name with its hyper-parameters; got {one!r}.")
        found.append(ATTACKS[str(one.get("name"))].from_dict(one.get("hyper", {})))
    return found


def _clean(
    asked: EvaluateSettings, images: Images, model: Classifier, shared: Mapping[str, Any], should_stop: ShouldStop
) -> Question:
    conditions = {**shared, "attack": None}

    def make(index: int) -> Cell:
        stop_if_asked(should_stop)
        x, y, rng = batch_of(images, model, asked.batch, asked.seed, index)
        right = right_of_batch(model, x, counted(model, x, y, images.top), rng)
        return {"right": sum(right), "n": len(y), "each": right}

    return Question(_title(conditions), conditions, _sizes(len(images), asked.batch), make)


@dataclass
class _Smallest:
    """The smallest change of each picture: it does not depend on eps, so that all values of eps share one walk a batch."""

    asked: EvaluateSettings
    images: Images
    model: Classifier
    attack: Attack
    should_stop: ShouldStop
    kept: dict[int, tuple[list[bool], Tally]] = field(default_factory=dict)  # by batch: right untouched, and its tally

    def within(self, ball: Ball, index: int) -> Tally:
        """The tally of one batch: whoever's change is no longer than the ball's eps is fooled."""
        if index not in self.kept:
            size = max(1, self.asked.batch // self.attack.draws)
            x, y, rng = batch_of(self.images, self.model, size, self.asked.seed, index)
            y = counted(self.model, x, y, self.images.top)
            again = batch_of(self.images, self.model, size, self.asked.seed, index)[
                2
            ]  # draws as the attack's first look does
            job = BatchAttack(self.model, self.model, self.attack, ball, self.asked.precision, self.should_stop, rng)
            made = job.one_batch(x, y)
            self.kept[index] = right_of_batch(self.model, x, y, again), made
        right, made = self.kept[index]
        distances = iter(made.distances)
        each = [ok and next(distances) > single_eps(ball) for ok in right]
        return replace(made, robust=sum(each), robust_8bit=sum(each), each=each)


def _attacked(
    asked: EvaluateSettings, images: Images, model: Classifier, attack: Attack, ball: Ball, shared: Mapping[str, Any],
    should_stop: ShouldStop, smallest: _Smallest | None,
) -> Question:  # fmt: skip
    kind, note = kind_of(model, None, model, attack.draws)
    hyper = {"attack": ATTACKS.name_of(attack), "hyper": attack.to_dict(), "norm": ball.norm, "eps": ball.eps}
    conditions = {**shared, **hyper, "kind": kind, "note": note}
    size = max(1, asked.batch // attack.draws)

    def make(index: int) -> Cell:
        if smallest is not None:
            return asdict(smallest.within(ball, index))
        x, y, rng = batch_of(images, model, size, asked.seed, index)
        y = counted(model, x, y, images.top)
        return asdict(BatchAttack(model, model, attack, ball, asked.precision, should_stop, rng).one_batch(x, y))

    return Question(_title(conditions), conditions, _sizes(len(images), size), make)


def _sizes(n: int, size: int) -> list[int]:
    return [min(size, n - index * size) for index in range(math.ceil(n / size))]


def _title(conditions: Mapping[str, Any]) -> str:
    if conditions["attack"] is None:
        return "clean"
    eps = conditions["eps"]
    text = f"{eps * 255:.4g}/255" if conditions["norm"] == "linf" else f"{eps:g}"
    return f"{conditions['attack']}, {conditions['norm']} {text}"
