"""Certified accuracy as work for the engine: certificates of many pictures, and the curve that they prove."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from explorer.certify import (
    Certificate,
    CertifiedAccuracy,
    CertifyParams,
    Mean,
    Precision,
    accuracy_under_noise,
    average_radius,
    certified_accuracy,
)
from explorer.certify.store import Answer, Store
from explorer.data import chosen_rows, dataset, raw
from explorer.engine.certifying import MOST, CertifyRequest, predicted_without_noise, store
from explorer.engine.clock import Clock
from explorer.engine.engine import Engine
from explorer.engine.parsing import as_text, as_whole, from_link
from explorer.engine.tracing import made_on
from explorer.models import zoo

AT_ONCE = 16  # pictures that are looked at between two turns of others
CURVE = 41  # radii at which certified accuracy is told
LINK = {name: name for name in ("model", "sigma", "count", "n0", "n", "alpha", "sound", "shuffle")} | {
    "data": "dataset"
}


@dataclass(frozen=True)
class CertifySetRequest:
    """Certificates of pictures drawn at random from the bundled test pictures, the same for every model and sigma."""

    dataset: str
    model: str
    sigma: float | None = None
    count: int = 50
    n0: int = CertifyParams.n0
    n: int = 1000
    alpha: float = CertifyParams.alpha
    precision: Precision = "float32"
    sound: bool = False
    shuffle: int = 0  # seed of the choice of pictures

    def __post_init__(self) -> None:
        most = min(MOST["pictures"], len(raw(dataset(as_text("dataset", self.dataset)).name, "test", "sample")[1]))
        count = as_whole("count", self.count, 1, most)
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "shuffle", as_whole("shuffle", self.shuffle, 0, 2**31 - 1))
        for name, value in self.single(0).options.items():
            object.__setattr__(self, name, value)

    @property
    def rows(self) -> tuple[int, ...]:
        """Of the bundled sample. More pictures begin with the same ones."""
        return chosen_rows(self.dataset, self.shuffle, self.count)

    @property
    def cap(self) -> float:
        return self.single(0).cap

    def single(self, row: int) -> CertifyRequest:
        """The certificate of one picture alone."""
        return CertifyRequest(
            self.dataset, row, self.model, self.sigma, self.n0, self.n, self.alpha, self.precision, self.sound
        )

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""
        query = {"view": "set", "data": self.dataset, "model": self.model, "sigma": repr(self.sigma)}
        for key in ("count", "n0", "n", "alpha", "shuffle"):
            if getattr(self, key) != getattr(CertifySetRequest, key):
                query[key] = repr(getattr(self, key))
        return query | ({"sound": "1"} if self.sound else {})

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> CertifySetRequest:
        """The request a link names; raises an ExplorerError for anything unfit."""
        return cls(**from_link(query, LINK, needed=("data", "model")))

    def title(self) -> str:
        """One line of conditions."""
        return (
            f"{self.model}, smoothed with sigma {self.sigma:g}: {self.count} test pictures, n0 {self.n0:,}, n {self.n:,}, "
            f"alpha {self.alpha:g} each"
        )


@dataclass(frozen=True, eq=False)
class CertifiedSet:
    """The certificates so far, whole."""

    request: CertifySetRequest
    rows: np.ndarray  # (N,) all that were asked for
    labels: np.ndarray  # (N,)
    clean: np.ndarray  # (N,) the network's class of each picture itself, without noise
    certificates: tuple[Certificate, ...]  # of the first pictures
    kept: int  # of them, how many were made before
    done: int  # draws
    total: int
    seconds: float
    conditions: Mapping[str, Any] = field(default_factory=dict)  # in the last one

    @property
    def finished(self) -> bool:
        return len(self.certificates) == len(self.rows)

    @property
    def left(self) -> float | None:
        """Seconds of computing until it is finished, at the speed of the certificates made so far; None before the first."""
        fresh = self.done - self.kept * (self.request.n0 + self.request.n)
        return (self.total - self.done) * self.seconds / fresh if fresh > 0 else None

    @property
    def labels_so_far(self) -> np.ndarray:
        """Of the pictures that have a certificate."""
        return self.labels[: len(self.certificates)]

    def curve(self, radii: Sequence[float] | None = None) -> list[CertifiedAccuracy]:
        """Certified accuracy at each radius, of the pictures so far, with pointwise 95 % Wilson intervals.

        Without `radii`: evenly from 0 to a little beyond the largest radius there can be.
        """
        if radii is None:
            radii = np.linspace(0, 1.05 * self.request.cap, CURVE).tolist()
        return certified_accuracy(self.certificates, self.labels_so_far.tolist(), radii) if self.certificates else []

    @property
    def acr(self) -> Mean | None:
        """The average certified radius, so far."""
        return average_radius(self.certificates, self.labels_so_far.tolist()) if self.certificates else None

    @property
    def natural(self) -> tuple[int, int]:
        """Pictures that the network itself gets right without noise, of all."""
        return int((self.clean == self.labels).sum()), len(self.labels)

    @property
    def noisy(self) -> Mean | None:
        """How often the network itself is right about one noisy copy, so far."""
        return accuracy_under_noise(self.certificates, self.labels_so_far.tolist()) if self.certificates else None

    @property
    def counts(self) -> dict[str, int]:
        """Pictures certified right, wrong (another class was selected), and abstentions, so far."""
        pairs = list(zip(self.certificates, self.labels_so_far.tolist(), strict=True))
        right = sum(c.label == y for c, y in pairs)
        wrong = sum(c.selected != y for c, y in pairs)
        return {"right": right, "wrong": wrong, "abstained": len(pairs) - right - wrong}


def certify_set_work(
    engine: Engine, request: CertifySetRequest, kept: Store | None = None
) -> Callable[[], Iterator[CertifiedSet | None]]:
    """What to give to `engine.submit(..., deadline=DEADLINE)`: a CertifiedSet after each pass.

    Pictures whose selected class is wrong are not estimated (see `certify`). Every certificate is kept, so that a set that
    was stopped goes on where it was.
    """
    return lambda: _certify_set(engine, request, kept or store())


def _certify_set(engine: Engine, request: CertifySetRequest, kept: Store) -> Iterator[CertifiedSet | None]:
    clock = Clock()
    model, rows = engine.model(request.model), list(request.rows)
    pixels, truth = raw(request.dataset, "test", "sample")[:2]
    pictures, labels = pixels[rows].float() / 255, truth[rows].numpy()
    clean = []
    for some in pictures.split(AT_ONCE):
        clean.append(predicted_without_noise(model, some.to(engine.device)))
        yield clock.stopped(None)
        clock.go()
    each = request.n0 + request.n
    now = CertifiedSet(
        request, np.array(rows), labels, np.concatenate(clean), (), 0, 0, each * len(rows), clock.seconds
    )
    smoothed = request.single(rows[0]).smoothed(model)
    for index, x in enumerate(pictures):
        one = request.single(rows[index])
        question = one.question(x)
        found = kept.find(question)
        if found is None:
            course: list[tuple[int, int]] = []
            for progress in smoothed.iter_certify(
                x, seed=kept.seed(question), true_label=int(labels[index]), **one.draws
            ):
                if progress.n_drawn:
                    course.append((progress.n_drawn, progress.votes))
                now = replace(now, done=index * each + progress.done, seconds=clock.seconds)
                yield clock.stopped(now)
                clock.go()
            certificate = progress.certificate
            assert certificate is not None  # in the last one
            if not certificate.skipped:
                certificate = kept.keep(question, Answer(certificate, tuple(course))).certificate
        else:
            certificate = found.certificate
        now = replace(
            now,
            certificates=(*now.certificates, certificate),
            kept=now.kept + (found is not None),
            done=(index + 1) * each,
            seconds=clock.seconds,
        )
        if now.finished:
            now = replace(now, conditions=_set_conditions(now, engine))
        yield clock.stopped(now)
        clock.go()


def _set_conditions(now: CertifiedSet, engine: Engine) -> dict[str, Any]:
    return now.request.single(int(now.rows[0])).options | {
        "model": now.request.model,
        "weights": zoo.card(now.request.model).sha256,
        "pictures": f"{len(now.rows)} drawn at random from the bundled test pictures (seed {now.request.shuffle})",
        "seeds": [c.seed for c in now.certificates],
        "caveat": now.certificates[0].caveat,
        "kept": now.kept,
        "seconds": round(now.seconds, 3),
        **made_on(engine.description),
    }
