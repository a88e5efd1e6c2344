"""Triplet loss adversarial training, TLA (Mao et al., Metric Learning for Adversarial Robustness, arXiv:1909.00900)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.core import Classifier, eval_mode, param, sample_batch, use_generator
from explorer.defenses import RECIPES
from explorer.defenses._resnet import OnResNet
from explorer.defenses.adversarial import AdversarialRecipe
from explorer.defenses.contrastive import logits_and_features


def angular(first: Tensor, second: Tensor) -> Tensor:
    """D = 1 - |cos| between features (...,D), in [0,1]: (...)."""
    return 1 - F.cosine_similarity(first, second, dim=-1).abs()


def triplet_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """(N,) max(0, D(a,p) - D(a,n) + margin) of features (N,D) each."""
    return (angular(anchor, positive) - angular(anchor, negative) + margin).clamp(min=0)


def nearest_of_another_class(
    anchors: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """For each of the anchors (N,D): the row in bank (B,D) nearest by cosine that is not of its class, and whether there is one.

    (N,) int64 and (N,) bool.
    """
    near = F.normalize(anchors, dim=1) @ F.normalize(bank, dim=1).T  # (N, B)
    own = labels[:, None] == bank_labels[None, :]
    return near.masked_fill(own, -torch.inf).argmax(1), ~own.all(1)


def another_of_its_class(labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each label (N,) the row of another image with the same one, drawn evenly, and whether there is one: (N,), (N,) bool."""
    mates = labels[:, None] == labels[None, :]
    mates.fill_diagonal_(False)
    counts = mates.sum(1)
    u = sample_batch(lambda n: torch.rand(tuple(n), generator=rng, device=rng.device), labels.shape).to(labels.device)
    wanted = (u * counts).long().clamp(max=counts - 1) + 1  # the first, second, ... mate
    return ((mates.cumsum(1) == wanted[:, None]) & mates).long().argmax(1), counts > 0


@RECIPES.register(
    "tla",
    title="TLA: triplet loss under attack",
    paper="arXiv:1909.00900",
    group="in feature space",
    summary="Adversarial training that also draws attacked features to their class and away from the nearest false one.",
)
@dataclass(frozen=True)
class Tla(OnResNet, AdversarialRecipe, epochs=2, lr=0.05, start="cifar10/pgd-linf"):
    """Cross-entropy on attacked images + lambda * [triplet losses + 1e-3 * mean squared features], D = 1 - |cos|.

    Anchor: the attacked image. Positives: its clean image, and another clean image of its class. Negative: the clean image
    nearest to the anchor among those of other classes in a bank of training images drawn for the update.
    As the authors' code has it, lambda weighs the norm term too, and neighbours are sought in eval mode.
    The paper's settings are --set bank=10 batch=50 inner_steps=7 finish_share=0 lr=0.1 weight_decay=2e-4
    label_smoothing=0 (its PGD steps are 2/255, ours 2 eps / 7, and its learning rate falls in steps).
    differs: one noisy step (N-FGSM), then two PGD steps, instead of PGD-7; a bank of 4 batches of 128, not 10 of 50 (the
    authors advise a smaller one for small networks); the other image of the class is from the batch; clean positives
    carry no noise; one pass serves anchors, positives and negatives, so batch norm's statistics are of all three.
    Several processes: each takes mates and negatives from its part of the batch and of the bank.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\, L\big(f_\theta(x + \delta), y\big) + \lambda \sum_{p} \mathbb{E}\Big[\max\big(0, D(a, p) "
        r"- D(a, n) + m\big) + \mu\, \overline{a^2 + p^2 + n^2}\Big],\quad D(u, v) = 1 - |\cos(u, v)|"
    )
    explanation: ClassVar[str] = (
        r"An attack moves a picture's features toward those of a false class. So each attacked picture is an anchor with features "
        r"$a$ that must lie nearer to its own class (positives $p$: the clean picture itself, and another of its class) than to a "
        r"negative $n$ by a margin $m$ in angle. The negative is the hardest one: the nearest picture of another class in a bank "
        r"of fresh training pictures."
    )
    smoke = {"epochs": 1, "width": 8, "start": "", "bank": 2}

    bank: int = param(
        4, "bank", lo=1, hi=100, unit="batches", help="Images that negatives are chosen from, in batches."
    )
    weight: float = param(2.0, "triplet weight", lo=0.0, hi=100.0, help="Weight of the triplet losses (lambda).")
    margin: float = param(0.03, "margin", lo=0.0, hi=1.0, help="By how much the positive must be nearer, in 1 - |cos|.")
    norm_weight: float = param(1e-3, "norm weight", lo=0.0, hi=1.0, help="Weight of the mean squared features (mu).")

    @property
    def extra_batches(self) -> int:
        return self.bank

    def passes(self, epoch: int) -> int:
        return 3 + self.inner_steps_at(
            epoch
        )  # the last one is of three times the images; the bank's has no backward pass

    def loss(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        rng: torch.Generator,
        epoch: int = 0,
        extra_batch: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """As every recipe's; `extra_batch`: images (B,C,H,W) and labels (B,) to choose negatives from, by default the batch."""
        attacked = self.training_inputs(model, x, y, rng, epoch)
        others, other_labels = extra_batch if extra_batch is not None else (x, y)
        rows, far = self._negatives(model, attacked, y, others, other_labels, rng)
        mates, paired = another_of_its_class(y, rng)
        with use_generator(rng):
            logits, features = logits_and_features(model, torch.cat([attacked, x, others[rows]]))
        anchor, clean, negative = features.float().chunk(3)
        extra = self.of_triplets(anchor, clean, negative, far) + self.of_triplets(
            anchor, clean[mates], negative, paired & far
        )
        return self.cross_entropy(logits[: len(x)], y) + self.weight * extra

    def of_triplets(self, anchor: Tensor, positive: Tensor, negative: Tensor, there: Tensor) -> Tensor:
        """Triplet loss and norm term, means over the triplets that are `there` (N,): a scalar, 0 if none is."""
        squares = (anchor.square() + positive.square() + negative.square()).mean(1)
        each = triplet_loss(anchor, positive, negative, self.margin) + self.norm_weight * squares
        return (each * there).sum() / there.sum().clamp(min=1)

    def _negatives(
        self, model: Classifier, attacked: Tensor, y: Tensor, others: Tensor, other_labels: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), eval_mode(model), use_generator(rng):
            parts = torch.cat([attacked, others]).split(len(attacked))  # batches of a size that has room
            features = torch.cat([model.features(part) for part in parts]).float()
        with torch.autocast(features.device.type, enabled=False):
            return nearest_of_another_class(features[: len(y)], y, features[len(y) :], other_labels)
