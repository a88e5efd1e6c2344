"""Batch walk: one attack on many pictures at once, recorded, and the last word on the best point of each.

What is recorded is kept small, whatever the number of steps: a picture's margin, distance and success after each step
(13 bytes), and one image a picture, the best so far. A thousand steps on 32 pictures of CIFAR-10 take less than a
megabyte, where all their frames would take 390. Who wants their features, too, records them beside it (`FeatureFrames`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explorer.core import Best, Classifier, Goal, InvalidValue, Step, ThreatModel, seeded
from explorer.core.precision import rounded
from explorer.core.rng import derived_seed
from explorer.data import raw
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import into
from explorer.engine.labels import leaving, settled_rows
from explorer.engine.rows import Rows
from explorer.engine.tracing import FIRST_LOOK, LAST_WORD, described, made_on
from explorer.evaluation.batch_attack import ANYWHERE
from explorer.evaluation.outcome import classified_right, fooling
from explorer.evaluation.verdict import Verdict, draw_logits, verdict_draws, verify
from explorer.models import zoo

BATCH = 16  # pictures that are judged between two turns of others


class BatchWalk:
    """One model's walk over the pictures of a batch that it gets right: `begin`, exhaust `walk`, then `judge`.

    On a stochastic model a step's own verdict is noise, so there the mean loss chooses (`Best`). N pictures, A of them
    attacked.
    """

    logits: Tensor  # (A,K) at the best points, from the first step on

    def __init__(self, model: Classifier, request: ManyRequest, precision: str = "float32") -> None:
        """`precision`: of the attack's passes; the verdict's are in float32."""
        self.model, self.request, self.precision = model, request, precision
        self.best = Best(request.is_minimal, by_loss=model.stochastic)
        self.curve = Rows(
            request.one.frames
        )  # after each step, best so far: "margin", "distance", "reached", each (A,)

    def begin(self, x0: Tensor, labels: Tensor, true: Tensor, clean: Verdict) -> None:
        """x0 (N,C,H,W) on the model's device; labels (N,), settled and true ones, and the verdict on the untouched pictures on the
        CPU."""
        self.x0, self.before = x0, clean.predicted.numpy()  # (N,) class
        self.right = classified_right(clean, labels, true).numpy()  # (N,) bool: those that are attacked
        self.attacked = np.flatnonzero(self.right)  # (A,)
        keep = torch.from_numpy(self.attacked)
        self._own_x0, self._labels = x0[keep.to(x0.device)], labels[keep]
        target, y = self.request.target, self._labels.to(x0.device)
        self._truth = leaving(y, true[keep])
        self.goal = self._truth if target is None else Goal.targeted(torch.full_like(y, target))

    def walk(self) -> Iterator[Step]:
        """Each step of the attack, once it is recorded."""
        one, seen = self.request.one, rounded(self.model, self.precision)
        for step in one.method.walk(seen, self._own_x0, self.goal, one.threat, seeded(one.seed)):
            self.add(step)
            yield step

    def add(self, step: Step) -> None:
        """Record one more step. Raises FloatingPointError if logits are not finite."""
        if not bool(torch.isfinite(step.logits).all()):
            raise FloatingPointError(f"the logits of step {len(self.curve)} are not finite")
        first = self.best.last is None
        better = self.best.add(step)
        if first:
            self.logits = step.logits.detach().clone()
        else:
            self.logits[better] = step.logits.detach()[better]
        self.curve.add(
            {
                "margin": -self._truth.margin(self.logits).float().cpu().numpy(),
                "distance": self.best.distance.double().cpu().numpy(),
                "reached": self.best.success.cpu().numpy(),
            }
        )

    def judge(self, rng: torch.Generator) -> Generator[None, None, tuple[Verdict, np.ndarray]]:
        """The verdict on the A best points, on draws from `rng`, and (A,) bool which of them fool the model."""
        found = self.best.outcome()
        threat = self.request.one.threat
        verdict = yield from verdicts(self.model, found.x, self._own_x0, self.goal, threat, rng, found.theta)
        return verdict, fooling(verdict, self._labels, self.request.target, self._truth.also).numpy()

    def whole(self, x: Tensor) -> Tensor:
        """(N,C,H,W): the attacked pictures at x (A,C,H,W), the others as they were."""
        images = self.x0.clone()
        images[torch.from_numpy(self.attacked).to(x.device)] = x.detach()
        return images

    def merged(self, others: np.ndarray, attacked: np.ndarray) -> np.ndarray:
        """A copy of `others` (N,...) with the values `attacked` (A,...) for the pictures that are attacked."""
        return into(others, self.attacked, attacked)

    def conditions(self, chosen: str, device: str) -> dict[str, Any]:
        """Of the walk, as plain values; `chosen` says how its pictures were chosen."""
        about = described(self.request.one)
        del about["image"]
        about |= {
            "weights": zoo.card(self.request.model).sha256,
            "stochastic": self.model.stochastic,
            "chosen": chosen,
            "verdict_draws": verdict_draws(self.model),
            "precision": self.precision,
            **made_on(device),
        }
        if self.best.last is not None:
            last = self.best.last
            about |= {"forwards": int(last.forwards.sum()), "backwards": int(last.backwards.sum())}
            about["stalled_share"] = self.best.degenerate_share
        return about

    @property
    def nbytes(self) -> int:
        """The memory of all that is kept of the walk."""
        best = self.best
        kept = (best.x, best.distance, best.loss, best.success, self.logits)
        return self.curve.nbytes + sum(tensor.nbytes for tensor in kept)


def last_word_rng(request: ManyRequest) -> torch.Generator:
    """Draws that the attack has not seen."""
    return seeded(derived_seed(request.seed, LAST_WORD))


def choose_pictures(
    request: ManyRequest, models: Mapping[str, Classifier]
) -> Generator[None, None, tuple[list[int], list[Verdict]]]:
    """The rows of the bundled sample, and each model's verdict on these pictures as they are.

    With pick "right" the first that all the models get right; raises InvalidValue if there are too few.
    """
    rng = [seeded(derived_seed(request.seed, FIRST_LOOK)) for _ in models]
    pool = request.candidates if request.pick == "right" else request.candidates[: request.count]
    rows: list[int] = []
    found: list[list[Verdict]] = [[] for _ in models]
    for at in range(0, len(pool), BATCH):
        some = list(pool[at : at + BATCH])
        x = pixels_of(request.dataset, some)
        kept = torch.ones(len(some), dtype=torch.bool)
        clean = []
        for model, draws in zip(models.values(), rng, strict=True):
            there = x.to(model.device)
            y = torch.from_numpy(settled_rows(model, request.dataset, some, there, request.seed))
            clean.append(verify(model, there, there, Goal.untargeted(y.to(model.device)), ANYWHERE, draws))
            if request.pick == "right":
                kept &= classified_right(clean[-1], y)
            yield None
        if request.pick == "right":
            kept &= kept.cumsum(0) <= request.count - len(rows)
        rows += [row for row, keep in zip(some, kept.tolist(), strict=True) if keep]
        for parts, verdict in zip(found, clean, strict=True):
            parts.append(_rows_of(verdict, kept))
        if len(rows) == request.count:
            return rows, [_joined(parts) for parts in found]
    raise InvalidValue(
        f"Only {len(rows)} of these {len(pool)} pictures are classified right by {' and '.join(models)}; "
        f"{request.count} were asked for."
    )


def pixels_of(name: str, rows: list[int]) -> Tensor:
    """(N,C,H,W) float32 of the bundled sample."""
    return raw(name, "test", "sample")[0][rows].float() / 255


def verdicts(
    model: Classifier,
    x: Tensor,
    x0: Tensor,
    goal: Goal,
    threat: ThreatModel,
    rng: torch.Generator,
    theta: Tensor | None = None,
) -> Generator[None, None, Verdict]:
    """The verdict on all images, some at a time."""
    parts = []
    for some in torch.arange(len(x), device=x.device).split(BATCH):
        there = None if theta is None else theta[some]
        parts.append(verify(model, x[some], x0[some], goal.rows(some), threat.rows(some), rng, theta=there))
        yield None
    return _joined(parts)


def mean_logits(model: Classifier, x: Tensor, rng: torch.Generator) -> Generator[None, None, np.ndarray]:
    """(N,K) float32, over as many fresh draws as a verdict takes."""
    means = []
    for some in x.split(BATCH):
        means.append(torch.cat(list(draw_logits(model, some, rng, verdict_draws(model)))).mean(0))
        yield None
    return torch.cat(means).cpu().numpy()


def _tensors(verdict: Verdict) -> dict[str, Tensor]:
    return {name: value for name, value in vars(verdict).items() if isinstance(value, Tensor)}


def _rows_of(verdict: Verdict, keep: Tensor) -> Verdict:
    kept: dict[str, Any] = {name: value[keep] for name, value in _tensors(verdict).items()}
    return dataclasses.replace(verdict, **kept)


def _joined(parts: list[Verdict]) -> Verdict:
    whole: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _tensors(parts[0])}
    return dataclasses.replace(parts[0], **whole)
