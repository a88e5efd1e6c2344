"""Recording one attack on one image as a trace, frame by frame, and the last word on its result."""

from __future__ import annotations

import dataclasses
import platform
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import explorer
from explorer.attacks import ATTACKS, BLACK_BOX
from explorer.certify.certifiers.lipschitz import Proof
from explorer.core import Classifier, FeaturePath, Goal, InvalidValue, Step, Trace, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.core.steps import Domains
from explorer.data import dataset, raw
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.labels import goal_of, settled
from explorer.engine.request import PAGE, AttackRequest, Budget, eps_text
from explorer.engine.rows import Rows
from explorer.evaluation.outcome import Ending, ending, first_answer, reached_in_most
from explorer.evaluation.verdict import Verdict, verdict_draws, verify
from explorer.features import FeatureMap, feature_path
from explorer.models import zoo
from explorer.models.lipschitz_net import LipschitzNet

T = TypeVar("T")

FIRST_LOOK, LAST_WORD = 1, 2  # streams of randomness beside the attack's own, so that neither disturbs it
PASSES_KEPT = 64  # between two steps; a step's image is looked for among them


class Tap(nn.Module):
    """A classifier that remembers the features of its latest passes, so that no pass is spent twice.

    To an attack it is the model: callable, with all of the model's own names.
    """

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model
        self.training = model.training
        self._passes: deque[tuple[Tensor, Tensor]] = deque(maxlen=PASSES_KEPT)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, pixels: Tensor) -> Tensor:
        logits, features = self.model.both(pixels)
        self._passes.append((pixels.detach().clone(), features.detach()))  # an attack may go on in place
        return logits

    def take(self, x: Tensor) -> Tensor | None:
        """(D,) features at x (1,C,H,W), the mean over its draws since the last `take`; NaN if it was not looked at, None
        if nothing was."""
        if not self._passes:
            return None
        pixels, features = (torch.cat(parts) for parts in zip(*self._passes, strict=True))
        self._passes.clear()
        there = (pixels == x).flatten(1).all(1)
        if x.device.type == "cpu":
            return features[there].float().mean(0)
        return (
            torch.where(there[:, None], features.float(), 0).sum(0) / there.sum()
        )  # a mask as index would wait for a GPU


@dataclass(frozen=True, eq=False)
class Result:
    """What came of it."""

    best: int  # the frame that counts
    verdict: Verdict  # of that frame, on fresh draws; tensors of one entry, on the CPU
    conditions: dict[str, Any]  # everything needed to repeat and to judge it, as plain values

    @property
    def ending(self) -> Ending:
        """What came of it, in one word; raises KeyError if the conditions are not those of a finished walk."""
        return Ending(self.conditions["ending"])


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The walk so far, whole; `result` stands in the last one, the map once the model's plane is known."""

    trace: Trace
    feature_path: FeaturePath | None
    result: Result | None
    seconds: float  # of computing, so far
    cold: float = 0.0  # of them, until the first step was made: most of these go into a model's first passes


class _Record:
    """One image's walk as it grows."""

    def __init__(self, x0: Tensor, goal: Goal, label: int, request: AttackRequest, conditions: dict):
        self.goal, self.label, self.classes, self.minimal = goal, label, request.classes, request.is_minimal
        self.planned, self._rows = request.frames, Rows(request.frames)
        self.conditions = conditions | {"starts": []}  # frames at which a try begins
        self.notes: tuple[str, ...] = ()
        self._original = x0[0].cpu().double().numpy()

    @property
    def length(self) -> int:
        return len(self._rows)

    def add(self, row: dict[str, np.ndarray]) -> None:
        """One frame (see `_fetched`). Raises FloatingPointError if its image, logits or features are not finite."""
        change = row["frames"] - self._original
        row = row | {
            "linf": np.abs(change).max(),
            "l2": np.sqrt((change**2).sum()),
            "reached": np.bool_(row["reached"]),
            "degenerate": np.bool_(row["degenerate"]),
            "passes": np.int64(row["passes"]),
        }
        for name in ("frames", "logits", "features"):
            if not np.isfinite(row[name]).all():
                raise FloatingPointError(f"the {name} of step {self.length} are not finite")
        self._rows.add(row)

    def note(self, words: str) -> None:
        """What the frame just added says of itself, if there is anything to say."""
        if words:
            silent = self.length - 1 - len(self.notes)  # frames before this one that had nothing to say
            self.notes = (*self.notes, *[""] * silent, words)

    def begin_try(self) -> None:
        self.conditions = self.conditions | {"starts": [*self.conditions["starts"], self.length]}

    def trace(self) -> Trace:
        target = int(self.goal.labels[0]) if self.goal.is_targeted else None
        return Trace(
            **self._rows.arrays(),
            label=self.label,
            target=target,
            classes=self.classes,
            planned=max(self.planned, self.length),
            minimal=self.minimal,
            conditions=self.conditions,
            notes=self.notes,
        )


