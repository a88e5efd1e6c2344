"""Adversarial attacks on a smoothed classifier: how far one must go to change its prediction, beside what is certified."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.pgd import PGD
from explorer.certify import Certificate, Prediction
from explorer.certify.results import alarm
from explorer.certify.store import Store
from explorer.core import Ball, Classifier, Goal, Hyper, LossName, param, seeded
from explorer.core.rng import derived_seed
from explorer.engine.certifying import CertifyRequest, store
from explorer.engine.clock import Clock
from explorer.engine.engine import Engine
from explorer.engine.smallest import PROBES, Bracket, next_eps
from explorer.engine.tracing import made_on, picture
from explorer.evaluation.verdict import round_to_8bit

LOSSES: tuple[LossName, ...] = ("ce", "margin")  # of PGD; the second, if at all, where the first did not succeed
REL_STEP = 0.15
WALK, JUDGE = 8, 9  # streams of randomness
SURE_DRAWS, SURE_ALPHA = 10_000, 1e-6  # of PREDICT once more, before an alarm is raised


@dataclass(frozen=True)
class SmoothedAttack(Hyper):
    """How the smoothed model is attacked, and how an attacked picture is judged. The defaults are the quick look."""

    norm: ClassVar[str] = "l2"
    presets = {
        "quick": {},
        "thorough": {"steps": 40, "draws": 16, "n": 500, "width": 0.05, "twice": True},
    }

    steps: int = param(20, "steps", lo=1, hi=200, help="How many times the picture is updated at each eps.")
    draws: int = param(
        8, "draws per step", lo=1, hi=64, help="Noisy copies whose mean probabilities give each gradient."
    )
    n: int = param(
        200, "draws of a verdict", lo=20, hi=10_000, help="Fresh noisy copies by which PREDICT judges the result."
    )
    width: float = param(
        0.1, "width", lo=0.01, hi=0.5, help="The search ends when the bracket is this narrow, relative to its top."
    )
    twice: bool = param(
        False, "a second try",
        help="Where the first attack fails a second one tries, with the margin as its loss; in the end smaller eps are tried again.",
    )  # fmt: skip
    eps: float = param(
        0.5, "first eps", lo=0.01, hi=10.0, unit="pixels", strength=False, help="Where the search begins, in L2."
    )
    alpha: float = param(
        0.001, "failure probability", lo=1e-9, hi=0.499, strength=False, help="Of each of these verdicts."
    )

    @property
    def losses(self) -> tuple[LossName, ...]:
        """Of the attacks, in turn."""
        return LOSSES if self.twice else LOSSES[:1]


@dataclass(frozen=True)
class SmoothedProbe:
    """One eps: the attack that succeeded there, or the last that did not."""

    eps: float
    reached: bool  # PREDICT gives another class
    abstained: bool  # PREDICT would not say: counted as not reached
    attack: str
    distance: float  # of the attacked picture, L2, float64; `sound`: after rounding to 8 bits, which may go beyond eps
    prediction: Prediction
    forwards: int  # noisy copies that went through the network, for all attacks at this eps
    backwards: int


@dataclass(frozen=True)
class Attempt:
    """What is going on between two probes."""

    eps: float
    attack: str
    step: int
    steps: int  # step = steps: the result is being judged


@dataclass(frozen=True, eq=False)
class SmoothedSearch:
    """All probes so far; `ended` stands in the last one."""

    request: CertifyRequest
    settings: SmoothedAttack
    clean: Prediction | None = None  # of the untouched picture: the class that is attacked; None: not looked at yet
    certificate: Certificate | None = None
    probes: tuple[SmoothedProbe, ...] = ()
    found: np.ndarray | None = None  # (C,H,W) the nearest picture that PREDICT gives another class
    distance: float | None = None  # of it, L2
    found_class: int | None = None  # that class
    alarm: str | None = None  # it lies inside the certified radius
    seconds: float = 0.0
    ended: str = ""  # "": not yet; "done", "probes", or "abstained": PREDICT says nothing of the untouched picture
    conditions: Mapping[str, Any] = field(default_factory=dict)
    attempt: Attempt | None = None  # between two probes

    @property
    def abstentions(self) -> int:
        return sum(probe.abstained for probe in self.probes)

    @property
    def largest_held(self) -> float | None:
        """The largest eps, below all that were found, at which the attacks did not succeed."""
        return held.eps if (held := self.bracket.held) is not None else None

    @property
    def bracket(self) -> Bracket[SmoothedProbe]:
        return Bracket(self.settings.norm, self.settings.eps, self.settings.width, self.probes)


def attack_smoothed_work(
    engine: Engine,
    request: CertifyRequest,
    settings: SmoothedAttack | None = None,
    certificate: Certificate | None = None,
    kept: Store | None = None,
) -> Callable[[], Iterator[SmoothedSearch | None]]:
    """What to give to `engine.submit(..., deadline=DEADLINE)`: a SmoothedSearch after each eps and each step of an attack.

    `certificate`: what the attack is held against; None: the one that was kept for this request, if there is one.
    """
    settings = settings or SmoothedAttack()
    return lambda: _attack(engine, request, settings, certificate, kept or store())


def _attack(
    engine: Engine, request: CertifyRequest, settings: SmoothedAttack, certificate: Certificate | None, kept: Store
) -> Iterator[SmoothedSearch | None]:
    clock = Clock()
    base, x0 = engine.model(request.model), picture(engine, request.one)
    question = request.question(x0[0])
    if certificate is None and (answer := kept.find(question)) is not None:
        certificate = answer.certificate
    attacker = _Attacker(base, x0, request, settings, kept.seed(question))
    now = SmoothedSearch(request, settings, certificate=certificate)
    for item in _searched(now, attacker):
        if isinstance(item, SmoothedSearch):
            conditions = _conditions(item, attacker, engine, clock) if item.ended and item.probes else {}
            item = replace(item, seconds=clock.seconds, conditions=conditions)
        yield clock.stopped(item)
        clock.go()


def _searched(now: SmoothedSearch, attacker: _Attacker) -> Iterator[SmoothedSearch | None]:
    clean = yield from attacker.judge(attacker.x0)
    now = replace(now, clean=clean)
    if clean.label is None:
        yield replace(now, ended="abstained")
        return
    while True:
        eps = _next(now)
        now = replace(now, attempt=None, ended="done" if eps is None else "probes" if len(now.probes) >= PROBES else "")
        yield now
        if now.ended or eps is None:
            return
        for news in attacker.probe(clean.label, eps):
            if isinstance(news, tuple):
                now = yield from _with(now, attacker, *news)
            else:
                yield None if news is None else replace(now, attempt=news)


def _next(now: SmoothedSearch) -> float | None:
    """The next eps, as a search for the smallest one takes it; without `twice` it ends with the bracket."""
    bracket, settings = now.bracket, now.settings
    held, fooled = bracket.held, bracket.fooled
    if held is None or fooled is None or settings.twice or fooled.eps - held.eps > settings.width * fooled.eps:
        return next_eps(bracket)
    return None


def _with(
    now: SmoothedSearch, attacker: _Attacker, probe: SmoothedProbe, x: Tensor
) -> Generator[None, None, SmoothedSearch]:
    now = replace(now, probes=(*now.probes, probe))
    if probe.reached and (now.distance is None or probe.distance < now.distance):
        now = replace(now, found=x[0].cpu().numpy(), distance=probe.distance, found_class=probe.prediction.label)
        if now.certificate is not None and alarm(now.certificate, probe.distance, probe.prediction) is not None:
            surely = yield from attacker.judge(x, SURE_DRAWS, SURE_ALPHA)  # before anything is said, a harder look
            now = replace(now, alarm=now.alarm or alarm(now.certificate, probe.distance, surely))
    return now


class _Attacker:
    """One picture, its smoothed model, and what decides about both."""

    def __init__(self, base: Classifier, x0: Tensor, request: CertifyRequest, settings: SmoothedAttack, seed: int):
        self.x0, self.request, self.settings, self.seed = x0, request, settings, seed
        self.model = request.smoothed(base, settings.draws)
        self._judged = 0

    def judge(self, x: Tensor, n: int | None = None, alpha: float | None = None) -> Generator[None, None, Prediction]:
        """PREDICT for x (1,C,H,W), on draws that nothing else has seen; None after each pass."""
        self._judged += 1
        seed = derived_seed(self.seed, JUDGE, self._judged)
        n, alpha = n or self.settings.n, alpha or self.settings.alpha
        prediction = None
        for prediction in self.model.iter_predict(x[0], n=n, alpha=alpha, seed=seed):  # noqa: B007
            yield None
        assert prediction is not None  # the last one
        return prediction

    def probe(self, label: int, eps: float) -> Iterator[tuple[SmoothedProbe, Tensor] | Attempt | None]:
        """What is being tried; None between two passes; in the end the probe and its picture (1,C,H,W)."""
        goal = Goal.untargeted(torch.tensor([label], device=self.x0.device))
        forwards = backwards = 0
        losses = self.settings.losses
        for turn, loss in enumerate(losses):
            attack, name = PGD(steps=self.settings.steps, rel_step=REL_STEP, loss=loss), _name(loss)
            rng = seeded(derived_seed(self.seed, WALK, len(LOSSES) * self._judged + turn))
            for step in attack.walk(self.model, self.x0, goal, Ball("l2", eps), rng):
                yield Attempt(eps, name, step.index, self.settings.steps)
            x = step.x  # the last one: the loss along the way is of a few noisy copies, and its maximum often luck
            if self.request.sound:  # that smoothed model is known exactly at 8-bit pictures only
                x = round_to_8bit(x)
            forwards += int(step.forwards[0]) * self.settings.draws
            backwards += int(step.backwards[0]) * self.settings.draws
            prediction = yield from self.judge(x)
            reached = prediction.label not in (None, label)
            if reached or turn == len(losses) - 1:
                distance = float(Ball("l2", 1.0).distance(x, self.x0))
                probe = SmoothedProbe(
                    eps, reached, prediction.abstained, name, distance, prediction, forwards, backwards
                )
                yield probe, x
                return


def _name(loss: LossName) -> str:
    return f"{ATTACKS.entry('pgd').title}, {loss}"


def _conditions(now: SmoothedSearch, attacker: _Attacker, engine: Engine, clock: Clock) -> dict[str, Any]:
    return now.settings.to_dict() | {
        "norm": "l2",
        "sigma": now.request.sigma,
        "model": now.request.model,
        "attacks": [_name(loss) for loss in now.settings.losses],
        "rel_step": REL_STEP,
        "threat": "white-box, adaptive: gradients of the mean probabilities over fresh noisy copies",
        "probes": len(now.probes),
        "abstentions": now.abstentions,
        "seed": attacker.seed,
        "seconds": round(clock.seconds, 3),
        **made_on(engine.description),
    }
