"""The contrastive loss: features of one class are drawn together, those of different classes kept a margin apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import Classifier, param, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe

WEIGHT_HELP = "Weight of the contrastive loss beside the cross-entropy (lambda); 0: none."
MARGIN_HELP = "Features of different classes that are farther apart than this are left alone."


def contrastive_loss(distances: Tensor, same: Tensor, margin: float) -> Tensor:
    """Mean over the pairs of d^2 where `same`, of max(0, margin - d)^2 elsewhere: a scalar.

    `distances` and `same` (bool) are of one shape, an entry a pair (Hadsell et al., CVPR 2006, eq. 4, without its halves).
    """
    return torch.where(same, distances.square(), (margin - distances).clamp(min=0).square()).mean()


def distances_between(first: Tensor, second: Tensor) -> Tensor:
    """(N,M) Euclidean distances of features (N,D) and (M,D), in float32; the gradient at distance 0 is 0."""
    exact = "donot_use_mm_for_euclid_dist"  # a matrix product would lose small distances to rounding
    return torch.cdist(first.float(), second.float(), compute_mode=exact)


def logits_and_features(model: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N,K) and features (N,D) of one and the same pass, one that `model`'s hooks see (who stops a run hooks in)."""
    kept: list[Tensor] = []
    handle = model.head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    try:
        return model(x), kept[0]
    finally:
        handle.remove()


@dataclass(frozen=True)
class OnPairs(OnResNet, epochs=3, lr=0.05):
    """A contrastive loss beside the cross-entropy."""

    weight: float = param(0.1, "contrastive weight", lo=0.0, hi=100.0, help=WEIGHT_HELP)
    margin: float = param(6.0, "margin", lo=0.0, hi=1000.0, help=MARGIN_HELP)


@RECIPES.register(
    "contrastive",
    title="Contrastive, clean pairs",
    paper="Hadsell et al., CVPR 2006",
    group="in feature space",
    summary="Clean images of one class are drawn together in feature space, other classes pushed away: tidy, not robust.",
)
@dataclass(frozen=True)
class Contrastive(OnPairs, start="cifar10/baseline"):
    """Cross-entropy + lambda * contrastive loss on the penultimate features of all pairs of a batch of clean images.

    The report that proposes it names neither its margin nor its weight, nor which features.
    differs: all pairs of a batch instead of drawn ones (several processes: all pairs of each one's part), and it starts
    from a trained network.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\, L\big(f_\theta(x), y\big) + \lambda\, \mathbb{E}\big[\mathbf{1}_{y_1 = y_2}\, d^2 "
        r"+ \mathbf{1}_{y_1 \ne y_2} \max(0, \alpha - d)^2\big],\quad d = \|h_\theta(x_1) - h_\theta(x_2)\|_2"
    )
    explanation: ClassVar[str] = (
        r"If the pictures of a class form a tight cluster in feature space, far from the others, a small step should not lead "
        r"out of it. So pairs of one class pay for their squared distance $d^2$ between the features $h$, and pairs of different "
        r"classes for being nearer than a margin $\alpha$. Only clean pictures are seen, though: nothing keeps an attack from "
        r"moving a picture's features far, however small its step in pixels."
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        logits, features = logits_and_features(model, self.training_inputs(model, x, y, rng, epoch))
        cross_entropy = self.cross_entropy(logits, y)
        first, second = torch.triu_indices(len(x), len(x), offset=1, device=x.device)  # each pair once
        if not len(first):
            return cross_entropy
        apart = distances_between(features, features)[first, second]
        return cross_entropy + self.weight * contrastive_loss(apart, y[first] == y[second], self.margin)


@RECIPES.register(
    "contrastive-adversarial",
    title="Contrastive, attacked pairs",
    paper="arXiv:1706.06083; arXiv:2202.01181",
    group="in feature space",
    summary="Adversarial training in which an attacked image's features must also stay near its class's clean ones.",
)
@dataclass(frozen=True)
class ContrastiveAdversarial(
    OnPairs,
    AdversarialRecipe,
    finish_steps=2,
    finish_share=0.34,
    start="cifar10/pgd-linf",
):
    """Cross-entropy on attacked images + lambda * contrastive loss on all pairs of a clean and an attacked image.

    An image and its own attacked copy are one of the pairs. One pass serves the clean and the attacked images, so batch
    norm's statistics are of both. Several processes: all pairs of each one's part of the batch.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\, L\big(f_\theta(x + \delta), y\big) + \lambda\, \mathbb{E}\big[\mathbf{1}_{y_1 = y_2}\, d^2 "
        r"+ \mathbf{1}_{y_1 \ne y_2} \max(0, \alpha - d)^2\big],\quad d = \|h_\theta(x_1) - h_\theta(x_2 + \delta_2)\|_2"
    )
    explanation: ClassVar[str] = (
        r"The contrastive loss as before, but each pair is a clean picture $x_1$ and an attacked one $x_2 + \delta_2$, on top of "
        r"adversarial training: what the attack does to the features $h$ is drawn back to the picture's own class and kept a margin "
        r"$\alpha$ from the others."
    )

    def passes(self, epoch: int) -> int:
        return 2 + self.inner_steps_at(epoch)  # the last one is of twice the images

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        attacked = self.training_inputs(model, x, y, rng, epoch)
        with use_generator(rng):
            logits, features = logits_and_features(model, torch.cat([attacked, x]))
        moved, clean = features.chunk(2)
        apart = distances_between(moved, clean)  # (N, N), a row for each attacked image
        pairs = contrastive_loss(apart, y[:, None] == y[None, :], self.margin)
        return self.cross_entropy(logits[: len(x)], y) + self.weight * pairs
