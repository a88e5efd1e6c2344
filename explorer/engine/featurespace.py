"""Feature cloud: images under attack, watched in feature space, on one model or on two beside each other.

What is kept is small: of each image its features at some of the steps, and its best image so far. Where a path lies on a
map is asked of the map (`paths_on`), so that changing the map needs no new attack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from explorer.core import InvalidValue
from explorer.engine.batch import BatchWalk, choose_pictures, last_word_rng, pixels_of
from explorer.engine.batch_request import MANY, ManyRequest, batch_amounts
from explorer.engine.clock import Clock, timed
from explorer.engine.cloud_measures import Measured, measure
from explorer.engine.engine import Engine
from explorer.engine.feature_frames import FeatureFrames
from explorer.engine.labels import settled_rows, true_labels
from explorer.engine.parsing import as_text, from_link
from explorer.engine.request import Amount, Budget, Request
from explorer.evaluation.verdict import Verdict
from explorer.features import FeatureMap, K, Maps, check_features

MAX_IMAGES = 64  # whose paths are recorded at once


@dataclass(frozen=True)
class CloudRequest(Request):
    """Which batch is attacked how, and on which model or two; equal (checked) requests give equal clouds.

    `beside`: a second model of the same dataset, attacked on the same pictures (each model on its own: white-box). With
    pick "right" these are pictures that all the models get right.
    """

    link = ManyRequest.link | {"beside": "beside"}
    needed = ManyRequest.needed
    advice: ClassVar[str] = ManyRequest.advice

    batch: ManyRequest
    beside: str | None = None

    def checked(self) -> Self:
        batch = self.batch.checked(MAX_IMAGES)
        if self.beside is not None:
            if as_text("beside", self.beside) == batch.model:
                raise InvalidValue(f"beside must be another model than {batch.model}; got the same one.")
            dataclasses.replace(batch, model=self.beside).checked(MAX_IMAGES)
        return dataclasses.replace(self, batch=batch)

    @cached_property
    def each(self) -> tuple[ManyRequest, ...]:
        """The batch of each model."""
        return tuple(dataclasses.replace(self.batch, model=model) for model in self.models)

    @property
    def models(self) -> tuple[str, ...]:
        return (self.batch.model,) if self.beside is None else (self.batch.model, self.beside)

    @property
    def passes(self) -> int:
        """Forward and backward passes of all models together, at most."""
        return sum(batch.passes for batch in self.each)

    def _amounts(self, budget: Budget) -> Iterable[Amount]:
        return batch_amounts(self.batch, self.passes, budget)

    def within(self, budget: Budget = MANY) -> Self:
        return super().within(budget)

    def to_query(self) -> dict[str, str]:
        return self.batch.to_query() | ({} if self.beside is None else {"beside": self.beside})

    @classmethod
    def of_link(cls, query: Mapping[str, str]) -> Self:
        beside = from_link(query, cls.link, cls.needed).get("beside")
        return cls(ManyRequest.of_link(query), beside)

    def title(self) -> str:
        """One line, as of `ManyRequest`; of two models both."""
        return self.batch.title(" and ".join(self.models))

    def chosen_words(self) -> str:
        """How the pictures were chosen."""
        return self.batch.chosen_words("the model gets" if self.beside is None else "both models get")


@dataclass(frozen=True, eq=False)
class ModelCloud:
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
class FeatureCloud:
    """The same images on one model or two, so far, whole."""

    request: CloudRequest
    rows: np.ndarray  # (N,) of the bundled sample
    labels: np.ndarray  # (N,)
    originals: np.ndarray  # (N,C,H,W) float32
    lanes: tuple[ModelCloud, ...]
    seconds: float  # of computing

    @property
    def finished(self) -> bool:
        return all(lane.finished for lane in self.lanes)


def paths_on(ground: FeatureMap, lane: ModelCloud) -> np.ndarray:
    """(T,N,d) float32: where the lane's images stand on a map of its model."""
    frames, images, width = lane.features.shape
    return ground.place(lane.features.reshape(-1, width)).numpy().reshape(frames, images, -1)


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
            while (done := ahead.advance()) is None:
                yield None
            found.append(done)
        yield tuple(found)
        for maps in found:
            clusters = (
                () if maps.reference.directions else (maps.clusters,)
            )  # a single direction holds nothing together
            for take in (maps.kept, lambda maps=maps: maps.kept(axes=3), *clusters):
                take()
                yield None

    return work


def cloud_work(engine: Engine, request: CloudRequest) -> Callable[[], Iterator[FeatureCloud | None]]:
    """What to give to `engine.submit`. Raises InvalidValue at once if the request asks for more than a page may.

    Its items are whole; None while the reference images go through the models (`engine.plane(name).progress`).
    """
    asked = request.checked().within()
    return lambda: timed(lambda clock: _work(engine, asked, clock))


