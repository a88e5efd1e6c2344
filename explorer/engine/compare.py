"""Transfer attacks and comparisons: each of several models attacked itself, or one attacked and its walk shown to the others.

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

from explorer.core import FeaturePath, Goal, InvalidValue, Trace, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine.engine import Engine
from explorer.engine.request import PAGE, Amount, AttackRequest, Budget, Request
from explorer.engine.tracing import LAST_WORD, Result, Snapshot, attack_work, picture
from explorer.evaluation.verdict import verify
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
    """Everything that decides about a comparison.

    `attack` names the picture and the method; the model it names is always the first of `models` once it is checked.
    """

    attack: AttackRequest
    models: tuple[str, ...]
    craft: str = EACH  # "each": on every model itself; "transfer": on the first, then shown to the others

    def checked(self) -> Self:
        attack, models = self.attack.checked(), tuple(self.models)
        if self.craft not in CRAFTS:
            raise InvalidValue(f"craft must be {' or '.join(CRAFTS)}; got {self.craft!r}.")
        if len(set(models)) != len(models):
            raise InvalidValue(f"models must differ from each other; got {', '.join(models)}.")
        _check_number(models)
        for model in models:
            dataclasses.replace(attack, model=model).checked()  # refuses one of another dataset
        if self.craft == TRANSFER and attack.is_upload and attack.label is None:
            raise InvalidValue(
                "label must be known where one model's image is shown to others: say what your picture shows."
            )
        return dataclasses.replace(self, models=models, attack=dataclasses.replace(attack, model=models[0]))

    @property
    def lanes(self) -> tuple[AttackRequest, ...]:
        """The same attack with each model's name; of a transfer only the first is carried out as such."""
        return tuple(dataclasses.replace(self.attack, model=model) for model in self.models)

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
        self.attack.within(budget)
        return super().within(budget)

    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        yield "steps x restarts x models", self.frames, budget.frames, "recorded images"
        yield "steps x restarts x draws x models", self.passes, budget.passes, "forward and backward passes"

    def to_query(self) -> dict[str, str]:
        query = self.attack.to_query()
        del query["model"]
        return {"models": ",".join(self.models), "craft": self.craft} | query

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Self:
        if "models" not in query:
            raise InvalidValue("the link must name data, image and models; models is missing.")
        names = tuple(filter(None, str(query["models"]).split(",")))
        _check_number(names, fewest=0)
        attack = AttackRequest.of_link({**query, "model": names[0] if names else ""})
        return cls(attack, names, query.get("craft", EACH))


def _check_number(models: tuple[str, ...], fewest: int = MIN_MODELS) -> None:
    if not fewest <= len(models) <= MAX_MODELS:
        raise InvalidValue(f"models must be {MIN_MODELS} to {MAX_MODELS} to be compared; got {len(models)}.")


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


@dataclass(frozen=True, eq=False)
class Comparison:
    """All lanes so far, whole, in the order of the request's models."""

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
    """Every model attacked itself: the very walks that `attack_work` records of each alone."""
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
                yield Comparison(tuple(map(ModelLane, request.lanes, newest)))


def _shown(engine: Engine, request: CompareRequest, budget: Budget) -> Iterator[Comparison | None]:
    """The first model attacked; each image of its walk looked at by the others."""
    source, *others = request.lanes
    watchers = [_TransferLane(engine, lane, request.source) for lane in others]
    with closing(attack_work(engine, source, budget)()) as walk:
        for snapshot in walk:
            if snapshot is None:
                yield None
                continue
            for watcher in watchers:
                while watcher.has_work(snapshot):
                    watcher.look(snapshot.trace)
                    yield None
            yield _with_source(source, snapshot, watchers)
    for watcher in watchers:
        watcher.judge(snapshot)
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
        self._seen, self._seconds = 0, 0.0
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
        with torch.no_grad(), use_generator(self._rng):
            logits, features = self.model.both(x.repeat_interleave(self._draws, 0))  # (F*draws,K), (F*draws,D)
        logits = logits.float()
        goal = _goal(trace, self.device)
        losses = goal.repeated(len(logits)).loss(logits, self._loss())
        mean = self._mean(logits)
        rows = {
            "logits": mean,
            "features": self._mean(features.float()),
            "loss": self._mean(losses),
            "reached": goal.repeated(len(mean)).reached(mean),
        }
        for name, value in rows.items():
            if not bool(torch.isfinite(value).all()):
                raise FloatingPointError(
                    f"the {name} of {self.request.model} at steps {self._seen} to {end - 1} are not finite"
                )
            self._rows[name].append(value.cpu().numpy())
        self._seen, self._trace = end, None
        self._seconds += time.perf_counter() - began

    def judge(self, snapshot: Snapshot) -> None:
        """The last word on the image that counts, the source walk's best one, on draws nobody has seen."""
        began, trace, best = time.perf_counter(), snapshot.trace, snapshot.result.best
        x = torch.from_numpy(trace.frames[best : best + 1].copy()).to(self.device)
        rng = seeded(derived_seed(self.request.seed, LAST_WORD))
        verdict = verify(self.model, x, self._x0, _goal(trace, self.device), self.request.ball, rng)
        self._seconds += time.perf_counter() - began
        conditions = self._conditions(snapshot.result.conditions) | {
            "forwards": self._seen * self._draws,  # of this model; the source's passes stand with the source
            "backwards": 0,
            "verdict_draws": verdict.draws,
            "seconds": round(self._seconds, 3),
        }
        self._trace = dataclasses.replace(self._walk(trace), conditions=conditions)
        self._result = Result(best, verdict, conditions)

    def lane(self, snapshot: Snapshot) -> ModelLane:
        trace = self._walk(snapshot.trace)
        shown = Snapshot(trace, self._feature_path(trace), self._result, self._seconds)
        return ModelLane(self.request, shown, self.source)

    def _walk(self, trace: Trace) -> Trace:
        """The source's walk as far as this model has seen it, with this model's own answers."""
        if self._trace is None:
            seen = {name: np.concatenate(parts) for name, parts in self._rows.items()}
            cut = {name: getattr(trace, name)[: self._seen] for name in ("frames", "linf", "l2")}
            nowhere = np.zeros(self._seen, bool)  # no gradient was asked of this model
            conditions = self._conditions(trace.conditions)
            own = {"degenerate": nowhere, "notes": (), "conditions": conditions}  # the notes speak of the attack
            self._trace = dataclasses.replace(trace, **cut, **seen, **own)
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
        }

    def _feature_path(self, trace: Trace) -> FeaturePath | None:
        if self.map.plane is None:
            return None
        counts = len(trace) - 1 if self._result is None else self._result.best
        return feature_path(
            self.map.plane, trace.features, trace.label, trace.target, int(trace.predicted[counts]), counts
        )

    def _loss(self) -> str:
        return self.request.method.loss

    def _mean(self, values: Tensor) -> Tensor:
        """(F*draws,...) -> (F,...), the mean over each frame's draws."""
        return values.view(-1, self._draws, *values.shape[1:]).mean(1)


def _draws(request: AttackRequest) -> int:
    """How many passes a look at one frame takes: one of a model that always answers alike."""
    return request.draws if zoo.card(request.model).stochastic else 1


def _goal(trace: Trace, device: torch.device) -> Goal:
    """What the source's attack wanted, for one image."""
    if trace.target is None:
        return Goal.untargeted(torch.tensor([trace.label], device=device))
    return Goal.targeted(torch.tensor([trace.target], device=device))
