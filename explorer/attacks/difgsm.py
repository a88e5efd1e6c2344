"""Diverse inputs: DI2-FGSM and, with momentum, M-DI2-FGSM (Xie et al., arXiv:1803.06978), in Linf and L2."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, forward, value_and_grad
from explorer.attacks.mifgsm import MIFGSM
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, param


def shrunk(x: Tensor, smallest: float, rng: torch.Generator) -> Tensor:
    """Each image of x (N,C,H,W) scaled by its own factor, uniform in [smallest, 1], and placed anywhere on a grey canvas
    of the old size; bilinear, differentiable in x. (As matrix products: a scatter's gradient is not repeatable on a GPU.)
    """
    u = torch.rand(3, len(x), generator=rng, device=rng.device).to(x.device)
    scale = 1 - (1 - smallest) * u[0]
    rows, columns = (_resampling(n, scale, place).to(x.dtype) for n, place in zip(x.shape[2:], u[1:], strict=True))
    return 0.5 + rows[:, None] @ (x - 0.5) @ columns[:, None].mT


def _resampling(n: int, scale: Tensor, place: Tensor) -> Tensor:
    """(N,n,n): row i holds the weights of the old pixels in new pixel i; it is short of 1 where the canvas shows."""
    pixels = torch.arange(n, device=scale.device)
    offset = (place * (1 - scale) * n)[:, None]
    source = (pixels + 0.5 - offset) / scale[:, None] - 0.5  # (N,n) where new pixel i lies in the old image
    return (1 - (source[:, :, None] - pixels).abs()).clamp(min=0)


@ATTACKS.register(
    "difgsm",
    title="DI²-FGSM",
    paper="arXiv:1803.06978",
    group="iterated",
    summary="Steps whose gradient is often taken through a shrunk copy: made for images that also fool other models.",
)
@dataclass(frozen=True)
class DIFGSM(PGD, steps=10, rel_step=0.0, random_start=False):
    """x <- project(x + alpha * sign(gradient of loss(T(x; p)))); T shrinks with probability p, else leaves x as it is.

    The variant: a factor uniform in [smallest, 1], bilinear, at a random place of a mid-grey canvas of the model's own
    size (official code: [299, 330) of 330, the same proportions, nearest neighbour, and the network sees all 330). Coin,
    factor and place are drawn for each image and step anew, factor and place for each draw, too.
    differs: one coin an image, not one a batch (official); continuous factors and places; L2, restarts, draws are ours.
    cost: a step reports the model at x itself: one forward pass more where a copy was shrunk, p * steps on average.
    """

    formula: ClassVar[str] = r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}\big(\nabla_x L(T(x_t; p), y)\big)\big]"
    explanation: ClassVar[str] = (
        r"As in PGD, but before each question to the model a coin is tossed: with probability $p$ the model sees the picture "
        r"a little smaller, somewhere on a grey canvas ($T$). A change that must work for all these views hangs less on the "
        r"details of one model, and so more often fools others. Every number shown is the picture's own, not the copy's."
    )
    presets = MIFGSM.presets

    probability: float = param(
        0.5, "probability", lo=0.0, hi=1.0, step=0.05, help="How often a step looks at a shrunk copy of the image."
    )
    smallest: float = param(
        0.9, "smallest size", lo=0.5, hi=1.0, unit="x side", step=0.01, help="The strongest shrinking of the side."
    )

    @property
    def expected_passes(self) -> int:
        """At most: two forward passes and a backward one for an update, and a last look."""
        return self.restarts * (3 * self.steps + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The gradient through the copies; logits and loss at x itself, for which shrunk images are looked at again."""
        chosen = torch.rand(len(x), generator=rng, device=rng.device).to(x.device) < self.probability
        rows = chosen.nonzero()[:, 0]
        if len(rows) == 0:
            return super().gradient(model, x, goal, region, rng, state)
        copies = (rows[:, None] * self.draws + torch.arange(self.draws, device=rows.device)).flatten()

        def through_copies(pixels: Tensor) -> Tensor:  # (N * draws,C,H,W)
            return model(pixels.index_copy(0, copies, shrunk(pixels[copies], self.smallest, rng)))

        at = value_and_grad(through_copies, x, goal, self.loss, self.draws, rng)
        true = forward(model, x[rows], goal.rows(rows), self.loss, self.draws, rng)
        logits, loss = at.logits.index_copy(0, rows, true.logits), at.loss.index_copy(0, rows, true.loss)
        return replace(at, logits=logits, loss=loss, forwards=self.draws * (1 + chosen.long()))


@ATTACKS.register(
    "mdifgsm",
    title="M-DI²-FGSM",
    paper="arXiv:1803.06978",
    group="iterated",
    summary="Shrunk copies and momentum together: the strongest of this family for transfer to other models.",
)
@dataclass(frozen=True)
class MDIFGSM(DIFGSM, MIFGSM):
    """DI2-FGSM (its variant, differences and cost: see DIFGSM) along MI-FGSM's momentum of gradients (see MIFGSM)."""

    formula: ClassVar[str] = (
        r"g_{t+1} = \mu\, g_t + \frac{\nabla_x L(T(x_t; p), y)}{\lVert \nabla_x L(T(x_t; p), y)\rVert_1},\quad "
        r"x_{t+1} = \Pi\,\big[\,x_t + \alpha\,\mathrm{sign}(g_{t+1})\big]"
    )
    explanation: ClassVar[str] = (
        r"Two ideas together: with probability $p$ the model is asked about a slightly smaller copy of the picture on a "
        r"grey canvas ($T$), and the steps go along a running sum of the gradients, in which each older one counts $\mu$ "
        r"times as much as the next. Both keep what different views and models have in common."
    )
