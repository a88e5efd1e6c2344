"""Transfer attacks and comparisons: several models, or several attacks, each on its own walk; or one walk shown to others.

An image made on one model and shown to another is a transfer attack. That it fails there says nothing about how robust
the other model is: whoever attacks that model looks at it. So every lane of another model carries the word.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.core import FeaturePath, InvalidValue, LossName, Trace, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine.engine import Engine
from explorer.engine.labels import goal_of
from explorer.engine.request import PAGE, Amount, AttackRequest, Budget, Request
from explorer.engine.tracing import FIRST_LOOK, LAST_WORD, Result, Snapshot, attack_work, picture
from explorer.evaluation.outcome import Ending, ending, first_answer, reached_in_most
from explorer.evaluation.verdict import verdict_draws, verify
from explorer.features import feature_path
from explorer.models import zoo

EACH, TRANSFER = "each", "transfer"
CRAFTS = (EACH, TRANSFER)  # who the image is made on
MIN_MODELS, MAX_MODELS = 2, 4
SHOWN = 3  # stream of randomness for looks at another model's walk; tracing has the others
FRAMES_PER_PASS = 4  # of a walk that another model looks at ...
PASS = 512  # ... or fewer, so that draws and frames together are no more than this


@dataclass(frozen=True)
class CompareRequest(Request):
    """Everything that decides about a comparison: of models, of attacks, or of both, in two to four lanes.

    `attack` names the picture and the method; the model it names is always the first of `models` once it is checked.
    `attacks` (none: that one alone) are others beside it, with the same norm, eps, target and seed, and those of its
    settings that they have, too.
    """

    attack: AttackRequest
    models: tuple[str, ...]
    craft: str = EACH  # "each": on every model itself; "transfer": on the first, then shown to the others
    attacks: tuple[str, ...] = ()  # keys; once checked always more than one, or none

    def checked(self) -> Self:
        attack, models, attacks = self.attack.checked(), tuple(self.models), self._checked_attacks()
        if self.craft not in CRAFTS:
            raise InvalidValue(f"craft must be {' or '.join(CRAFTS)}; got {self.craft!r}.")
        for name, several in (("models", models), ("attacks", attacks)):
            if len(set(several)) != len(several):
                raise InvalidValue(f"{name} must differ from each other; got {', '.join(several)}.")
        _check_number(models, attacks)
        checked = dataclasses.replace(
            self, models=models, attacks=attacks, attack=dataclasses.replace(attack, model=models[0])
        )
        for lane in checked.lanes:
            lane.checked()  # refuses a model of another dataset, an attack that has not this norm
        if self.craft == TRANSFER and attacks:
            raise InvalidValue("craft must be each where several attacks are compared; got 'transfer'.")
        if self.craft == TRANSFER and attack.is_upload and attack.label is None:
            raise InvalidValue(
                "label must be known where one model's image is shown to others: say what your picture shows."
            )
        return checked

    def _checked_attacks(self) -> tuple[str, ...]:
        attacks = tuple(self.attacks)
        if len(attacks) < 2 and attacks in ((), (self.attack.attack,)):
            return ()
        lead = _lead(attacks)
        if self.attack.attack not in attacks or (self.attack.is_minimal and lead != self.attack.attack):
            raise InvalidValue(
                f"attack must be one of attacks, with an eps where one has it: {lead}; got {self.attack.attack}."
            )
        return attacks

    @property
    def lanes(self) -> tuple[AttackRequest, ...]:
        """Each attack on each model, model by model; of a transfer only the first is carried out as such."""
        return tuple(self._lane(model, key) for model in self.models for key in self.attacks or (self.attack.attack,))

    def _lane(self, model: str, key: str) -> AttackRequest:
        own = dataclasses.replace(self.attack, model=model)
        if key == self.attack.attack:
            return own
        known = {p.name for p in ATTACKS[key].params()}
        hyper = {name: value for name, value in self.attack.hyper.items() if name in known}
        return dataclasses.replace(own, attack=key, hyper=hyper).checked()

    @property
    def source(self) -> str | None:
        """The model that a transferred image was made on."""
        return self.models[0] if self.craft == TRANSFER else None

    @property
    def passes(self) -> int:
        """Forward and backward passes of all lanes together, draws counted one by one, at most."""
        if self.craft == EACH:
            return sum(lane.passes for lane in self.lanes)
        shown = sum(_draws(lane) for lane in self.lanes[1:])
        return self.attack.passes + self.attack.frames * shown

    @property
    def frames(self) -> int:
        """Recorded images of all lanes together."""
        return sum(lane.frames for lane in self.lanes)

    def within(self, budget: Budget = PAGE) -> Self:
        """Itself if all lanes together ask for no more than `budget`; raises InvalidValue."""
        for lane in self.lanes if self.attacks else (self.attack,):
            lane.within(budget)
        return super().within(budget)

    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        yield "steps x restarts x models", sum(lane.recorded for lane in self.lanes), budget.frames, "recorded images"
        yield "steps x restarts x draws x models", self.passes, budget.passes, "forward and backward passes"

    def to_query(self) -> dict[str, str]:
        query = self.attack.to_query()
        del query["model"]
        several = {"models": ",".join(self.models), "craft": self.craft}
        if self.attacks:
            several["attacks"] = ",".join(self.attacks)
            if self.attack.attack == _lead(self.attacks):
                del query["attack"]
        return several | query

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Self:
        if "models" not in query:
            raise InvalidValue("the link must name data, image and models; models is missing.")
        names, attacks = (tuple(filter(None, str(query.get(key, "")).split(","))) for key in ("models", "attacks"))
        _check_number(names, attacks, fewest=0)
        lead = {"attack": query.get("attack", _lead(attacks))} if attacks else {}
        attack = AttackRequest.of_link({**query, **lead, "model": names[0] if names else ""})
        return cls(attack, names, query.get("craft", EACH), attacks)


def _lead(attacks: tuple[str, ...]) -> str:
    """The first that takes an eps; it is the one whose settings and eps a comparison names."""
    return next((key for key in attacks if ATTACKS[key].budget == "fixed"), attacks[0])


def _check_number(models: tuple[str, ...], attacks: tuple[str, ...], fewest: int = MIN_MODELS) -> None:
    lanes = len(models) * max(len(attacks), 1)
    if not fewest <= lanes <= MAX_MODELS:
        what = "models times attacks" if attacks else "models"
        raise InvalidValue(f"{what} must be {MIN_MODELS} to {MAX_MODELS} to be compared; got {lanes}.")


@dataclass(frozen=True, eq=False)
class ModelLane:
    """One model's part: its walk so far, and whose walk that is."""

    request: AttackRequest
    snapshot: Snapshot
    source: str | None = None  # the model the images were made on, if it is another one: then this is a transfer
    is_source: bool = False  # its images are shown to the other lanes

    @property
    def is_transfer(self) -> bool:
        return self.source is not None

    @property
    def result(self) -> Result:
        """What came out; raises InvalidValue while the walk is under way."""
        if self.snapshot.result is None:
            raise InvalidValue("a walk has a result once it has ended; this one is under way.")
        return self.snapshot.result

    @property
    def fooled(self) -> bool:
        """Whether the image that counts fools the model, and something was changed to that end. Of a finished walk."""
        return self.result.ending is Ending.FOOLED


