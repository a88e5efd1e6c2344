"""Recording a batch's walk as traces, one an image: frames, logits, features, loss and distances of every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from explorer.core import Attack, Classifier, Goal, Step, ThreatModel, Trace, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.evaluation.outcome import reached_in_most, wrong_in_most
from explorer.evaluation.verdict import draw_logits, verdict_draws

LOOK = 1  # a stream of randomness beside the attack's own, so that recording does not change the walk


class BatchRecorder:
    """Keeps every step of one walk over x0 (N,C,H,W), the untouched images first.

    differs from the traces of the app: the features are those of one more pass (a random model's: with draws of its own).
    """

    def __init__(
        self, model: Classifier, x0: Tensor, y: Tensor, goal: Goal, attack: Attack, threat: ThreatModel, seed: int
    ) -> None:
        self._model, self._x0, self._y, self._goal, self._attack = model, x0, y, goal, attack
        self._region = threat.around(x0)
        self._rng = seeded(derived_seed(seed, LOOK))
        _, features = self._look(x0)
        looks = self._looks(x0)  # (d,N,K)
        self._wrong, self._draws, logits = wrong_in_most(looks, y.to(x0.device)), len(looks), looks.mean(0)
        loss, reached = goal.loss(logits, attack.loss), reached_in_most(looks, goal)
        passes = torch.zeros(len(x0), dtype=torch.int64)
        frame = self._frame(x0, logits, features, loss, reached, torch.zeros_like(reached), passes)
        self._frames = [frame | self._parameters(self._region.origin)]

    def add(self, step: Step) -> None:
        _, features = self._look(step.x)
        passes = step.forwards + step.backwards
        frame = self._frame(step.x, step.logits, features, step.loss, step.reached, step.degenerate, passes)
        self._frames.append(frame | self._parameters(step.theta))

    def traces(self, classes: tuple[str, ...], conditions: Mapping[str, Any]) -> tuple[Trace, ...]:
        """One for each image."""
        whole = {name: torch.stack([frame[name] for frame in self._frames]) for name in self._frames[0]}  # (T,N,...)
        goal, planned = self._goal, len(self._frames)
        return tuple(
            Trace(
                **_arrays(whole, i),
                label=int(self._y[i]),
                target=int(goal.labels[i]) if goal.is_targeted else None,
                classes=classes,
                planned=planned,
                minimal=self._attack.budget == "minimal",
                conditions={
                    **conditions,
                    "eps": _of(conditions["eps"], i),
                    "wrong_before": bool(self._wrong[i]),
                    "draws_before": self._draws,
                },
            )
            for i in range(len(self._x0))
        )

    def _looks(self, x: Tensor) -> Tensor:
        """(d,N,K) logits of as many fresh looks as a verdict takes."""
        return torch.cat(list(draw_logits(self._model, x, self._rng, verdict_draws(self._model))))

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N,K) and features (N,D) of one pass in float32."""
        with torch.no_grad(), use_generator(self._rng), torch.autocast(x.device.type, enabled=False):
            logits, features = self._model.both(x.float())
        return logits.float(), features.float()

    def _parameters(self, theta: Tensor | None) -> dict[str, Tensor]:
        """Of a frame under a transformation; nothing where points are images."""
        if theta is None or theta.ndim != 2:
            return {}
        return {"theta": theta.float().cpu(), "moved": self._region.distance(theta).cpu()}

    def _frame(
        self,
        x: Tensor,
        logits: Tensor,
        features: Tensor,
        loss: Tensor,
        reached: Tensor,
        degenerate: Tensor,
        passes: Tensor,
    ) -> dict[str, Tensor]:
        change = (x.cpu().double() - self._x0.cpu().double()).flatten(1)
        return {
            "frames": x.detach().float().cpu().clone(),
            "logits": logits.detach().float().cpu(),
            "features": features.cpu(),
            "loss": loss.detach().float().cpu(),
            "linf": change.abs().amax(1),
            "l2": change.norm(dim=1),
            "reached": reached.cpu(),
            "degenerate": degenerate.cpu(),
            "passes": passes.cpu().long(),
        }


def _arrays(whole: Mapping[str, Tensor], image: int) -> dict[str, Any]:
    return {name: values[:, image].numpy() for name, values in whole.items()}


def _of(eps: Any, image: int) -> Any:
    return eps[image] if isinstance(eps, list) else eps
