"""Adversarial training by one noisy step, from scratch (de Jorge et al., arXiv:2202.01181)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe


@RECIPES.register(
    "nfgsm",
    title="N-FGSM, Linf, from scratch",
    paper="arXiv:2202.01181",
    group="adversarial training",
    summary="One step from strong noise before every update: nearly as good as PGD training, at a fraction of its price.",
)
@dataclass(frozen=True)
class Nfgsm(OnResNet, AdversarialRecipe, epochs=12, width=16):
    """Cross-entropy on x + u + eps * sign(gradient at x + u), u uniform in [-2 eps, 2 eps].

    The paper's setting is width 64 and 30 epochs (`--set width=64 --set epochs=30 --set label_smoothing=0 --set ema=0`).
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\, L\big(f_\theta(x + u + \varepsilon\,\mathrm{sign}\,\nabla_x L(f_\theta(x + u), y)), y\big),"
        r"\quad u \sim \mathcal{U}[-2\varepsilon, 2\varepsilon]"
    )
    explanation: ClassVar[str] = (
        r"Training on FGSM pictures is cheap but tends to collapse: the network learns to fool the one step instead of to "
        r"withstand attacks. Strong noise $u$ before the step, twice as wide as the ball, and no clipping to the ball afterwards "
        r"keep it from that. Each update costs two passes, where PGD with ten steps costs eleven."
    )
    smoke = {"epochs": 1, "width": 8, "selection_steps": 2}
