"""How far is the edge? The smallest change known: the minimal attacks in turn, DeepFool first, within a budget of passes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from explorer.core import NORMS, InvalidValue, Trace
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import Result, recorder_of
from explorer.evaluation.outcome import Ending

ORDER = {  # cheap ones first; of each norm those that were seen to find the nearest points
    "l2": ("deepfool", "superdeepfool", "ddn", "fab", "cw", "fmn", "brendel-bethge"),
    "linf": ("deepfool", "fab", "fmn", "brendel-bethge"),
    "l1": ("ead", "fmn", "brendel-bethge"),
    "l0": ("sigma-zero", "fmn"),
}
PASSES = 3000  # forward and backward passes together
PASSES_LIMITS = (20, 20_000)
SHARE = 0.9  # of the engine's deadline that all of them may use


@dataclass(frozen=True, eq=False)
class Tried:
    """One attack at its defaults, and what came of it."""

    request: AttackRequest
    distance: float | None  # of its nearest success, confirmed in float32 on fresh draws; None: it has none
    predicted: int  # what the model takes that picture for
    forwards: int
    backwards: int
    passes: np.ndarray  # (S,) passes of this attack after which it was nearer than ever before ...
    nearest: np.ndarray  # (S,) ... and how near; as the attack saw it

    @property
    def spent(self) -> int:
        return self.forwards + self.backwards


@dataclass(frozen=True, eq=False)
class Edge:
    """The answer so far: the nearest of what was tried."""

    request: AttackRequest  # the picture, the model, the norm, the target, the seed; its attack is the first one
    budget: int  # of passes
    tried: tuple[Tried, ...] = ()
    running: str = ""  # key of the attack that is under way
    left_out: tuple[str, ...] = ()  # keys that the budget has no room for
    wrong_before: bool = False
    ended: str = ""  # "": not yet; "done", "budget" or "time" (the engine's limit came near)
    seconds: float = 0.0
    device: str = ""

    @property
    def best(self) -> Tried | None:
        """The nearest, of equals the first."""
        found = [one for one in self.tried if one.distance is not None]
        return min(found, key=lambda one: one.distance or 0.0, default=None)

    @property
    def spent(self) -> int:
        return sum(one.spent for one in self.tried)

    def facts(self) -> dict[str, Any]:
        """Plain values: what was found by whom, and under which conditions."""
        request, best = self.request, self.best
        rows = [
            {"attack": one.request.attack, "distance": one.distance, "forwards": one.forwards, "backwards": one.backwards,
             "hyper": one.request.method.to_dict(), "nearer_after_passes": one.passes.tolist(), "nearer": one.nearest.tolist()}
            for one in self.tried
        ]  # fmt: skip
        return {
            "model": request.model, "dataset": request.dataset, "image": request.image, "norm": request.norm,
            "target": request.target, "seed": request.seed, "passes_allowed": self.budget, "passes": self.spent,
            "distance": None if best is None else best.distance, "by": None if best is None else best.request.attack,
            "wrong_before": self.wrong_before, "ended": self.ended, "left_out": list(self.left_out), "tried": rows,
            "device": self.device, "seconds": round(self.seconds, 3),
        }  # fmt: skip


def edge_request(request: AttackRequest) -> AttackRequest:
    """The first attack on the same picture, model, norm, target and seed. Raises InvalidValue for what is no norm."""
    if request.norm not in NORMS:
        raise InvalidValue(f"norm must be one of {', '.join(ORDER)} to look for the edge; got {request.norm!r}.")
    return dataclasses.replace(request, attack=ORDER[request.norm][0], hyper={}).checked()


def edge_work(engine: Engine, request: AttackRequest, passes: int = PASSES) -> Callable[[], Iterator[Edge | None]]:
    """What to give to `engine.submit`: an Edge before and after each attack; in the last one `ended` is set.

    An attack begins if what it may take at most is left of the `passes`; the first always does. Raises InvalidValue at once for
    passes outside [20, 20,000] and for a norm without minimal attacks.
    """
    if not isinstance(passes, int) or not PASSES_LIMITS[0] <= passes <= PASSES_LIMITS[1]:
        low, high = PASSES_LIMITS
        raise InvalidValue(f"passes must be a whole number in [{low:,}, {high:,}]; got {passes!r}.")
    asked = edge_request(request)
    return lambda: timed(lambda clock: _work(engine, asked, passes, clock))


def _work(engine: Engine, request: AttackRequest, budget: int, clock: Clock) -> Generator[Edge | None]:
    edge, limit = Edge(request, budget, device=engine.description), SHARE * engine.deadline
    for key in ORDER[request.norm]:
        one = dataclasses.replace(request, attack=key, hyper={}).checked()
        if edge.tried and one.passes > budget - edge.spent:
            edge = dataclasses.replace(edge, left_out=(*edge.left_out, key))
            continue
        edge = dataclasses.replace(edge, running=key, seconds=clock.seconds)
        yield edge
        recorder = recorder_of(engine, one)
        for _ in recorder.record():
            yield None
            if clock.seconds > limit:
                yield dataclasses.replace(edge, running="", ended="time", seconds=clock.seconds)
                return
        result = recorder.finish(clock.seconds, engine.description)
        before = result.ending is Ending.WRONG_BEFORE
        edge = dataclasses.replace(edge, tried=(*edge.tried, _tried(one, recorder.trace, result)), wrong_before=before)
        if before:
            break
    ended = "budget" if edge.left_out else "done"
    yield dataclasses.replace(edge, running="", ended=ended, seconds=clock.seconds)


def _tried(request: AttackRequest, trace: Trace, result: Result) -> Tried:
    verdict, about = result.verdict, result.conditions
    confirmed = result.ending in (Ending.FOOLED, Ending.WRONG_BEFORE)
    far = np.where(trace.reached[1:], trace.distance[1:], math.inf)
    so_far = np.minimum.accumulate(far)
    nearer = np.flatnonzero(so_far < np.r_[math.inf, so_far[:-1]])
    passes = np.zeros(len(far), np.int64) if trace.passes is None else trace.passes[1:]
    return Tried(
        request,
        float(verdict.distance[0]) if confirmed else None,
        int(verdict.predicted[0]),
        about["forwards"],
        about["backwards"],
        passes[nearer],
        far[nearer],
    )
