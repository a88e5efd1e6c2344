"""One change for many images: a universal perturbation, by projected gradient ascent on the images' clamped losses.

Universal perturbations: Moosavi-Dezfooli et al., arXiv:1610.08401. The ascent: Shafahi et al., arXiv:1811.11304.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm, dead, log_scale, look, look_and_pull, relative, revived
from explorer.core import LOSSES, Ball, Goal, Hyper, Step, param

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
class Universal(Hyper):
    """delta <- project(delta + alpha * steepest(gradient of the mean over the images of min(loss, clamp))).

    Every image of a batch is attacked with the same delta: image i is project(x_i + delta), `applied`. `Step.shared`
    is delta, and `run` chooses one delta for all. Yields restarts * (steps + 1) steps.
    differs: 1610.08401 goes from image to image with DeepFool; this is the ascent of 1811.11304 on the whole batch
    instead of on mini-batches, with a step in the norm's steepest direction.
    differs: an image whose loss has reached `clamp` counts no more unless all have; a gradient that is exactly zero or
    not finite for all images gives way to a random step.
    """

    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    shares_delta: ClassVar[bool] = True  # what becomes of one image depends on the others of its batch
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

    steps: int = param(40, "steps", lo=1, hi=1000, help="How many times the shared change is updated.")
    rel_step: float = param(
        0.1, "step size", lo=0.001, hi=2.0, unit="x eps", step=0.005, help="Length of one update, relative to eps."
    )
    random_start: bool = param(True, "random start", help="Begin with a random change instead of none.")
    restarts: int = param(1, "restarts", lo=1, hi=100, help="Independent tries; the one that fools most images is kept.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "ce", "loss", choices=LOSSES, help="What is pushed up: cross-entropy, or the margin between the best two logits."
    )
    clamp: float = param(
        9.0, "enough loss", lo=0.1, hi=1000.0, step=0.5, help="From this loss on, an image counts no more in the sum."
    )

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        return self._walk(model, x0.detach(), goal, ball, rng)

    def _walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        region, each = ball.around(x0), self.steps + 1
        passes = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        forwards = backwards = passes
        for index in range(self.restarts * each):
            restart, at = divmod(index, each)
            if at == 0:
                delta = self._start(x0, ball, rng, restart > 0)
            x, last = region.project(x0 + delta), at == self.steps
            view = (look if last else look_and_pull)(model, x, goal, self.loss, self.draws, rng)
            forwards, backwards = forwards + self.draws, backwards + (0 if last else self.draws)
            degenerate = torch.zeros_like(passes, dtype=torch.bool) if last else dead(view.gradient)
            yield Step(
                index=index,
                total=self.restarts * each - 1,
                x=x,
                logits=view.logits,
                loss=view.loss,
                distance=region.distance(x),
                reached=goal.reached(view.logits),
                degenerate=degenerate,
                forwards=forwards,
                backwards=backwards,
                restart=restart,
                shared=delta,
            )
            if not last:
                open_ = view.loss < self.clamp
                scale = log_scale(view, goal, self.loss)
                scale = torch.where(open_, scale, -math.inf) if bool(open_.any()) else scale
                weights = torch.where(degenerate, 0, relative(scale, 0)).view(-1, 1, 1, 1)
                pull = torch.where(weights > 0, view.gradient * weights, 0).sum(0, keepdim=True)
                way = ball.steepest(revived(pull, dead(pull), rng))
                delta = _cut(delta + self.rel_step * ball.eps * way, ball)

    def _start(self, x0: Tensor, ball: Ball, rng: torch.Generator, again: bool) -> Tensor:
        """(1,C,H,W) no change, or a random one of the ball (of no more than 0.5 a pixel)."""
        grey = torch.full_like(x0[:1], 0.5)
        return _cut(ball.sample(grey, rng) - grey, ball) if self.random_start or again else torch.zeros_like(grey)


def _cut(delta: Tensor, ball: Ball) -> Tensor:
    """The nearest change inside the ball, with no image and so no pixel range around it."""
    limit = ball.eps * INSIDE
    if ball.norm == "linf":
        return delta.clamp(-limit, limit)
    length = ball.distance(delta, torch.zeros_like(delta)).to(delta)
    return delta * (limit / length).clamp(max=1).view(-1, 1, 1, 1)  # length 0 gives inf, clamped to 1
