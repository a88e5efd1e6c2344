"""Images under attack, watched in feature space: how the cloud moves on one model, or on two side by side.

What is kept is small: of each image its features at some of the steps, and its best image so far. Where a path lies on a
map is asked of the map (`paths_on`), so that changing the map needs no new attack.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.core import Best, Classifier, Goal, InvalidValue, Step, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.data import raw
from explorer.engine.engine import Engine
from explorer.engine.many import MANY, ManyRequest, into, joined, rows_of
from explorer.engine.request import Budget, as_text
from explorer.engine.rows import Rows
from explorer.engine.tracing import FIRST_LOOK, LAST_WORD, Clock, described, made_on
from explorer.evaluation.robustness import ANYWHERE, classified_right
from explorer.evaluation.verdict import Verdict, verdict_draws, verify
from explorer.features import FeatureMap, K, Maps, check_features
from explorer.features.measures import (
    DETECTORS,
    Detection,
    Distances,
    Interval,
    Shift,
    detect,
    false_classes,
    mean_interval,
    scatter_ratio,
    shift,
    silhouettes,
    to_centres,
)
from explorer.features.reference import draws_of
from explorer.models import zoo

IMAGES = 64  # whose paths are recorded at once
FRAMES = 32  # recorded steps of a walk, at most; a longer one is recorded at every second step, or third ...
AT_ONCE = 64  # images times draws in one look
LOOKING = 7  # stream of randomness: a stochastic model's draws when its features are looked at, the same at each step


@dataclass(frozen=True)
class CloudRequest(ManyRequest):
    """Which images are attacked how, and on which model or two; equal requests give equal clouds.

    As `ManyRequest`, with more pictures, and `beside`: a second model of the same dataset, attacked on the same pictures
    (each model on its own: white-box). With pick "right", pictures that all the models get right.
    """

    most: ClassVar[int] = IMAGES
    link: ClassVar[Mapping[str, str]] = ManyRequest.link | {"beside": "beside"}

    beside: str | None = None
    each: tuple[ManyRequest, ...] = field(init=False, repr=False, compare=False)  # one a model

    def __post_init__(self) -> None:
        super().__post_init__()
        each = [self]
        if self.beside is not None:
            if as_text("beside", self.beside) == self.model:
                raise InvalidValue(f"beside must be another model than {self.model}; got the same one.")
            each.append(dataclasses.replace(self, model=self.beside, beside=None))
        object.__setattr__(self, "each", tuple(each))

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(request.model for request in self.each)

    @property
    def passes(self) -> int:
        return self.count * sum(request.one.passes for request in self.each)

    def to_query(self) -> dict[str, str]:
        return super().to_query() | ({} if self.beside is None else {"beside": self.beside})

    def chosen_words(self) -> str:
        words = super().chosen_words()
        return words if self.beside is None else words.replace("the model gets right", "both models get right")

    def title(self) -> str:
        """One line, as of `ManyRequest`; of two models both."""
        title = super().title()
        return title if self.beside is None else title.replace(self.model, f"{self.model} and {self.beside}", 1)


@dataclass(frozen=True, eq=False)
class Measured:
    """The finished cloud of one model in numbers. `n` of them are the images attacked: those classified right before."""

    toward: np.ndarray  # (N,) the class each image is taken to move toward, see `false_classes`; -1 if not attacked
    distances: tuple[Distances | None, ...]  # (N,) of (T,): along each attacked image's path
    shift: Shift | None  # toward the false classes, over the n attacked images
    neighbours_before: np.ndarray  # (N,) class of most of the K nearest reference images, its own left out
    neighbours_after: np.ndarray  # (N,)
    silhouette: dict[str, Interval]  # "before", "after": mean over the attacked images, each among all reference images
    scatter: dict[str, float]  # "before", "after": within/between, of all reference images, the attacked in their new place
    among: dict[str, float] | None  # the same of the attacked images alone; None if they are of one class
    off_map: np.ndarray  # (N,) percentile of the gauge at the end, see `explorer.features.Gauge`
    detections: dict[str, Detection | None]  # by DETECTORS: the images that fell against themselves before; None if none fell


@dataclass(frozen=True, eq=False)
class Lane:
    """One model's cloud as it stands now: N images, T frames, the first of them the untouched images."""

    model: str
    maps: Maps  # the reference images on PCA, and on UMAP if that was computed
    right: np.ndarray  # (N,) bool, before anything is changed: the images that are attacked; the others stay
    before: np.ndarray  # (N,) class the untouched image is taken for
    after: np.ndarray  # (N,) class it is taken for now; in the end on fresh looks
    fooled: np.ndarray  # (N,) bool; likewise
    features: np.ndarray  # (T,N,D) float32; of a stochastic model the mean over `draws` passes, the same at each frame
    predicted: np.ndarray  # (T,N) class at each frame, on the same passes
    steps: np.ndarray  # (T,) which of the attack's steps each frame is: 0 untouched; the finished lane's last: the best
    planned: int  # frames the finished lane will have
    images: np.ndarray  # (N,C,H,W) float32, the best so far
    draws: int
    measured: Measured | None = None  # in the end
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)


