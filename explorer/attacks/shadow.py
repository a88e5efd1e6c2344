"""Shadow attack: a large, smooth, nearly colourless change that may earn a certificate (Ghiasi et al., arXiv:2003.08937)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Network, moved, value_and_grad
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, param
from explorer.core.dense import LinfRegion


@ATTACKS.register(
    "shadow",
    title="Shadow attack",
    paper="arXiv:2003.08937",
    group="iterated",
    summary="A smooth shadow over the whole picture: so far inside the wrong class that a certificate is given for it.",
)
@dataclass(frozen=True)
class Shadow(PGD, steps=100, rel_step=0.05, random_start=False):
    """max of L - lambda_c C(delta) - lambda_tv TV(delta) - lambda_s Dissim(delta), the paper's objective.

    C: squares of each channel's mean |delta|. TV: squares of the differences of neighbours. Dissim: squared differences
    of the channels at a pixel. Means over the D values, times sqrt(D), as the loss's slope is brought to length 1: weights then
    mean the same at any size and any scale of the logits. The certificate of a smoothed model is attacked by giving it as
    the model: its answers are means over noise, as the paper does.
    differs: the change also stays in the ball; with a wide one (L-infinity 0.5) only the penalties hold it, as in the paper.
    differs: steps go along the slope itself, its largest value (L2: its length) as long as a step, not along signs.
    """

    formula: ClassVar[str] = (
        r"\max_\delta\ L(x + \delta) - \lambda_c C(\delta) - \lambda_{tv} TV(\delta) - \lambda_s S(\delta)"
    )
    explanation: ClassVar[str] = (
        r"A certificate says that no small change leads out of the class. It does not say that the class is right. So let the "
        r"change be large, but hard to see: smooth ($TV$), of no colour ($S$), not too strong ($C$), like a shadow that falls on "
        r"the picture. It leads far into the wrong class, where everything around is that class, too, and that is certified."
    )
    presets = {"weak": {"steps": 30, "rel_step": 0.1}, "standard": {}, "strong": {"steps": 300, "restarts": 3}}

    colour: float = param(
        1.0, "price of colour shift", lo=0.0, hi=100.0, step=0.5, help="lambda_c: of each channel's mean change."
    )
    smooth: float = param(
        2.0, "price of roughness", lo=0.0, hi=1000.0, step=0.5, help="lambda_tv: of differences between neighbours."
    )
    alike: float = param(
        5.0,
        "price of unlike channels",
        lo=0.0,
        hi=100.0,
        step=0.5,
        help="lambda_s: of channels that change differently.",
    )

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the slope of the loss less the penalties."""
        at = value_and_grad(model, x, goal, self.loss, self.draws, rng)
        length = at.gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        price = self.price(x - region.x0)
        sound = (length > 0) & length.isfinite()
        return replace(at, grad=torch.where(sound, at.gradient / length - price, at.gradient))

    def update(self, x: Tensor, direction: Tensor, region: Region, length: float | Tensor) -> Tensor:
        """Along the slope: signs would make a smooth change rough."""
        if not isinstance(region, LinfRegion):
            return super().update(x, direction, region, length)
        largest = direction.abs().amax((1, 2, 3), keepdim=True)
        return region.project(moved(x, direction / torch.where(largest > 0, largest, 1), length))

    def price(self, delta: Tensor) -> Tensor:
        """(N,C,H,W) the slope of the penalties at delta."""
        with torch.enable_grad():
            leaf = delta.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.penalty(leaf).sum(), leaf)
        found: Tensor = slope
        return found

    def penalty(self, delta: Tensor) -> Tensor:
        """(N,)."""
        colour = delta.abs().mean((2, 3)).square().sum(1)
        down, right = delta.diff(dim=2).square().mean((1, 2, 3)), delta.diff(dim=3).square().mean((1, 2, 3))
        unlike = (delta - delta.roll(1, 1)).square().mean((1, 2, 3))
        whole = self.colour * colour + self.smooth * (down + right) + self.alike * unlike
        return whole * math.sqrt(delta[0].numel())
