"""Training on a learned mixture of attacks in several norms (Wang et al., arXiv:1906.03563)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks.minmax import reweighted
from explorer.core import param
from explorer.defenses import RECIPES
from explorer.defenses._finetuned import FineTuned
from explorer.defenses._norms import InBothNorms


@RECIPES.register(
    "min-max",
    title="Min-max over norms",
    paper="arXiv:1906.03563",
    group="several norms",
    summary="Attacked in Linf and in L2; learned weights say how much each picture learns from either.",
)
@dataclass(frozen=True)
class MinMax(FineTuned, InBothNorms, epochs=2):
    """Every image has a change in each norm and weights on the simplex, both chosen to make the weighted loss large.

    A long training from scratch is `--set start= --set epochs=30 --set lr=0.2 --set inner_steps=5`.
    differs: fine-tuned for 2 epochs with 2 inner steps, each as long as eps. The paper takes short steps in the weights
    between those in the changes; here they are put where those steps end, at the maximum for the losses that the network
    then learns from. Changes do not depend on the weights, as each norm has one of its own and steps have a fixed length.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{w \in \Delta}\ \sum_{p \in \{2,\infty\}} w_p "
        r"\max_{\|\delta\|_p \le \varepsilon_p} L\big(f_\theta(x + \delta), y\big) - \tfrac{\gamma}{2}\,\big\|w - \tfrac12\big\|^2"
    )
    explanation: ClassVar[str] = (
        r"Every picture is attacked twice, in L∞ and in L2, and the network learns from a mixture of both. The weights $w$, at least "
        r"0 and together 1, lean toward the attack that did more harm; $\gamma$ holds them back. With a very small $\gamma$ only "
        r"the worse attack counts, as in MAT-Max; with a very large one both count the same."
    )

    gamma: float = param(
        1.0,
        "pull to equal weights",
        lo=1e-3,
        hi=1000.0,
        help="Losses that differ by this much or more: only the larger counts.",
    )

    def weights(self, losses: Tensor) -> Tensor:
        """(2,N) on the simplex: the best for the attack, given its losses (2,N)."""
        equal = torch.full_like(losses.T, 1 / len(losses))
        return reweighted(equal, losses.T, 1 / self.gamma, self.gamma).T

    def combine(self, losses: Tensor) -> Tensor:
        return (self.weights(losses.detach()) * losses).sum(0)
