"""Perturbation transfer: the change made for one picture, or for all of a batch, put on pictures it was not made for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.attacks.universal import applied
from explorer.core import Ball, Classifier, Goal, InvalidValue, seeded
from explorer.core.ball import EPS_LEAST, as_norm
from explorer.core.rng import derived_seed
from explorer.engine.batch import BATCH, pixels_of
from explorer.engine.batch_request import ManyRequest, labels_of, shuffled
from explorer.engine.batch_result import BatchResult, FoolingRate
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.parsing import as_whole
from explorer.engine.tracing import LAST_WORD, described, made_on
from explorer.evaluation.batch_attack import ANYWHERE
from explorer.evaluation.outcome import classified_right, fooling
from explorer.evaluation.verdict import verify

MAX_OTHERS = 200  # pictures that a finished change is put on
OTHER_PICTURES, NOISE, SHUFFLING = 4, 5, 6  # streams of randomness beside those of a single walk and of the choice
KINDS = ("change", "noise", "shuffled")  # what is put on the others: the change itself, and two honest baselines


@dataclass(frozen=True, eq=False)
class PerturbationTransfer:
    """A change put on pictures that it was not made for, so far; beside two baselines of the same size."""

    change: np.ndarray  # (C,H,W) float32, signed
    given: int | None  # the picture it was made on; None: on all of the batch
    norm: str
    size: float  # of the ball it was projected into
    n: int  # pictures in the end
    rows: np.ndarray  # (m,) of the bundled sample, m <= n
    labels: np.ndarray  # (m,)
    right: np.ndarray  # (m,) bool, before
    before: np.ndarray  # (m,) class the untouched picture is taken for
    after: Mapping[str, np.ndarray]  # by KINDS: (m,) class the changed one is taken for
    fooled: Mapping[str, np.ndarray]  # by KINDS: (m,) bool, none of which was wrong before
    images: np.ndarray  # (m,C,H,W) float32 with the change on them
    seconds: float
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.conditions)

    def fooling_rate(self, kind: str) -> FoolingRate:
        return FoolingRate.of(self.right, self.fooled[kind])


def transfer_work(
    engine: Engine, made: BatchResult, given: int | None, n: int = MAX_OTHERS, seed: int = 0
) -> Callable[[], Iterator[PerturbationTransfer | None]]:
    """Work that puts a finished batch's change on up to `n` pictures that are not in it, and judges them.

    `given`: the picture whose change it is; None for an attack that made one change for all. Two baselines on the same
    pictures, in the same ball: uniform noise drawn anew for each picture, and the change itself with its pixels' places
    shuffled (it keeps every value and loses the pattern). Raises InvalidValue for an unfit picture or number.
    """
    request = made.request
    n = as_whole("n", n, 1, MAX_OTHERS)
    seed = as_whole("seed", seed, 0, 2**31 - 1)
    if not made.finished:
        raise InvalidValue("The attack has not ended yet: its change is not known.")
    change = made.shared if given is None else made.change(given)
    if change is None:
        raise InvalidValue("Each picture has a change of its own: say whose is to be put on others.")
    labels = labels_of(request.dataset)
    fits = ~np.isin(np.arange(len(labels)), made.rows)
    if request.target is not None:
        fits &= labels != request.target
    rows = shuffled(np.flatnonzero(fits), derived_seed(seed, OTHER_PICTURES))[:n]
    return lambda: timed(lambda clock: _Transfer(engine, request, change, given, rows, seed, clock).work())


class _Transfer:
    """One change on many pictures, some at a time."""

    def __init__(
        self,
        engine: Engine,
        request: ManyRequest,
        change: np.ndarray,
        given: int | None,
        rows: tuple[int, ...],
        seed: int,
        clock: Clock,
    ) -> None:
        self.engine, self.request, self.rows, self.given, self.seed = engine, request, rows, given, seed
        self.clock = clock
        self.change = torch.from_numpy(change)[None].to(engine.device)
        norm = as_norm(request.norm)
        own = float(Ball(norm, 1.0).distance(self.change, torch.zeros_like(self.change)))
        self.size = max(own, EPS_LEAST) if request.is_minimal else request.one.eps
        self.ball = Ball(norm, self.size)
        self.noise, self.places = (seeded(derived_seed(seed, stream)) for stream in (NOISE, SHUFFLING))

    def work(self) -> Generator[PerturbationTransfer | None]:
        model = self.engine.model(self.request.model)
        rng = seeded(derived_seed(self.seed, LAST_WORD))
        parts: list[dict[str, np.ndarray]] = []
        for at in range(0, len(self.rows), BATCH):
            part = yield from self._some(model, list(self.rows[at : at + BATCH]), rng)
            parts.append(part)
            done = {name: np.concatenate([p[name] for p in parts]) for name in part}
            yield self._so_far(done, over=len(done["rows"]) == len(self.rows))

    def _some(
        self, model: Classifier, rows: list[int], rng: torch.Generator
    ) -> Generator[None, None, dict[str, np.ndarray]]:
        request = self.request
        x0 = pixels_of(request.dataset, rows).to(model.device)
        y = torch.from_numpy(labels_of(request.dataset)[rows])
        truth = goal = Goal.untargeted(y.to(model.device))
        if request.target is not None:
            goal = Goal.targeted(torch.full_like(truth.labels, request.target))
        before = verify(model, x0, x0, truth, ANYWHERE, rng)
        found = {"rows": np.array(rows), "labels": y.numpy(), "before": before.predicted.numpy()}
        found["right"] = classified_right(before, y).numpy()
        region = self.ball.around(x0)
        for kind in KINDS:
            yield None
            x = region.sample(self.noise) if kind == "noise" else applied(x0, self._laid(kind, len(rows)), self.ball)
            verdict = verify(model, x, x0, goal, self.ball, rng)
            found[f"fooled {kind}"] = found["right"] & fooling(verdict, y, request.target).numpy()
            found[f"after {kind}"] = verdict.predicted.numpy()
            if kind == "change":
                found["images"] = x.cpu().numpy()
        return found

    def _laid(self, kind: str, n: int) -> Tensor:
        """The change (1,C,H,W), or (n,C,H,W) with its pixels in other places, channels kept together."""
        if kind == "change":
            return self.change
        flat = self.change[0].flatten(1)  # (C, H*W)
        moved = [flat[:, torch.randperm(flat.shape[1], generator=self.places).to(flat.device)] for _ in range(n)]
        return torch.stack(moved).view(n, *self.change.shape[1:])

    def _so_far(self, done: dict[str, np.ndarray], over: bool) -> PerturbationTransfer:
        conditions = {}
        if over:
            conditions = described(self.request.one) | {
                "image": self.given,
                "applied_to": len(self.rows),
                "applied_seed": self.seed,
                "applied_norm": self.ball.norm,
                "applied_size": self.size,
                "others_chosen": f"drawn at random from the bundled test pictures outside the strip (seed {self.seed})",
                "seconds": round(self.clock.seconds, 3),
                **made_on(self.engine.description),
            }
        return PerturbationTransfer(
            change=self.change[0].cpu().numpy(),
            given=self.given,
            norm=self.ball.norm,
            size=self.size,
            n=len(self.rows),
            after={kind: done[f"after {kind}"] for kind in KINDS},
            fooled={kind: done[f"fooled {kind}"] for kind in KINDS},
            seconds=self.clock.seconds,
            conditions=conditions,
            **{name: done[name] for name in ("rows", "labels", "right", "before", "images")},
        )