@dataclass(frozen=True, eq=False)
class Cloud:
    """The same images on one model or two, so far, whole."""

    request: CloudRequest
    rows: np.ndarray  # (N,) of the bundled sample
    labels: np.ndarray  # (N,)
    originals: np.ndarray  # (N,C,H,W) float32
    lanes: tuple[Lane, ...]
    seconds: float  # of computing

    @property
    def finished(self) -> bool:
        return all(lane.finished for lane in self.lanes)


def paths_on(ground: FeatureMap, lane: Lane) -> np.ndarray:
    """(T,N,d) float32: where the lane's images stand on a map of its model."""
    frames, images, width = lane.features.shape
    return ground.place(lane.features.reshape(-1, width)).numpy().reshape(frames, images, -1)


def side_by_side(lanes: tuple[Lane, ...], method: str = "pca", axes: int = 2) -> tuple[FeatureMap, ...]:
    """Each lane's map, as `aligned`."""
    return aligned([lane.maps for lane in lanes], method, axes)


def aligned(maps: Sequence[Maps], method: str = "pca", axes: int = 2) -> tuple[FeatureMap, ...]:
    """A map of each; all turned onto the first, on the same reference images. Raises as `Maps.of` does."""
    grounds = [own.of(method, axes) for own in maps]
    return (grounds[0], *(ground.turned_onto(grounds[0]) for ground in grounds[1:]))


def maps_work(engine: Engine, models: Sequence[str]) -> Callable[[], Iterator[tuple[Maps, ...] | None]]:
    """Work whose first item is the maps of these models, once their reference images have been through them
    (`engine.plane(name).progress`); when it is done, what maps and clusters are worth has been measured, too: `kept` of
    both PCA maps and `clusters` then answer at once."""

    def work() -> Iterator[tuple[Maps, ...] | None]:
        found = []
        for name in models:
            check_features(engine.model(name))
            ahead = engine.plane(name)
            while ahead.advance() is None:
                yield None
            found.append(ahead.maps)
        yield tuple(found)
        for maps in found:
            for measure in (maps.kept, lambda maps=maps: maps.kept(axes=3), maps.clusters):
                measure()
                yield None

    return work


