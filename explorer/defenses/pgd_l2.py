"""Adversarial training in L2 (Madry et al., arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.core import USUAL_EPS, param
from explorer.core.ball import Norm
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe


@RECIPES.register(
    "pgd-l2",
    title="Adversarial training, L2",
    paper="arXiv:1706.06083",
    group="adversarial training",
    summary="Trained on images attacked inside L2 0.5: withstands changes that are short as a whole, not pixel by pixel.",
)
@dataclass(frozen=True)
class PgdL2(OnResNet, AdversarialRecipe, epochs=5, lr=0.1, warmup=0.15, start="cifar10/baseline"):
    """From the baseline's weights; by default one step of full length from the image, with more PGD.

    The usual setting is ten steps (`--set inner_steps=10`).
    """

    norm: ClassVar[Norm] = "l2"
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{\|\delta\|_2 \le \varepsilon} L\big(f_\theta(x + \delta), y\big)"
    )
    explanation: ClassVar[str] = (
        r"As adversarial training in L∞, but what is held down is the length of the whole change $\delta$: few pixels may change "
        r"much. At the usual lengths one gradient step of full length finds nearly as strong a change as ten small ones, so that "
        r"training needs no more. The network keeps more of its clean accuracy, and withstands less in L∞."
    )
    smoke = {"epochs": 1, "width": 8, "selection_steps": 2, "start": ""}

    eps: float = param(USUAL_EPS["l2"], "eps", lo=1e-3, hi=10.0, help="Radius of the L2 ball attacked in, as a length.")
    inner_steps: int = param(1, "inner steps", lo=1, hi=50, help="1: one full step from the image; more: PGD steps.")