@dataclass(frozen=True, eq=False)
class Comparison:
    """All lanes so far, whole, in the order of the request's lanes."""

    lanes: tuple[ModelLane, ...]

    @property
    def seconds(self) -> float:
        """Of computing, all lanes together."""
        return sum(lane.snapshot.seconds for lane in self.lanes)


def compare_work(
    engine: Engine, request: CompareRequest, budget: Budget = PAGE
) -> Callable[[], Iterator[Comparison | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if all lanes together ask for more than `budget`.

    Each item shows all lanes. The models take turns step by step, so that their walks grow together.
    """
    asked = request.checked().within(budget)
    work = _each if asked.craft == EACH else _shown
    return lambda: work(engine, asked, budget)


def _each(engine: Engine, request: CompareRequest, budget: Budget) -> Iterator[Comparison | None]:
    """Every model attacked itself, by every attack: the very walks that `attack_work` records of each alone."""
    with ExitStack() as stack:
        walks = [stack.enter_context(closing(attack_work(engine, lane, budget)())) for lane in request.lanes]
        newest: list[Snapshot | None] = [None] * len(walks)
        under_way = list(range(len(walks)))
        while under_way:
            for k in list(under_way):
                try:
                    newest[k] = next(walks[k]) or newest[k]
                except StopIteration:
                    under_way.remove(k)
                yield None
            if under_way:
                lanes = zip(request.lanes, newest, strict=True)  # each has shown something by now
                yield Comparison(tuple(ModelLane(lane, shown) for lane, shown in lanes if shown is not None))


def _shown(engine: Engine, request: CompareRequest, budget: Budget) -> Iterator[Comparison | None]:
    """The first model attacked; each image of its walk looked at by the others."""
    source, *others = request.lanes
    watchers = [_TransferLane(engine, lane, source.model) for lane in others]
    with closing(attack_work(engine, source, budget)()) as walk:
        for item in walk:
            if item is None:
                yield None
                continue
            snapshot = item
            for watcher in watchers:
                while watcher.has_work(snapshot):
                    watcher.look(snapshot.trace)
                    yield None
            yield _with_source(source, snapshot, watchers)
    for watcher in watchers:
        if snapshot.result is not None:  # as it is at a walk's end
            watcher.judge(snapshot.trace, snapshot.result)
        yield None
        while watcher.map.advance() is None:
            yield None
    yield _with_source(source, snapshot, watchers)


def _with_source(source: AttackRequest, snapshot: Snapshot, watchers: list[_TransferLane]) -> Comparison:
    lanes = (watcher.lane(snapshot) for watcher in watchers)
    return Comparison((ModelLane(source, snapshot, is_source=True), *lanes))


class _TransferLane:
    """A model that looks at another one's walk, some frames a pass; each frame once."""

    def __init__(self, engine: Engine, request: AttackRequest, source: str):
        self.request, self.source, self.device = request, source, engine.device
        self.model, self.map = engine.model(request.model), engine.plane(request.model)
        self._rng = seeded(derived_seed(request.seed, SHOWN))
        self._x0 = picture(engine, request)
        self._draws = _draws(request)
        self._frames_per_pass = max(1, min(FRAMES_PER_PASS, PASS // self._draws))
        self._rows: dict[str, list[np.ndarray]] = {"logits": [], "features": [], "loss": [], "reached": []}
        self._seen, self._passes, self._seconds = 0, 0, 0.0
        self._before: dict[str, Any] = {}  # of its answer to the untouched image, once it has looked
        self._result: Result | None = None
        self._trace: Trace | None = None

    def has_work(self, snapshot: Snapshot) -> bool:
        """Whether frames wait: a full pass of them, the untouched image, or the last ones of a finished walk.

        Never by the clock, so that the same request is cut into the same passes and gives the same numbers.
        """
        waiting = len(snapshot.trace) - self._seen
        ends = self._seen == 0 or snapshot.result is not None
        return waiting >= self._frames_per_pass or (waiting > 0 and ends)

    def look(self, trace: Trace) -> None:
        """One pass over the frames that come next."""
        began = time.perf_counter()
        end = 1 if self._seen == 0 else min(self._seen + self._frames_per_pass, len(trace))
        x = torch.from_numpy(trace.frames[self._seen : end].copy()).to(self.device)  # (F,C,H,W)
        goal, first = goal_of(trace.label, trace.also, trace.target, self.device), self._seen == 0
        rng = seeded(derived_seed(self.request.seed, FIRST_LOOK)) if first else self._rng
        draws = verdict_draws(self.model) if first else self._draws
        with torch.no_grad(), use_generator(rng):
            logits, features = self.model.both(x.repeat_interleave(draws, 0))  # (F*draws,K), (F*draws,D)
        logits = logits.float()
        losses = goal.repeated(len(logits)).loss(logits, self._loss())
        mean = _mean(logits, draws)
        reached = goal.repeated(len(mean)).reached(mean)
        if first:
            self._before = first_answer(logits, trace.label)
            reached = reached_in_most(logits[:, None], goal)
        rows = {
            "logits": mean,
            "features": _mean(features.float(), draws),
            "loss": _mean(losses, draws),
            "reached": reached,
        }
        for name, value in rows.items():
            if not bool(torch.isfinite(value).all()):
                raise FloatingPointError(
                    f"the {name} of {self.request.model} at steps {self._seen} to {end - 1} are not finite"
                )
            self._rows[name].append(value.cpu().numpy())
        self._seen, self._passes, self._trace = end, self._passes + len(logits), None
        self._seconds += time.perf_counter() - began

    def judge(self, trace: Trace, of_source: Result) -> None:
        """The last word on the image that counts, the source walk's best one, on draws nobody has seen."""
        began, best = time.perf_counter(), of_source.best
        x = torch.from_numpy(trace.frames[best : best + 1].copy()).to(self.device)
        rng = seeded(derived_seed(self.request.seed, LAST_WORD))
        theta = None if trace.theta is None else torch.from_numpy(trace.theta[best : best + 1]).to(self.device)
        goal = goal_of(trace.label, trace.also, trace.target, self.device)
        verdict = verify(self.model, x, self._x0, goal, self.request.threat, rng, theta=theta)
        self._seconds += time.perf_counter() - began
        walk = self._walk(trace)
        conditions = self._conditions(of_source.conditions) | {
            "ending": ending(walk, verdict).value,
            "forwards": self._passes,  # of this model; the source's passes stand with the source
            "backwards": 0,
            "verdict_draws": verdict.draws,
            "seconds": round(self._seconds, 3),
        }
        self._trace = dataclasses.replace(walk, conditions=conditions)
        self._result = Result(best, verdict, conditions)

    def lane(self, snapshot: Snapshot) -> ModelLane:
        trace = self._walk(snapshot.trace)
        shown = Snapshot(trace, self._feature_path(trace), self._result, self._seconds)
        return ModelLane(self.request, shown, self.source)

    def _walk(self, trace: Trace) -> Trace:
        """The source's walk as far as this model has seen it, with this model's own answers."""
        if self._trace is None:
            seen = {name: np.concatenate(parts) for name, parts in self._rows.items()}
            self._trace = dataclasses.replace(
                trace,
                frames=trace.frames[: self._seen],
                logits=seen["logits"],
                features=seen["features"],
                loss=seen["loss"],
                linf=trace.linf[: self._seen],
                l2=trace.l2[: self._seen],
                reached=seen["reached"],
                degenerate=np.zeros(self._seen, bool),  # no gradient was asked of this model
                conditions=self._conditions(trace.conditions),
                certified=None,  # of the source
                notes=(),  # they speak of the attack
            )
        return dataclasses.replace(self._trace, planned=trace.planned)

    def _conditions(self, of_source: Mapping[str, Any]) -> dict[str, Any]:
        card = zoo.card(self.request.model)
        return dict(of_source) | {
            "model": self.request.model,
            "weights": card.sha256,
            "stochastic": self.model.stochastic,
            "draws": self._draws,
            "threat": "transfer",
            "source_model": self.source,
            "source_threat": of_source["threat"],
            "source_weights": of_source["weights"],
            **self._before,
        }

    def _feature_path(self, trace: Trace) -> FeaturePath | None:
        if self.map.plane is None:
            return None
        counts = len(trace) - 1 if self._result is None else self._result.best
        return feature_path(
            self.map.plane, trace.features, trace.label, trace.target, int(trace.predicted[counts]), counts
        )

    def _loss(self) -> LossName:
        """Of the images alone: KL divergence would be from the answer of the source to the untouched one."""
        loss = self.request.method.loss
        return "ce" if loss == "kl" else loss


def _mean(values: Tensor, draws: int) -> Tensor:
    """(F*draws,...) -> (F,...), the mean over each frame's draws."""
    return values.view(-1, draws, *values.shape[1:]).mean(1)


def _draws(request: AttackRequest) -> int:
    """How many passes a look at one frame takes: one of a model that always answers alike."""
    return request.draws if zoo.card(request.model).stochastic else 1