def cloud_work(engine: Engine, request: CloudRequest, budget: Budget = MANY) -> Callable[[], Iterator[Cloud | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if the request asks for more than `budget`.

    Its items are whole; None while the reference images go through the models (`engine.plane(name).progress`).
    """
    request.within(budget)
    return lambda: _timed(_Watching(engine, request))


def _timed(job: _Watching) -> Iterator[Cloud | None]:
    """The job's items; its clock stands while others have their turn."""
    work = job.work()
    try:
        for item in work:
            yield job.clock.stopped(item)
            job.clock.go()
    finally:
        work.close()


class _Watching:
    """All models of a request, in turn."""

    def __init__(self, engine: Engine, request: CloudRequest):
        self.engine, self.request, self.clock = engine, request, Clock()

    def work(self) -> Iterator[Cloud | None]:
        engine, request = self.engine, self.request
        walkers = [_Walker(engine, one, request.chosen_words()) for one in request.each]
        for walker in walkers:
            yield from walker.prepare()
        rows, verdicts = yield from self._pictures([walker.model for walker in walkers])
        pixels, labels, _ = raw(request.dataset, "test", "sample")
        x0, labels = (pixels[rows].float() / 255).to(engine.device), labels[rows]
        for walker, verdict in zip(walkers, verdicts, strict=True):
            yield from walker.begin(rows, x0, labels, verdict)
        originals = x0.cpu().numpy()

        def so_far() -> Cloud:
            lanes = tuple(walker.lane for walker in walkers)
            return Cloud(request, np.array(rows), labels.numpy(), originals, lanes, self.clock.seconds)

        yield so_far()
        walks = [walker.walk() for walker in walkers]
        while walks:
            for walk in list(walks):
                news = next(walk, _OVER)
                if news is _OVER:
                    walks.remove(walk)
                yield so_far() if news else None  # the end of a walk is news

    def _pictures(self, models: list[Classifier]) -> Generator[None, None, tuple[list[int], list[Verdict]]]:
        """The rows, and each model's verdict on the untouched pictures."""
        request = self.request
        rng = [seeded(derived_seed(request.seed, FIRST_LOOK)) for _ in models]
        pool = request.candidates if request.pick == "right" else request.candidates[: request.count]
        pixels, labels, _ = raw(request.dataset, "test", "sample")
        rows: list[int] = []
        verdicts: list[list[Verdict]] = [[] for _ in models]
        for at in range(0, len(pool), AT_ONCE // 4):
            some = list(pool[at : at + AT_ONCE // 4])
            x, y = (pixels[some].float() / 255).to(self.engine.device), labels[some]
            goal = Goal.untargeted(y.to(self.engine.device))
            seen = []
            for model, draws in zip(models, rng, strict=True):
                seen.append(verify(model, x, x, goal, ANYWHERE, draws))
                yield None
            kept = torch.ones(len(some), dtype=torch.bool)
            if request.pick == "right":
                for verdict in seen:
                    kept &= classified_right(verdict, y)
                kept &= kept.cumsum(0) <= request.count - len(rows)
            rows += [row for row, keep in zip(some, kept.tolist(), strict=True) if keep]
            for parts, verdict in zip(verdicts, seen, strict=True):
                parts.append(rows_of(verdict, kept))
            if len(rows) == request.count:
                return rows, [joined(parts) for parts in verdicts]
        raise InvalidValue(
            f"Only {len(rows)} of these {len(pool)} pictures are classified right by {' and '.join(request.models)}; "
            f"{request.count} were asked for."
        )


_OVER = object()


class _Walker:
    """One model: its walk over the images it gets right, and the lane that grows with it."""

    def __init__(self, engine: Engine, request: ManyRequest, chosen: str):
        self.engine, self.request, self.chosen = engine, request, chosen
        self.model = engine.model(request.model)
        check_features(self.model)
        self.map_work = engine.plane(request.model)
        self.draws = draws_of(self.model)
        self._at_once = max(1, AT_ONCE // self.draws)
        self.lane: Lane | None = None

    def prepare(self) -> Iterator[None]:
        """The reference images through the model."""
        while self.map_work.advance() is None:
            yield None
        self.maps = self.map_work.maps

    def begin(self, rows: list[int], x0: Tensor, labels: Tensor, verdict: Verdict) -> Iterator[None]:
        """The lane before anything is changed. rows, x0 (N,C,H,W), labels (N,) and the verdict on the clean images."""
        self.x0, self.labels = x0, labels
        self.right = classified_right(verdict, labels).numpy()
        self.attacked = np.flatnonzero(self.right)
        places = {int(row): k for k, row in enumerate(self.maps.reference.rows.tolist())}
        self.own_rows = np.array([places.get(row, -1) for row in rows])
        self.planned = _frames(self.request.one.frames - 1) if len(self.attacked) else 1
        self._frames = Rows(self.planned)
        yield from self._record(x0, 0)
        predicted = verdict.predicted.numpy()
        self.lane = Lane(
            model=self.request.model,
            maps=self.maps,
            right=self.right,
            before=predicted,
            after=predicted,
            fooled=np.zeros(len(rows), bool),
            **self._frames.arrays(),
            planned=self.planned,
            images=x0.cpu().numpy(),
            draws=self.draws,
        )

    def walk(self) -> Iterator[bool]:
        """Whether there is news, until the attack has ended and everything is measured."""
        if not len(self.attacked):
            self.lane = dataclasses.replace(self.lane, conditions=self._conditions(None, self.lane.measured))
            return
        keep = torch.from_numpy(self.attacked)
        x0, labels = self.x0[keep.to(self.x0.device)], self.labels[keep].to(self.x0.device)
        request, target = self.request, self.request.target
        goal = Goal.untargeted(labels) if target is None else Goal.targeted(labels * 0 + target)
        best = Best(request.is_minimal)
        for count, step in enumerate(request.one.method.walk(self.model, x0, goal, request.one.ball, seeded(request.seed)), 1):
            best.add(self._ranked(step))
            stride = _stride(step.total + 1)
            if count % stride:
                yield False
                continue
            yield from self._record(self._all(step.x), count)
            self.planned = len(self._frames) + max(1, 1 + (step.total + 1 - count) // stride)
            self._grow(best)
            yield True
        outcome = best.outcome()
        yield from self._record(self._all(outcome.x), count)
        rng = seeded(derived_seed(request.seed, LAST_WORD))
        parts = []
        for some in torch.arange(len(x0), device=x0.device).split(AT_ONCE // 4):
            parts.append(verify(self.model, outcome.x[some], x0[some], goal.rows(some), request.one.ball, rng))
            yield False
        verdict = joined(parts)
        won = verdict.reached if target is not None else ~classified_right(verdict, labels.cpu())
        self.planned = len(self._frames)
        self._grow(best, into(self.lane.fooled, self.attacked, (won & verdict.inside).numpy()), verdict.predicted.numpy())
        yield True
        yield from self._measure(best, verdict)

    def _ranked(self, step: Step) -> Step:
        """On a stochastic model a step's own verdict is noise: the mean loss chooses, as in `engine.many`."""
        if not bool(torch.isfinite(step.logits).all()):
            raise FloatingPointError(f"the logits of step {step.index} are not finite")
        by_loss = self.model.stochastic and not self.request.is_minimal
        return dataclasses.replace(step, reached=torch.zeros_like(step.reached)) if by_loss else step

    def _all(self, x: Tensor) -> Tensor:
        """(N,C,H,W): the attacked images at x (A,C,H,W), the others as they were."""
        whole = self.x0.clone()
        whole[torch.from_numpy(self.attacked).to(x.device)] = x.detach()
        return whole

    def _record(self, x: Tensor, step: int) -> Iterator[None]:
        """One frame: where all images stand. Those that are not attacked are looked at once."""
        frame = {"steps": np.int64(step)}
        if len(self._frames):
            frame |= {name: self._frames.arrays()[name][-1].copy() for name in ("features", "predicted")}
        others = [] if len(self._frames) else [np.flatnonzero(~self.right)]
        for where in (self.attacked, *others):  # apart, so that the attacked get the same draws at every step
            rng = seeded(derived_seed(self.request.seed, LOOKING))
            for some in np.split(where, range(self._at_once, len(where), self._at_once)):
                if not len(some):
                    continue
                logits, features = _look(self.model, x[torch.from_numpy(some).to(x.device)], self.draws, rng)
                for name, values in (("features", features.numpy()), ("predicted", logits.argmax(1).numpy())):
                    if name not in frame:
                        frame[name] = np.zeros((len(x), *values.shape[1:]), values.dtype)
                    frame[name][some] = values
                yield None
        self._frames.add(frame)

    def _grow(self, best: Best, fooled: np.ndarray | None = None, predicted: np.ndarray | None = None) -> None:
        frames = self._frames.arrays()
        if fooled is None:
            predicted = frames["predicted"][-1][self.attacked]
            fooled = into(self.lane.fooled, self.attacked, best.success.cpu().numpy())
        self.lane = dataclasses.replace(
            self.lane,
            **frames,
            planned=max(self.planned, len(self._frames)),
            images=self._all(best.x).cpu().numpy(),
            fooled=fooled,
            after=into(self.lane.before, self.attacked, predicted),
        )

    def _measure(self, best: Best, verdict: Verdict) -> Iterator[bool]:
        measured = yield from _measured(self.lane, self.labels.numpy(), self.own_rows, self.request.target)
        self.lane = dataclasses.replace(self.lane, measured=measured, conditions=self._conditions(best, verdict))

    def _conditions(self, best: Best | None, verdict: Verdict | None) -> dict[str, Any]:
        request = self.request
        about = described(request.one)
        del about["image"]
        about |= {
            "weights": zoo.card(request.model).sha256,
            "stochastic": self.model.stochastic,
            "feature_draws": self.draws,
            "pictures": len(self.right),
            "attacked": len(self.attacked),
            "chosen": self.chosen,
            "reference_images": len(self.maps.reference.labels),
            "neighbours": K,
            "verdict_draws": verdict_draws(self.model),
            **made_on(self.engine.description),
        }
        if best is not None:
            last = best.last
            about["forwards"], about["backwards"] = int(last.forwards.sum()), int(last.backwards.sum())
            about["stalled_share"] = best.degenerate_share
        return about


def _measured(lane: Lane, labels: np.ndarray, rows: np.ndarray, target: int | None) -> Generator[bool, None, Measured]:
    """All measures of a lane that has ended; rows (N,) of the images among the reference images, -1 for others."""
    maps, at = lane.maps, np.flatnonzero(lane.right)
    reference, ground = maps.reference, maps.neighbours
    clean, attacked = lane.features[0], lane.features[-1]
    toward = np.full(len(labels), -1)
    toward[at] = false_classes(attacked[at], labels[at], lane.after[at], maps.centers, target)
    ways = tuple(
        to_centres(lane.features[:, k], maps.centers, int(labels[k]), int(toward[k])) if lane.right[k] else None
        for k in range(len(labels))
    )
    moved = shift(clean[at], attacked[at], labels[at], toward[at], maps.centers)
    yield False
    voted = [ground.classes(points, rows) for points in (clean, attacked)]
    off = ground.gauge(attacked, rows).percentile
    yield False
    silhouette, scatter = {}, {}
    for name, points in (("before", clean), ("after", attacked)):
        cloud, classes, mine = _among(reference.features.numpy(), reference.labels.numpy(), rows[at], points[at], labels[at])
        silhouette[name] = mean_interval(silhouettes(cloud, classes)[mine])
        scatter[name] = scatter_ratio(cloud, classes)
        yield False
    among = None
    if 2 <= len(np.unique(labels[at])) < len(at):
        among = {"before": scatter_ratio(clean[at], labels[at]), "after": scatter_ratio(attacked[at], labels[at])}
    fell = np.flatnonzero(lane.fooled)
    detections: dict[str, Detection | None] = dict.fromkeys(DETECTORS)
    for key in DETECTORS if len(fell) else ():
        one, two = (clean[fell], lane.before[fell]), (attacked[fell], lane.after[fell])
        detections[key] = detect(key, ground, *one, *two, rows[fell], rows[fell])
        yield False
    return Measured(toward, ways, moved, *voted, silhouette, scatter, among, off, detections)


def _among(
    features: np.ndarray, labels: np.ndarray, rows: np.ndarray, points: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference features (M,D) with these points (n,D) in the places of their own images, or behind them where there are
    none; labels; and where each point stands."""
    cloud, classes = features.copy(), labels
    inside = rows >= 0
    cloud[rows[inside]] = points[inside]
    where = rows.copy()
    where[~inside] = len(cloud) + np.arange((~inside).sum())
    return np.concatenate([cloud, points[~inside]]), np.concatenate([classes, own[~inside]]), where


def _look(model: Classifier, x: Tensor, draws: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean logits (b,K) and features (b,D) float32 on the CPU. Nothing is yielded while gradients are off."""
    with torch.no_grad(), use_generator(rng):
        logits, features = model.both(x.repeat_interleave(draws, 0))
    found = tuple(values.float().view(len(x), draws, -1).mean(1).cpu() for values in (logits, features))
    if not all(bool(torch.isfinite(values).all()) for values in found):
        raise FloatingPointError("the model's features are not finite")
    return found


def _stride(steps: int) -> int:
    return max(1, math.ceil(steps / FRAMES))


def _frames(steps: int) -> int:
    """Of a walk that yields so many steps: the untouched images, the recorded steps, the best."""
    return 1 + steps // _stride(steps) + 1
