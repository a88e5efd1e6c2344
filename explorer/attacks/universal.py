"""One change for many images: a universal perturbation, by projected gradient ascent on the images' clamped losses.

Universal perturbations: Moosavi-Dezfooli et al., arXiv:1610.08401. The ascent: Shafahi et al., arXiv:1811.11304.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Recorder, forward, relative, replace_degenerate, value_and_grad
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Goal, InvalidValue, Step, ThreatModel, param
from explorer.core.rng import rng_on

INSIDE = 1 - 2.0**-22  # so that float32's rounding leaves no shared change outside its ball


def applied(x: Tensor, delta: Tensor, ball: Ball) -> Tensor:
    """Any images x (N,C,H,W) with the one change delta (1,C,H,W): exactly inside `ball` around x, and inside [0, 1]."""
    return ball.project(x + delta, x)


@ATTACKS.register(
    "universal",
    title="Universal perturbation",
    paper="arXiv:1811.11304; the idea arXiv:1610.08401",
    group="iterated",
    summary="One and the same change for all pictures of a batch; on a single picture it is an ordinary attack.",
)
@dataclass(frozen=True)
class Universal(PGD, steps=40, rel_step=0.1):
    """delta <- project(delta + alpha * steepest(gradient of the mean over the images of min(loss, clamp))).

    Every image of a batch is attacked with the same delta: image i is project(x_i + delta), `applied`. `Step.shared`
    is delta, and `run` chooses one delta for all. Yields restarts * (steps + 1) steps.
    differs: 1610.08401 goes from image to image with DeepFool; this is the ascent of 1811.11304 on the whole batch
    instead of on mini-batches, with a step in the norm's steepest direction.
    differs: an image whose loss has reached `clamp` counts no more unless all have; a gradient that is exactly zero or
    not finite for all images gives way to a random step.
    """

    formula: ClassVar[str] = (
        r"\delta_{t+1} = \Pi\,\big[\,\delta_t + \alpha\, d\big(\nabla\, \textstyle\sum_i \min\{L_i, \beta\}\big)\big]"
    )
    explanation: ClassVar[str] = (
        r"Look for one change $\delta$ that fools the model on many pictures at once; $L_i$ is the loss of picture "
        r"$i$ with that change. Ask for every picture which way its loss grows, add up the answers, step that way in "
        r"the steepest direction $d$, and let $\Pi$ pull the change back into the ball. A picture whose loss has "
        r"reached $\beta$ is fooled well enough and counts no more, so that the others get their turn. On a single "
        r"picture nothing is shared, and this is PGD with a bounded loss: how far one change carries shows on many "
        r"pictures, also on those it was not made from."
    )
    presets = {
        "weak": {"steps": 10, "rel_step": 0.25},
        "standard": {"steps": 40, "rel_step": 0.1},
        "strong": {"steps": 100, "rel_step": 0.05, "restarts": 3},
    }

    clamp: float = param(
        9.0, "enough loss", lo=0.1, hi=1000.0, step=0.5, help="From this loss on, an image counts no more in the sum."
    )

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        if not isinstance(threat, Ball) or isinstance(threat.eps, Tensor):
            raise InvalidValue("eps must be one number for Universal: all images of a batch share one change.")
        return self._walk(model, x0.detach(), goal, threat, rng)

    def _walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        region, rng = ball.around(x0), rng_on(x0.device, rng)
        recorder = Recorder(self, goal, region, self.restarts * (self.steps + 1) - 1)
        for restart in range(self.restarts):
            delta = self._change(x0, ball, rng) if self.random_start or restart > 0 else torch.zeros_like(x0[:1])
            for _ in range(self.steps):
                x = region.project(x0 + delta)
                at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
                yield recorder.step(x, at, restart=restart, shared=delta)
                way = ball.steepest(replace_degenerate(self._summed(at, goal), rng))
                delta = _cut(delta + self.step_size(ball.eps) * way, ball)
            x = region.project(x0 + delta)
            at = forward(model, x, goal, self.loss, self.draws, rng)
            yield recorder.step(x, at, restart=restart, shared=delta)

    def _summed(self, at: Evaluation, goal: Goal) -> Tensor:
        """(1,C,H,W) the gradient of the sum of the clamped losses, up to scale."""
        open_ = at.loss < self.clamp
        scale = torch.where(open_ | ~open_.any(), at.log_scale(goal, self.loss), -math.inf)
        weights = torch.where(at.degenerate, 0, relative(scale, 0)).view(-1, 1, 1, 1)
        return torch.where(weights > 0, at.gradient * weights, 0).sum(0, keepdim=True)

    def _change(self, x0: Tensor, ball: Ball, rng: torch.Generator) -> Tensor:
        """(1,C,H,W) a random change of the ball (of no more than 0.5 a pixel)."""
        grey = torch.full_like(x0[:1], 0.5)
        return _cut(ball.sample(grey, rng) - grey, ball)


def _cut(delta: Tensor, ball: Ball) -> Tensor:
    """The nearest change inside the ball, with no image and so no pixel range around it."""
    limit = float(ball.eps) * INSIDE
    if ball.norm == "linf":
        return delta.clamp(-limit, limit)
    length = ball.distance(delta, torch.zeros_like(delta)).to(delta)
    return delta * (limit / length).clamp(max=1).view(-1, 1, 1, 1)  # length 0 gives inf, clamped to 1
