"""Auto-PGD in L1 (Croce & Hein, arXiv:2103.01208): sparse steps, projected exactly onto the L1 ball and the pixel range."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Recorder, forward, gaussian, replace_degenerate, value_and_grad
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, Step, fixed

FIRST_SHARE = 0.2  # of the values that the first steps change
SPARSER = 1.5  # so many times fewer values than the best point has changed are stepped along; and the step shrinks so
STEADY = 0.95  # of the values changed at the last check: fewer now means that the steps go on at their full length
LEAST_STEP = 0.1  # of eps
CHECKS = 0.04  # of all steps lie between two checks


@ATTACKS.register(
    "apgd-l1",
    title="APGD-L1",
    paper="arXiv:2103.01208",
    group="iterated",
    summary="PGD for a budget on the sum of all changes: it learns how few values a step should change.",
)
@dataclass(frozen=True)
class APGDL1(PGD, steps=100, rel_step=fixed(1.0), random_start=True):
    """u = x + eta * sign(g_k) / k, g_k the k steepest values of the gradient; x <- the nearest to u in the L1 ball and [0, 1].

    Every 4 % of the steps (algorithm 1 of section 3): k becomes the number of values that the best point has changed, over 1.5.
    If that number has fallen by 5 %, eta is eps again and x goes back to the best point; else eta is divided by 1.5, down to
    eps / 10. A random start is Gaussian noise, projected.
    differs: one ball of radius eps from the beginning, not first 3 and 2 times as large ones.
    differs: values at 0 or 1 that would go beyond are none of the k; a step would stand still on them.
    differs: a gradient that is exactly zero or not finite gives way to a random direction.
    """

    threats: ClassVar[tuple[str, ...]] = ("l1",)
    formula: ClassVar[str] = (
        r"x_{t+1} = \Pi\,\big[\,x_t + \tfrac{\eta}{k}\,\mathrm{sign}\big(\nabla_x L(x_t, y)\big)_{k\text{ steepest}}\big]"
    )
    explanation: ClassVar[str] = (
        r"In L1 all changes together share one sum $\varepsilon$, so it pays to spend it on few values. Each step moves only the "
        r"$k$ values of steepest slope, and $\Pi$ finds the nearest allowed picture, with the range of the pixels in mind: to "
        r"clip afterwards would waste what is cut off. How sparse the best picture so far is says how large $k$ should be."
    )
    presets = {"weak": {"steps": 20}, "standard": {}, "strong": {"steps": 200, "restarts": 5}}

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        return region.project(region.x0 + gaussian(region.x0, rng))

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        recorder = Recorder(self, goal, region, self.restarts * (self.steps + 1) - 1)
        x0 = region.x0
        every, values = max(int(CHECKS * self.steps), 1), x0[0].numel()
        for restart in range(self.restarts):
            x = self.start(region, rng) if self.random_start or restart > 0 else region.origin
            count = torch.full_like(x0[:, :1, :1, :1], FIRST_SHARE * values)  # k, as all below (N,1,1,1)
            changed, step = torch.full_like(count, values), torch.ones_like(count)
            best, best_loss, best_grad = x, torch.full_like(count, -torch.inf), torch.zeros_like(x)
            for update in range(self.steps):
                at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
                yield recorder.step(x, at, restart=restart)
                grad, loss = at.gradient, at.loss.view_as(count)
                better = ~(loss < best_loss)
                best, best_grad = torch.where(better, x, best), torch.where(better, grad, best_grad)
                best_loss = torch.where(better, loss, best_loss)
                if update and update % every == 0:
                    now = (best != x0).flatten(1).sum(1).to(x0).view_as(count)
                    sparser, count, changed = now < STEADY * changed, now / SPARSER, now
                    step = torch.where(sparser, 1.0, (step / SPARSER).clamp(min=LEAST_STEP))
                    x, grad = torch.where(sparser, best, x), torch.where(sparser, best_grad, grad)
                way = replace_degenerate(grad, rng)
                way = way.masked_fill(((x <= 0) & (way < 0)) | ((x >= 1) & (way > 0)), 0)
                x = region.project(x + step * region.size * sparse_sign(way, count))
            yield recorder.step(x, forward(model, x, goal, self.loss, self.draws, rng), restart=restart)


def sparse_sign(grad: Tensor, count: Tensor) -> Tensor:
    """The signs of the `count` (N,1,1,1) steepest values (one at least, and all as steep as the last) over their number."""
    size = grad.flatten(1).abs()
    order = size.sort(dim=1, descending=True).values
    last = order.gather(1, (count.flatten(1).long() - 1).clamp(0, size.shape[1] - 1))
    signs = grad.sign() * (size >= last).view_as(grad)
    return signs / signs.abs().sum((1, 2, 3), keepdim=True).clamp(min=1)
