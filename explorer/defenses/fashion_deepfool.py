"""Fine-tuning on DeepFool images of the network that the run starts from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks.deepfool import DeepFool
from explorer.core import Ball, Classifier, Goal, param, run
from explorer.core.ball import EPS_LIMIT
from explorer.defenses import RECIPES
from explorer.defenses._fashion import FashionDefence
from explorer.models import zoo
from explorer.models.untrained import untrained


@RECIPES.register(
    "fashion-deepfool",
    title="Fashion-MNIST MLP, DeepFool images",
    paper="arXiv:1511.04599",
    group="adversarial training",
    summary="Fashion-MNIST: fine-tuned on images that DeepFool moved just across the vanilla network's boundaries.",
)
@dataclass(frozen=True)
class FashionDeepFool(FashionDefence):
    """Cross-entropy on the DeepFool images (L2) of the network that the run starts from, which stays as it was."""

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\, L\big(f_\theta(x + r_0(x)), y\big),\quad "
        r"r_0(x) = \arg\min_r \|r\|_2 \text{ such that } f_{\theta_0}(x + r) \ne y"
    )
    explanation: ClassVar[str] = (
        r"DeepFool looks for the smallest change $r_0$ that takes a picture across the nearest boundary of the finished vanilla "
        r"network $\theta_0$. These pictures, with their true classes, are what the network goes on learning from, so its "
        r"boundaries move away from them. The pictures are not made anew as the boundaries move."
    )

    steps: int = param(5, "DeepFool steps", lo=1, hi=100, help="How often each image is moved at most.")

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        source = _frozen(self, str(x.device))
        goal, anywhere = Goal.untargeted(y), Ball("l2", EPS_LIMIT["l2"])
        with torch.autocast(x.device.type, enabled=False):
            walk = DeepFool(steps=self.steps).walk(source, x.float(), goal, anywhere, rng)
            return run(walk, goal, minimal=True).x

    def passes(self, epoch: int) -> int:
        return 1 + self.steps


@lru_cache(maxsize=2)
def _frozen(recipe: FashionDeepFool, device: str) -> Classifier:
    if recipe.start:
        return zoo.load(recipe.start, device)
    return untrained(recipe.dataset, *recipe.architecture(), recipe.seed).freeze().to(device)
