"""Sweep of eps for a slider: one attack on one image at twelve sizes of eps at once, as one batch with an eps for each copy.

What a slider shows at once are the answers and the last images, not walks: those are an `attack_work` at the chosen eps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.core import Best, InvalidValue, Step, seeded
from explorer.core.ball import THREAT_EPS, THREAT_LIMIT, WHOLE, least_eps
from explorer.core.rng import derived_seed
from explorer.engine.batch import mean_logits, verdicts
from explorer.engine.batch_request import MANY
from explorer.engine.batch_result import Predictions
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.labels import goal_of, settled
from explorer.engine.request import AttackRequest, Budget
from explorer.engine.tracing import FIRST_LOOK, LAST_WORD, described, made_on, picture, recorder_of
from explorer.evaluation.outcome import Ending, endings, first_answer
from explorer.evaluation.verdict import Verdict, draw_logits, verdict_draws
from explorer.models import zoo

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0, 3 / 2, 2.0, 3.0, 4.0)  # of the norm's usual eps


def sizes(request: AttackRequest) -> tuple[float, ...]:
    """The twelve (those of them that differ, in L0 as whole numbers), ascending; the request's own eps is one of them, in the
    place of the nearest."""
    norm = request.norm
    usual = np.clip([share * THREAT_EPS[norm] for share in SHARES], least_eps(norm), THREAT_LIMIT[norm])
    usual = np.unique(usual.round() if norm in WHOLE else usual)
    if not request.is_minimal:
        usual[np.abs(np.log(usual / request.eps)).argmin()] = request.eps
    return tuple(usual.tolist())


@dataclass(frozen=True, eq=False)
class EpsSweep:
    """One image attacked at S sizes of eps, so far. Before it has `finished`, the answers are as the attack sees them."""

    request: AttackRequest
    eps: np.ndarray  # (S,) ascending, in pixel units
    label: int
    original: np.ndarray  # (C,H,W) float32
    images: np.ndarray  # (S,C,H,W) float32, the best so far
    answers: Predictions  # of them, (S,)
    distance: np.ndarray  # (S,) float64 in the attack's norm
    reached: np.ndarray  # (S,) bool, the goal
    done: int  # steps
    planned: int
    seconds: float
    endings: tuple[Ending, ...] = ()  # (S,), by a verdict in float32 on draws the attack has not seen
    verdict: Verdict | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)


def eps_sweep_work(
    engine: Engine, request: AttackRequest, budget: Budget = MANY
) -> Callable[[], Iterator[EpsSweep | None]]:
    """What to give to `engine.submit`: an EpsSweep after each step, in the last one `finished`.

    An attack that looks for the smallest change walks once, and its distance answers for every eps. Raises InvalidValue at
    once if all sizes together ask for more than `budget`, and from the work for an attack that makes one change for many.
    differs: from twelve attacks with one eps each in the draws, of which the copies of one batch get different ones.
    """
    asked = request.checked()
    copies = 1 if asked.is_minimal else len(SHARES)
    for name, amount, limit in (
        ("sizes x passes", copies * asked.passes, budget.passes),
        ("sizes x draws", copies * asked.draws, budget.draws),
    ):
        if amount > limit:
            raise InvalidValue(f"{name} may come to at most {limit:,} here; got {amount:,}. Fewer steps fit.")
    work = _smallest if asked.is_minimal else _batch
    return lambda: timed(lambda clock: work(engine, asked, clock))


def _batch(engine: Engine, request: AttackRequest, clock: Clock) -> Generator[EpsSweep | None]:
    model, x0 = engine.model(request.model), picture(engine, request)
    draws = verdict_draws(model)
    looks = torch.cat(list(draw_logits(model, x0, seeded(derived_seed(request.seed, FIRST_LOOK)), draws)))  # (d,1,K)
    label = settled(request, looks.mean(0))
    if request.target == label:
        raise InvalidValue(f"target must differ from what the model sees; got {request.classes[label]!r}.")
    eps = torch.tensor(sizes(request), dtype=torch.float64)
    copies, threat = x0.repeat(len(eps), 1, 1, 1), request.method.threat_model(request.norm, eps)
    goal = goal_of(label, request.label, request.target, x0.device, len(eps))
    before = first_answer(looks[:, 0], None if request.label is None else label)
    now = _untouched(request, label, x0, looks.mean(0), clock)
    yield now
    best, logits = Best(by_loss=model.stochastic), looks.mean(0).repeat(len(eps), 1)
    for step in request.method.walk(model, copies, goal, threat, seeded(request.seed)):
        better = best.add(step)
        logits[better] = step.logits.detach()[better].float()
        now = _grown(now, best, step, logits, clock)
        yield now
    rng = seeded(derived_seed(request.seed, LAST_WORD))
    verdict = yield from verdicts(model, best.outcome().x, copies, goal, threat, rng, best.theta)
    means = yield from mean_logits(model, best.x, rng)
    labels, wrong = torch.full((len(eps),), label), torch.full((len(eps),), bool(before["wrong_before"]))
    yield dataclasses.replace(
        now,
        answers=Predictions.of(means, labels.numpy(), verdict.predicted.numpy()),
        reached=(verdict.reached & verdict.inside).numpy(),
        endings=tuple(endings(verdict, labels, request.target, wrong, goal.also)),
        verdict=verdict,
        planned=now.done,
        seconds=clock.seconds,
        conditions=_conditions(engine, request, now, before)
        | {"forwards": int(best.outcome().forwards.sum()), "backwards": int(best.outcome().backwards.sum())}
        | {"seconds": round(clock.seconds, 3), "verdict_draws": verdict.draws},
    )


def _untouched(request: AttackRequest, label: int, x0: Tensor, logits: Tensor, clock: Clock) -> EpsSweep:
    """Before the first step: the model's answer (1,K) to the image as it is, at every eps."""
    eps = np.array(sizes(request))
    n, original = len(eps), x0[0].float().cpu().numpy()
    answers = Predictions.of(logits.repeat(n, 1).cpu().numpy(), np.full(n, label))
    images, nothing = np.repeat(original[None], n, 0), np.zeros(n)
    steps = request.method.expected_frames
    return EpsSweep(
        request, eps, label, original, images, answers, nothing, nothing.astype(bool), 0, steps, clock.seconds
    )


