"""Randomized smoothing as work for the engine: one picture's certificate (CERTIFY), its votes as they come in, and PREDICT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.certify import Certificate, CertifyParams, CertifyProgress, Precision, Smoothed
from explorer.certify.bounds import anytime_lower_bound, certified_radius, check_enough, largest_radius
from explorer.certify.store import FOLDER, Answer, Question, Store, picture_hash
from explorer.core import Classifier, InvalidValue, parse_number, seeded
from explorer.data.folders import cache_folder
from explorer.engine.clock import Clock
from explorer.engine.engine import Engine
from explorer.engine.request import AttackRequest, as_whole, from_link
from explorer.engine.tracing import made_on, picture
from explorer.evaluation.verdict import draw_logits, verdict_draws
from explorer.models import zoo

DEADLINE = 1800.0  # seconds of computing to give `engine.submit`: a certificate cut short certifies nothing
COPIES = 12  # noisy pictures to look at
MOST = {"n0": 10_000, "n": 100_000, "pictures": 500}  # that a page grants


def store() -> Store:
    """The certificates of this user."""
    return _store(cache_folder() / FOLDER)


@cache
def _store(folder: Path) -> Store:
    return Store(folder)


@dataclass(frozen=True)
class CertifyRequest:
    """Everything that decides about one certificate, but its draws; equal requests get the same certificate.

    Every field is checked when one is made: raises UnknownName, InvalidValue or BadCheckpoint with one sentence.
    """

    dataset: str
    image: int | str  # as in AttackRequest
    model: str
    sigma: float | None = None  # None: what the model was made for, else the default
    n0: int = CertifyParams.n0
    n: int = CertifyParams.n
    alpha: float = CertifyParams.alpha
    precision: Precision = "float32"
    sound: bool = False
    label: int | None = None  # as in AttackRequest
    one: AttackRequest = field(init=False, repr=False, compare=False)  # knows how to find the picture
    params: CertifyParams = field(init=False, repr=False, compare=False)  # sigma, n0, n and alpha

    def __post_init__(self) -> None:
        one = AttackRequest(self.dataset, self.image, self.model, norm="l2", eps=0.5, label=self.label).checked()
        params = checked(self.model, self.sigma, self.n0, self.n, self.alpha)
        values = {**params.to_dict(), "params": params, "image": one.image, "label": one.label, "one": one}
        values["sound"] = _flag("sound", self.sound)
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidValue(f"precision must be one of float32, bfloat16; got {self.precision!r}.")
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.one.classes

    @property
    def options(self) -> dict[str, Any]:
        """For `certify`, beside the model, the picture and the seed."""
        return self.params.to_dict() | {"precision": self.precision, "sound": self.sound}

    @property
    def draws(self) -> dict[str, Any]:
        """For `Smoothed.certify`: n0, n and alpha."""
        return {"n0": self.n0, "n": self.n, "alpha": self.alpha}

    def smoothed(self, model: Classifier, draws: int = 8) -> Smoothed:
        """`draws`: of a pass when it is attacked."""
        return Smoothed(model, self.params.sigma, precision=self.precision, sound=self.sound, draws=draws)

    @property
    def cap(self) -> float:
        """The radius that no certificate with these draws can exceed."""
        return largest_radius(self.params.sigma, self.n, self.alpha)

    def question(self, x: Tensor) -> Question:
        """For the store; x (C,H,W)."""
        return Question(zoo.card(self.model).identity, picture_hash(x), **self.options)

    def to_query(self) -> dict[str, str]:
        """Names and values of a link that `from_query` turns into an equal request; defaults are left out."""
        query = {"data": self.dataset, "image": str(self.image), "model": self.model, "sigma": f"{self.sigma!r}"}
        usual = CertifyParams()
        for name in ("n0", "n", "alpha"):
            if getattr(self, name) != getattr(usual, name):
                query[name] = repr(getattr(self, name))
        if self.precision != "float32":
            query["precision"] = self.precision
        if self.sound:
            query["sound"] = "1"
        if self.one.is_upload and self.label is not None:
            query["label"] = self.classes[self.label]
        return query

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> CertifyRequest:
        """The request a link names; raises an ExplorerError for anything unfit."""
        return cls(**from_link(query, LINK, needed=("data", "image", "model")))

    def to_python(self, seed: int) -> str:
        """A script that makes the same certificate with the project's public names."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.options.items() if name != "sigma")
        lines = self.one.to_python().splitlines()
        upto = next(i for i, line in enumerate(lines) if line.startswith("attack ="))
        unused = ("import torch", "from explorer.attacks", "from explorer.core")
        kept = [line for line in lines[:upto] if not line.startswith(unused)]
        at = next(i for i, line in enumerate(kept) if line.startswith("from explorer"))
        kept.insert(at, "from explorer.certify import certify")
        call = f"certificate = certify(model, x[0], {self.sigma!r}, {given}, seed={seed})"
        return "\n".join([*kept, call, "print(certificate.label, certificate.radius_text(), certificate.caveat)", ""])


LINK = {"data": "dataset"} | {
    n: n for n in ("image", "model", "sigma", "n0", "n", "alpha", "precision", "sound", "label")
}