class Recorder:
    """One walk: go through `record` to its end, then ask `finish` for the result."""

    trace: Trace  # the newest: there from the first look on, as is the goal; the step from the attack's first on
    _goal: Goal
    _step: Step

    def __init__(self, model: Classifier, x0: Tensor, request: AttackRequest, conditions: dict[str, Any]):
        """x0 (1,C,H,W) on the model's device; `conditions` is what the caller knows beyond the request."""
        self.model, self.x0, self.request = model, x0, request
        self._tap = Tap(model)
        self._proof = Proof(model) if isinstance(model, LipschitzNet) else None
        self._conditions = conditions
        self._stood: list[Domains | None] = []  # of each attacked frame

    def record(self) -> Iterator[Trace]:
        """The trace after one look at the untouched image, then after each step of the attack.

        Raises FloatingPointError if the model answers with numbers that are not finite, and InvalidValue if it takes
        an upload without a label for the very class that was asked for.
        """
        record = self._first_look()
        self.trace = record.trace()
        yield self.trace
        attack, rng = self.request.method, seeded(self.request.seed)
        for step in attack.walk(self._tap, self.x0, self._goal, self.request.threat, rng):
            if not self._stood or step.restart != self._step.restart:
                record.begin_try()
            record.planned = step.total + 2
            record.add(self._row(step) | self._proven(step.x) | self._parameters(step.theta))
            record.note(self._told(step))
            self._stood.append(step.domains)
            self._step, self.trace = step, record.trace()
            yield self.trace
        self.trace = dataclasses.replace(self.trace, planned=len(self.trace))

    def finish(self, seconds: float, device: str) -> Result:
        """The last word on the walk, on draws the attack has not seen. Its conditions join the trace's."""
        trace, best = self.trace, self.trace.best
        x = torch.from_numpy(trace.frames[best : best + 1].copy()).to(self.x0.device)
        rng = seeded(derived_seed(self.request.seed, LAST_WORD))
        theta = None if trace.theta is None else torch.from_numpy(trace.theta[best : best + 1]).to(self.x0)
        verdict = verify(self.model, x, self.x0, self._goal, self.request.threat, rng, theta=theta)
        forwards, backwards = torch.stack([self._step.forwards[0], self._step.backwards[0]]).tolist()
        conditions = trace.conditions | {
            "best": best,
            "ending": ending(trace, verdict, found=not trace.minimal or bool(trace.reached[best])).value,
            "forwards": forwards,
            "backwards": backwards,
            "stalled_share": float(trace.degenerate[1:].mean()),
            "verdict_draws": verdict.draws,
            **_standing(self._stood[best - 1] if best else None),
            "seconds": round(seconds, 3),
            **made_on(device),
        }
        self.trace = dataclasses.replace(trace, conditions=conditions)
        return Result(best, verdict, conditions)

    def _first_look(self) -> _Record:
        """Frame 0, which also settles the goal."""
        request = self.request
        draws = verdict_draws(self.model)
        logits, features = self._look(self.x0, draws)  # (draws, K), (D,)
        mean = logits.mean(0, keepdim=True)
        label = settled(request, mean)
        if request.target == label:
            raise InvalidValue(f"target must differ from what the model sees; got {request.classes[label]!r}.")
        goal = self._goal = goal_of(label, request.label, request.target, self.x0.device)
        loss = goal.repeated(draws).loss(logits, request.method.loss).mean()
        known = request.label is not None
        conditions = self._conditions | described(request) | {"label": label, "label_known": known}
        if known and label != request.label:
            conditions |= {"true_label": request.label, "right": f"top {dataset(request.dataset).top}"}
        conditions |= first_answer(logits, label if known else None)
        record = _Record(self.x0, goal, label, request, conditions)
        before = reached_in_most(logits[:, None], goal), torch.zeros_like(goal.labels, dtype=torch.bool)
        row = _fetched(self.x0, mean, features, loss, *before, passes=torch.zeros_like(goal.labels))
        record.add(row | self._proven(self.x0) | self._parameters(request.threat.around(self.x0).origin))
        return record

    def _told(self, step: Step) -> str:
        if step.theta is not None:
            return self.request.threat.told(step.theta[0].tolist())
        return "" if step.domains is None else _weighed(step.domains)

    def _parameters(self, theta: Tensor | None) -> dict[str, np.ndarray]:
        """Of a frame under a transformation; nothing where points are images."""
        if theta is None or theta.ndim != 2:
            return {}
        far = self.request.threat.around(self.x0).distance(theta)
        return {"theta": theta[0].float().cpu().numpy(), "moved": far[0].double().cpu().numpy()}

    def _row(self, step: Step) -> dict[str, np.ndarray]:
        """The step's frame. Features are those of the attack's own passes, or of one more if it did not look there."""
        rest = step.loss, step.reached, step.degenerate, step.forwards + step.backwards
        features = self._tap.take(step.x)
        if features is not None:
            row = _fetched(step.x, step.logits, features, *rest)
            if not np.isnan(row["features"]).all():
                return row
        return _fetched(step.x, step.logits, self._look(step.x, 1)[1], *rest)

    def _proven(self, x: Tensor) -> dict[str, np.ndarray]:
        """How far the answer at x (1,C,H,W) is proven in L2, by one pass more in float64; nothing of a network without bounds."""
        return {} if self._proof is None else {"certified": self._proof(x)[0][0].cpu().numpy()}

    def _look(self, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
        """(draws,K) logits and (D,) features, the mean over the draws, at x (1,C,H,W)."""
        rng = seeded(derived_seed(self.request.seed, FIRST_LOOK))
        with torch.no_grad(), use_generator(rng):
            logits, features = self.model.both(x.repeat(draws, 1, 1, 1))
        return logits.float(), features.float().mean(0)


def _fetched(
    x: Tensor, logits: Tensor, features: Tensor, loss: Tensor, reached: Tensor, degenerate: Tensor, passes: Tensor
) -> dict[str, np.ndarray]:
    """One image's frame as float32 arrays (C,H,W), (K,), (D,), () ..., by one copy: each its own would make the host wait
    for a GPU six times."""
    named = {"frames": x[0], "logits": logits[0], "features": features}
    named |= {"loss": loss.view(()), "reached": reached.view(()), "degenerate": degenerate.view(())}
    named["passes"] = passes.view(()).to(x.device)  # a float32 counts to 16 million
    flat = torch.cat([t.detach().float().flatten() for t in named.values()]).cpu().numpy()
    parts = np.split(flat, np.cumsum([t.numel() for t in named.values()])[:-1])
    return {name: part.reshape(t.shape) for part, (name, t) in zip(parts, named.items(), strict=True)}


def _weighed(domains: Domains) -> str:
    """ "Weights: this model 62 %, cifar10/pgd-linf 38 %; goal reached in 1 of 2." for the one image there is."""
    shares = zip(domains.names, domains.weights[0].tolist(), strict=True)
    weights = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in shares)
    return f"Weights: {weights}; goal reached in {int(domains.reached[0].sum())} of {len(domains.names)}."