def _work(engine: Engine, request: CloudRequest, clock: Clock) -> Generator[FeatureCloud | None]:
    walkers = [_CloudWalk(engine, batch, request.chosen_words()) for batch in request.each]
    for walker in walkers:
        yield from walker.prepare()
    batch = request.batch
    rows, clean = yield from choose_pictures(batch, {walker.request.model: walker.model for walker in walkers})
    x0 = pixels_of(batch.dataset, rows).to(engine.device)
    labels = torch.from_numpy(settled_rows(walkers[0].model, batch.dataset, rows, x0, batch.seed))
    for walker, verdict in zip(walkers, clean, strict=True):
        yield from walker.begin(rows, x0, labels, verdict)
    originals = x0.cpu().numpy()

    def so_far() -> FeatureCloud:
        lanes = tuple(walker.lane for walker in walkers)
        return FeatureCloud(request, np.array(rows), labels.numpy(), originals, lanes, clock.seconds)

    yield so_far()
    walks = [walker.walk() for walker in walkers]
    while walks:
        for walk in list(walks):
            news = next(walk, _OVER)
            if news is _OVER:
                walks.remove(walk)
            yield so_far() if news else None  # the end of a walk is news


_OVER = object()


class _CloudWalk:
    """One model: its walk over the images it gets right, and the cloud that moves with it."""

    def __init__(self, engine: Engine, request: ManyRequest, chosen: str) -> None:
        self.device, self.request, self.chosen = engine.description, request, chosen
        self.model = engine.model(request.model)
        check_features(self.model)
        self.maps_work = engine.plane(request.model)

    def prepare(self) -> Iterator[None]:
        """The reference images through the model."""
        while (maps := self.maps_work.advance()) is None:
            yield None
        self.maps = maps

    def begin(self, rows: list[int], x0: Tensor, labels: Tensor, clean: Verdict) -> Iterator[None]:
        """The cloud before anything is changed. rows, x0 (N,C,H,W), labels (N,) and the verdict on the clean images."""
        self.labels = labels.numpy()
        batch = self.batch = BatchWalk(self.model, self.request)
        batch.begin(x0, labels, true_labels(self.request.dataset, rows), clean)
        places = {int(row): k for k, row in enumerate(self.maps.reference.rows.tolist())}
        self.own_rows = np.array([places.get(row, -1) for row in rows])
        steps = self.request.one.frames - 1 if len(batch.attacked) else 0
        self.frames = FeatureFrames(self.model, self.request.seed, batch.attacked, steps)
        yield from self.frames.record(x0, 0)
        self.lane = ModelCloud(
            model=self.request.model,
            maps=self.maps,
            right=batch.right,
            before=batch.before,
            after=batch.before,
            fooled=np.zeros(len(rows), bool),
            **self.frames.arrays(),
            planned=self.frames.planned,
            images=x0.cpu().numpy(),
            draws=self.frames.draws,
        )

    def walk(self) -> Iterator[bool | None]:
        """True when there is news, until the attack has ended and everything is measured."""
        batch, frames, count = self.batch, self.frames, 0
        if not len(batch.attacked):
            self.lane = dataclasses.replace(self.lane, conditions=self._conditions())
            return
        for count, step in enumerate(batch.walk(), 1):
            total = step.total + 1
            if not frames.wants(count, total):
                yield None
                continue
            yield from frames.record(batch.whole(step.x), count, total)
            self._grow(batch.best.success.cpu().numpy(), frames.arrays()["predicted"][-1][batch.attacked])
            yield True
        yield from frames.record(batch.whole(batch.best.outcome().x), count)
        verdict, fooled = yield from batch.judge(last_word_rng(self.request))
        frames.planned = len(frames)
        self._grow(fooled, verdict.predicted.numpy())
        yield True
        measured = yield from measure(self.lane, self.labels, self.own_rows, self.request.target)
        self.lane = dataclasses.replace(self.lane, measured=measured, conditions=self._conditions())

    def _grow(self, fooled: np.ndarray, predicted: np.ndarray) -> None:
        """The cloud with what is recorded so far; (A,) whether the model is fooled by the best images, and what it sees."""
        batch = self.batch
        self.lane = dataclasses.replace(
            self.lane,
            **self.frames.arrays(),
            planned=max(self.frames.planned, len(self.frames)),
            images=batch.whole(batch.best.x).cpu().numpy(),
            fooled=batch.merged(np.zeros(len(batch.right), bool), fooled),
            after=batch.merged(batch.before, predicted),
        )

    def _conditions(self) -> dict[str, Any]:
        return self.batch.conditions(self.chosen, self.device) | {
            "feature_draws": self.frames.draws,
            "pictures": len(self.batch.right),
            "attacked": len(self.batch.attacked),
            "reference_images": len(self.maps.reference.labels),
            "neighbours": K,
        }
