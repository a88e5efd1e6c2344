"""Adversarial training in Linf (Madry et al., arXiv:1706.06083): minimise the loss of attacked images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe


@RECIPES.register(
    "pgd-linf",
    title="Adversarial training, Linf",
    paper="arXiv:1706.06083; arXiv:2202.01181",
    group="adversarial training",
    summary="Trained on images attacked inside Linf 8/255: gives up some clean accuracy for robustness.",
)
@dataclass(frozen=True)
class PgdLinf(
    OnResNet,
    AdversarialRecipe,
    epochs=9,
    lr=0.1,
    warmup=0.15,
    finish_steps=2,
    finish_share=0.17,
    start="cifar10/baseline",
):
    """From the baseline's weights: N-FGSM, then PGD in the last epochs."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)} \max_{\|\delta\|_\infty \le \varepsilon} L\big(f_\theta(x + \delta), y\big)"
    )
    explanation: ClassVar[str] = (
        r"Before every update the pictures are attacked: a change $\delta$ of at most $\varepsilon$ per pixel is sought that "
        r"makes the loss $L$ large, and the weights $\theta$ learn from the attacked pictures. The inner maximum is only "
        r"approached: by one step from a noisy start (N-FGSM: cheap, and not held inside the ball) or by several PGD steps (dearer)."
    )