def _standing(domains: Domains | None) -> dict[str, Any]:
    """For the conditions: each domain's learned weight and loss, and whether the goal holds there."""
    if domains is None:
        return {}
    rows = zip(domains.names, domains.weights[0], domains.losses[0], domains.reached[0], strict=True)
    return {
        "domains": [
            {"name": name, "weight": round(float(weight), 4), "loss": round(float(loss), 4), "reached": bool(reached)}
            for name, weight, loss, reached in rows
        ]
    }


def described(request: AttackRequest) -> dict[str, Any]:
    """The request as plain values: part of every trace's conditions."""
    return {
        "dataset": request.dataset,
        "image": request.image,
        "model": request.model,
        "attack": request.attack,
        "hyper": request.method.to_dict(),
        "norm": request.norm,
        "eps": None if request.is_minimal else request.eps,  # nobody chose one
        "eps_text": None if request.is_minimal else eps_text(request.eps),
        "budget": request.method.budget,
        "target": request.target,
        "seed": request.seed,
        "restarts": request.restarts,
        "draws": request.draws,
        "threat": "black-box" if ATTACKS.entry(request.attack).group in BLACK_BOX else "white-box",
    }


def made_on(device: str) -> dict[str, Any]:
    """Where a result was computed, and with which versions."""
    versions = {"explorer": explorer.__version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"device": device, "versions": versions}