def checked(model: str, sigma: Any, n0: Any, n: Any, alpha: Any) -> CertifyParams:
    """The numbers, within what a page grants; raises InvalidValue."""
    if sigma is None:
        sigma = zoo.card(model).sigma or CertifyParams.sigma
    sigma, alpha = _number("sigma", sigma), _number("alpha", alpha)
    n0, n = as_whole("n0", n0, 1, MOST["n0"]), as_whole("n", n, 1, MOST["n"])
    params = CertifyParams(sigma=sigma, n0=n0, n=n, alpha=alpha)
    check_enough(params.n, params.alpha)
    return params


def _number(name: str, value: Any) -> float:
    try:
        return parse_number(None if isinstance(value, bool) else value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InvalidValue(f"{name} must be a number; got {value!r}.") from error


def _flag(name: str, value: Any) -> bool:
    if value in (True, False):
        return bool(value)
    if value in ("1", "true", "0", "false"):
        return value in ("1", "true")
    raise InvalidValue(f"{name} must be 1 or 0; got {value!r}.")


@dataclass(frozen=True, eq=False)
class Certifying:
    """All that is known of a certificate in the making; `certificate` stands in the last one."""

    request: CertifyRequest
    picture: np.ndarray  # (C,H,W) float32
    clean: int  # the network's class of the picture itself, without noise
    copies: np.ndarray  # (COPIES,C,H,W) float32, the first noisy copies, not clipped to [0,1]
    copy_classes: np.ndarray  # (COPIES,) the network's class of each
    progress: CertifyProgress | None  # the votes so far; None: a certificate that was kept
    course: Mapping[str, np.ndarray]  # (T,) after each pass: "n_drawn", "votes", "p_lower", "radius" (nan: none yet)
    certificate: Certificate | None = None
    kept: bool = False  # it was made before
    others: int = 0  # other certificates of this picture and model that were asked for
    seconds: float = 0.0  # of computing
    conditions: Mapping[str, Any] = field(default_factory=dict)


def certify_work(
    engine: Engine, request: CertifyRequest, kept: Store | None = None
) -> Callable[[], Iterator[Certifying | None]]:
    """What to give to `engine.submit(..., deadline=DEADLINE)`: a Certifying after each pass.

    A certificate that was made before comes at once, as it was. One that is stopped certifies nothing; asked for again,
    it begins with the same draws.
    """
    return lambda: _certify(engine, request, kept or store())


def _certify(engine: Engine, request: CertifyRequest, kept: Store) -> Iterator[Certifying | None]:
    clock = Clock()
    model, x = engine.model(request.model), picture(engine, request.one)[0]
    smoothed, question = request.smoothed(model), request.question(x)
    seed, found = kept.seed(question), kept.find(question)
    copies, classes = smoothed.noisy_copies(x, COPIES, seed=found.certificate.seed if found else seed)
    clean = predicted_without_noise(model, x[None])[0]
    now = Certifying(
        request, x.cpu().numpy(), clean, copies.numpy(), classes.numpy(), None, {}, others=kept.others(question)
    )
    if found is not None:
        yield clock.stopped(_finished(now, found, True, clock, engine))
        return
    rows: list[tuple[int, int]] = []
    bounds: list[float] = []
    for progress in smoothed.iter_certify(x, seed=seed, **request.draws):
        if progress.n_drawn:
            rows.append((progress.n_drawn, progress.votes))
            bounds.append(progress.p_lower)
        now = replace(now, progress=progress, course=_course(rows, bounds, request.params.sigma), seconds=clock.seconds)
        if progress.certificate is not None:
            answer = kept.keep(question, Answer(progress.certificate, tuple(rows)))
            now = _finished(now, answer, answer.certificate != progress.certificate, clock, engine)
        yield clock.stopped(now)
        clock.go()


def _finished(now: Certifying, answer: Answer, was_kept: bool, clock: Clock, engine: Engine) -> Certifying:
    certificate = answer.certificate
    conditions = now.request.options | {
        "model": now.request.model,
        "weights": zoo.card(now.request.model).sha256,
        "seed": certificate.seed,
        "caveat": certificate.caveat,
        "seconds": round(clock.seconds, 3),
        **made_on(engine.description),
    }
    bounds = np.maximum.accumulate([anytime_lower_bound(k, n, certificate.alpha) for n, k in answer.course] or [0.0])
    course = _course(answer.course, bounds.tolist()[: len(answer.course)], certificate.sigma)
    return replace(
        now, certificate=certificate, kept=was_kept, course=course, seconds=clock.seconds, conditions=conditions
    )


def _course(rows: Sequence[tuple[int, int]], bounds: Sequence[float], sigma: float) -> dict[str, np.ndarray]:
    """Draws, votes, and the anytime-valid bound so far, with its radius."""
    radii = [certified_radius(bound, sigma) for bound in bounds]
    return {
        "n_drawn": np.array([n_drawn for n_drawn, _ in rows], int),
        "votes": np.array([votes for _, votes in rows], int),
        "p_lower": np.array(bounds, float),
        "radius": np.array(radii, float),  # None becomes nan
    }


def predicted_without_noise(model: Classifier, x: Tensor) -> np.ndarray:
    """(N,) the network's class without noise, by most of a verdict's draws."""
    votes = torch.cat([logits.argmax(2) for logits in draw_logits(model, x, seeded(0), verdict_draws(model))])
    return votes.mode(0).values.cpu().numpy()
