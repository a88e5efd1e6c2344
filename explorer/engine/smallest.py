"""Bisection for the smallest eps at which an attack succeeds: each probe is the walk a page would play at that eps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from explorer.attacks import ATTACKS
from explorer.core import InvalidValue, Trace, seeded
from explorer.core.ball import THREAT_LIMIT, WHOLE, least_eps
from explorer.core.rng import derived_seed
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.labels import goal_of
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import FIRST_LOOK, Recorder, recorder_of
from explorer.evaluation.batch_attack import ANYWHERE
from explorer.evaluation.verdict import Verdict, verify

WIDTH = 0.02  # (fooled - held) / fooled at which the bisection ends
WIDTHS = (0.005, 0.5)  # allowed
CHECKS = (0.9, 0.75, 0.5)  # shares of the largest eps that held, tried at the end: success need not be monotone in eps
PROBES = 60  # never more; a search needs about 15
SHARE = 0.9  # of the engine's deadline that a search may use


@dataclass(frozen=True)
class Probe:
    """One attack at one eps, judged on fresh draws."""

    eps: float
    reached: bool  # the goal holds, by the verdict's rule
    reached_8bit: bool  # it still does after rounding to 8 bits
    margin: float  # at the result: logit of the class to leave minus the best other (target: best other minus target)
    share: float  # of the fresh draws at which the goal holds
    predicted: int  # class of most fresh draws
    forwards: int  # passes of the attack, draws counted one by one
    backwards: int


class Tried(Protocol):
    """What a bisection looks at of a probe."""

    @property
    def eps(self) -> float: ...

    @property
    def reached(self) -> bool: ...


P = TypeVar("P", bound=Tried)


@dataclass(frozen=True)
class Bracket(Generic[P]):
    """The probes of a bisection so far, between two of which the smallest eps that reaches the goal should lie."""

    norm: str
    first: float  # the eps that is tried first
    width: float  # (fooled - held) / fooled at which it ends
    probes: tuple[P, ...]

    @property
    def fooled(self) -> P | None:
        """The probe with the smallest eps that reached the goal."""
        return min((p for p in self.probes if p.reached), key=lambda p: p.eps, default=None)

    @property
    def held(self) -> P | None:
        """The probe with the largest eps below `fooled` that did not."""
        least = self.fooled
        below = [p for p in self.probes if least is None or p.eps < least.eps]
        return max((p for p in below if not p.reached), key=lambda p: p.eps, default=None)


@dataclass(frozen=True)
class Search:
    """All probes so far, in the order they were made."""

    request: AttackRequest
    width: float
    clean: Probe | None = None  # the untouched image: eps 0
    probes: tuple[Probe, ...] = ()
    seconds: float = 0.0  # of computing
    draws: int = 1  # fresh ones that judged each probe
    device: str = ""
    ended: str = ""  # "": not yet; "done", "time" (the engine's limit came near) or "probes" (too many)

    @property
    def bracket(self) -> Bracket[Probe]:
        return Bracket(self.request.norm, self.request.eps, self.width, self.probes)

    @property
    def fooled(self) -> Probe | None:
        """As of the bracket."""
        return self.bracket.fooled

    @property
    def held(self) -> Probe | None:
        """As of the bracket."""
        return self.bracket.held

    @property
    def failed_above(self) -> tuple[Probe, ...]:
        """Probes that failed although a smaller eps succeeded."""
        least = self.fooled
        return tuple(p for p in self.probes if least is not None and p.eps > least.eps and not p.reached)

    @property
    def checked(self) -> int:
        """How many eps below the largest that held were tried, and held too."""
        held = self.held
        return 0 if held is None else sum(p.eps < held.eps for p in self.probes)

    @property
    def passes(self) -> int:
        """Forward and backward passes of all attacks together."""
        return sum(p.forwards + p.backwards for p in self.probes)


def next_eps(bracket: Bracket[P]) -> float | None:
    """Where to look next; None when nothing is left to find out.

    First its own eps, then doubled until an attack succeeds or halved until one fails, then the middle
    until (fooled - held) / fooled is at most `width`. At last `CHECKS`: if one of them succeeds, on it goes below.
    """
    norm, fooled, held, least = bracket.norm, bracket.fooled, bracket.held, least_eps(bracket.norm)
    if not bracket.probes:
        return bracket.first
    if fooled is None:
        top = max(p.eps for p in bracket.probes)
        return None if top >= THREAT_LIMIT[norm] else min(readable(norm, 2 * top), THREAT_LIMIT[norm])
    if held is None:
        return None if fooled.eps <= least else max(readable(norm, fooled.eps / 2), least)
    if fooled.eps - held.eps > bracket.width * fooled.eps:
        middle = readable(norm, (fooled.eps + held.eps) / 2)
        return middle if held.eps < middle < fooled.eps else None
    tried = {p.eps for p in bracket.probes}
    checks = [readable(norm, share * held.eps) for share in CHECKS]
    return next((eps for eps in checks if eps >= least and eps not in tried), None)


def readable(norm: str, eps: float) -> float:
    """eps in four digits: of 255ths in Linf; in L0 whole. What is shown is then exactly what was tried."""
    if norm in WHOLE:
        return float(round(eps))
    return float(f"{eps * 255:.4g}") / 255 if norm == "linf" else float(f"{eps:.4g}")


def smallest_work(
    engine: Engine, request: AttackRequest, width: float = WIDTH
) -> Callable[[], Iterator[Search | None]]:
    """What to give to `engine.submit`: a Search after each probe; in the last one `ended` is set.

    Raises InvalidValue at once for an attack that looks for the smallest change itself, a width outside [0.005, 0.5], or a
    request beyond what a page may (which each probe may use up).
    """
    if request.is_minimal:
        title = ATTACKS.entry(request.attack).title
        raise InvalidValue(f"{title} looks for the smallest change itself: its distance is the answer already.")
    if not WIDTHS[0] <= width <= WIDTHS[1]:
        raise InvalidValue(f"width must be a number in [{WIDTHS[0]:g}, {WIDTHS[1]:g}]; got {width!r}.")
    asked = request.checked().within()
    return lambda: timed(lambda clock: _work(engine, asked, width, clock))


def _work(engine: Engine, request: AttackRequest, width: float, clock: Clock) -> Generator[Search | None]:
    search = Search(request, width, device=engine.description)
    limit, longest = SHARE * engine.deadline, 0.0
    while True:
        eps = next_eps(search.bracket)
        ended = "done" if eps is None else _ending(search, clock.seconds + longest, limit)
        search = dataclasses.replace(search, ended=ended, seconds=clock.seconds)
        yield search
        if ended or eps is None:
            return
        began, recorder = clock.seconds, recorder_of(engine, dataclasses.replace(request, eps=eps))
        for _ in recorder.record():
            yield None
            if clock.seconds > limit:
                break
        else:
            search = _with_probe(search, recorder, engine.description)
            longest = max(longest, clock.seconds - began)


def _ending(search: Search, expected: float, limit: float) -> str:
    """Why to stop before the next probe, after which the clock would show `expected` seconds; "" to go on."""
    if search.clean is not None and search.clean.reached:
        return "done"
    if len(search.probes) >= PROBES:
        return "probes"
    return "time" if expected > limit else ""


def _with_probe(search: Search, recorder: Recorder, device: str) -> Search:
    """The search with a finished walk's verdict; with the first also the untouched image's."""
    result = recorder.finish(search.seconds, device)
    verdict, clean = result.verdict, search.clean
    if clean is None:
        clean = _probe(0.0, _judged_clean(recorder), recorder.trace, 0)
    spent = (result.conditions["forwards"], result.conditions["backwards"])
    probe = _probe(recorder.request.eps, verdict, recorder.trace, result.best, spent)
    return dataclasses.replace(search, clean=clean, probes=(*search.probes, probe), draws=verdict.draws)


def _judged_clean(recorder: Recorder) -> Verdict:
    trace, x0, request = recorder.trace, recorder.x0, recorder.request
    goal = goal_of(trace.label, trace.also, trace.target, x0.device)
    rng = seeded(derived_seed(request.seed, FIRST_LOOK))  # the very looks that the walk begins with
    return verify(recorder.model, x0, x0, goal, ANYWHERE, rng)


def _probe(eps: float, verdict: Verdict, trace: Trace, frame: int, spent: tuple[int, int] = (0, 0)) -> Probe:
    reached, kept = bool(verdict.reached[0] & verdict.inside[0]), bool(verdict.reached_8bit[0])
    margin = _margin(trace.logits[frame], trace.label, trace.target)
    return Probe(eps, reached, kept, margin, float(verdict.share[0]), int(verdict.predicted[0]), *spent)


def _margin(logits: np.ndarray, label: int, target: int | None) -> float:
    """Below zero where the goal is reached."""
    aim = label if target is None else target
    lead = float(logits[aim] - np.delete(logits, aim).max())
    return lead if target is None else -lead