def attack_work(
    engine: Engine, request: AttackRequest, budget: Budget = PAGE
) -> Callable[[], Generator[Snapshot | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if the request asks for more than `budget`.

    The untouched image comes first, before anything else is computed. Where the model's map is not known yet, the
    result is shown without it before it is drawn.
    """
    asked = request.checked().within(budget)
    return lambda: _work(engine, asked)


def _work(engine: Engine, request: AttackRequest) -> Generator[Snapshot | None]:
    recorder = recorder_of(engine, request)  # loads the model: no part of the attack's seconds
    yield from timed(lambda clock: _recorded(engine, recorder, clock))


def _recorded(engine: Engine, recorder: Recorder, clock: Clock) -> Generator[Snapshot | None]:
    maps_work = engine.plane(recorder.request.model)
    cold = 0.0
    for trace in recorder.record():
        seconds = clock.seconds
        cold = seconds if len(trace.frames) <= 2 else cold
        yield Snapshot(trace, on_map(maps_work.plane, trace), None, seconds, cold)
    result = recorder.finish(clock.seconds, engine.description)
    trace, seconds = recorder.trace, clock.seconds
    if maps_work.plane is None:
        yield Snapshot(trace, None, result, seconds, cold)
        while maps_work.advance() is None:
            yield None
    yield Snapshot(trace, on_map(maps_work.plane, trace), result, seconds, cold)


def recorder_of(engine: Engine, request: AttackRequest) -> Recorder:
    """Ready to record the request's walk."""
    model = engine.model(request.model)
    facts = {"weights": zoo.card(request.model).sha256, "stochastic": model.stochastic}
    return Recorder(model, picture(engine, request), request, facts)


def picture(engine: Engine, request: AttackRequest) -> Tensor:
    """The request's image (1,C,H,W) float32 on the engine's device; raises InvalidValue if an upload is gone."""
    if isinstance(request.image, str):
        pixels = engine.upload(request.image)
        shape = dataset(request.dataset).shape
        if tuple(pixels.shape) != shape:
            raise InvalidValue(f"a picture for {request.dataset} must have shape {shape}; got {tuple(pixels.shape)}.")
    else:
        pixels = raw(request.dataset, "test", "sample")[0][request.image].float() / 255
    return pixels[None].to(engine.device, torch.float32)


def on_map(ground: FeatureMap | None, trace: Trace) -> FeaturePath | None:
    """A trace on a map of two axes, PCA or UMAP: a snapshot's `feature_path` is on PCA, and needs no new attack to be
    put on another (`engine.plane(name).maps`)."""
    if ground is None:
        return None
    counts = trace.best
    return feature_path(ground, trace.features, trace.label, trace.target, int(trace.predicted[counts]), counts)