def _grown(now: EpsSweep, best: Best, step: Step, logits: Tensor, clock: Clock) -> EpsSweep:
    return dataclasses.replace(
        now,
        images=best.x.detach().float().cpu().numpy().copy(),
        answers=Predictions.of(logits.cpu().numpy(), np.full(len(now.eps), now.label)),
        distance=best.distance.double().cpu().numpy().copy(),
        reached=best.success.cpu().numpy().copy(),
        done=now.done + 1,
        planned=max(step.total + 1, now.done + 1),
        seconds=clock.seconds,
    )


def _smallest(engine: Engine, request: AttackRequest, clock: Clock) -> Generator[EpsSweep | None]:
    """One walk: at an eps that its distance fits into the image found, at a smaller one the image as it was."""
    recorder, now = recorder_of(engine, request), None
    for trace in recorder.record():
        if now is None:
            x0, logits = recorder.x0, torch.from_numpy(trace.logits[:1].copy())
            now = _untouched(request, trace.label, x0, logits, clock)
        now = dataclasses.replace(now, done=len(trace) - 1, planned=trace.planned - 1, seconds=clock.seconds)
        yield now
    assert now is not None  # an untouched image is always recorded
    result, trace = recorder.finish(clock.seconds, engine.description), recorder.trace
    distance = float(result.verdict.distance[0])
    fits = (now.eps >= distance) & (result.ending is Ending.FOOLED)
    missed = result.ending if result.ending is not Ending.FOOLED else _not_yet(request)
    rows = np.where(fits, result.best, 0)
    yield dataclasses.replace(
        now,
        images=trace.frames[rows],
        answers=Predictions.of(trace.logits[rows], np.full(len(now.eps), now.label)),
        distance=np.where(fits, distance, 0.0),
        reached=fits,
        endings=tuple(Ending.FOOLED if fit else missed for fit in fits),
        verdict=result.verdict,
        conditions=result.conditions | {"sizes": now.eps.tolist()},
    )


def _not_yet(request: AttackRequest) -> Ending:
    return Ending.HOLDS if request.target is None else Ending.TARGET_MISSED


def _conditions(engine: Engine, request: AttackRequest, now: EpsSweep, before: Mapping[str, Any]) -> dict[str, Any]:
    about = described(request)
    del about["eps"], about["eps_text"]
    return about | {
        "sizes": now.eps.tolist(),
        "weights": zoo.card(request.model).sha256,
        "label": now.label,
        "label_known": request.label is not None,
        **before,
        **made_on(engine.description),
    }
