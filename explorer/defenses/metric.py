"""Deep metric learning, plain and robust (Panum et al., arXiv:2102.07265): pictures of one class lie near each other, also attacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from explorer.core import Ball, Classifier, InvalidValue, eval_mode, param, use_generator
from explorer.defenses import RECIPES
from explorer.defenses.contrastive import contrastive_loss, distances_between, logits_and_features
from explorer.defenses.inner_attacks import projected_ascent
from explorer.defenses.recipe import Each, OptimizerName, Recipe, accuracy
from explorer.defenses.tla import another_of_its_class, nearest_of_another_class

if TYPE_CHECKING:
    from explorer.models.metric_net import NearestMean

PART = 500  # images whose features are computed at a time, for the score


@RECIPES.register(
    "metric",
    title="Metric learning",
    paper="arXiv:2102.07265; Hadsell et al., CVPR 2006",
    group="in feature space",
    summary="Fashion-MNIST: an embedding in which neighbours are alike, also for classes that it never saw in training.",
)
@dataclass(frozen=True)
class Metric(Recipe, epochs=6, lr=1e-3, warmup=0.1, weight_decay=0.0, label_smoothing=0.0):
    """Contrastive loss of all pairs of a batch; the head's class means follow the embedding, which learns nothing from them.

    Pictures of the unseen classes train the means alone.
    differs: a small convolutional network and a Fashion-MNIST of five seen classes instead of ResNet-50 on three retrieval sets;
    all pairs of a batch instead of mined ones; the means are found by gradient (of the squared distance, whose minimum
    the mean is), so they are near to it and not exact; averaged weights.
    """

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    optimizer: ClassVar[OptimizerName] = "adam"
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1}
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\big[\mathbf{1}_{y_1 = y_2}\, d^2 + \mathbf{1}_{y_1 \ne y_2} \max(0, \alpha - d)^2\big],\quad "
        r"d = \|f_\theta(x_1) - f_\theta(x_2)\|_2,\quad \|f_\theta\|_2 = 1"
    )
    explanation: ClassVar[str] = (
        r"The network is not told what a class is called, only that two pictures are of one class or are not: pairs of one class "
        r"pay for their squared distance $d^2$, others for being nearer than a margin $\alpha$. So it can be asked about classes "
        r"that it never saw: which pictures of a gallery are nearest? An attack moves a picture until its neighbours are others. For "
        r"the pages its answer is the class whose mean is nearest."
    )

    margin: float = param(
        1.0, "margin", lo=0.01, hi=2.0, help="Features of different classes that are farther apart are left alone."
    )
    unseen: str = param("1-3-5-7-9", "unseen classes", help='Numbers of classes left out of the metric, as "1-3-5".')
    embedding: int = param(32, "embedding", lo=2, hi=512, help="Numbers of the embedding.")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        left_out(self.unseen)
        return "metric-net", {"embedding": self.embedding}

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        with use_generator(rng):
            _, features = logits_and_features(model, x)
        features = features.float()
        means = (features.detach() - cast("NearestMean", model.head).weight[y]).square().sum(1).mean()
        seen = torch.isin(y, torch.tensor(left_out(self.unseen), device=y.device), invert=True)
        return means + self.of_pairs(model, x, y, features, seen, rng) if seen.any() else means

    def of_pairs(
        self, model: Classifier, x: Tensor, y: Tensor, features: Tensor, seen: Tensor, rng: torch.Generator
    ) -> Tensor:
        """The scalar loss of the images (N,C,H,W) that are `seen` (N,), bool, and their features (N,D) with gradient."""
        kept, labels = features[seen], y[seen]
        return contrastive_loss(distances_between(kept, kept), labels[:, None] == labels, self.margin)

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """Accuracy by the nearest class mean, and recall at 1 among the held-out images, which decides."""
        with torch.no_grad():
            features = torch.cat([model.features(part).float() for part in x.split(PART)])
        nearest = distances_between(features, features).fill_diagonal_(torch.inf).argmin(1)
        recall = float((y[nearest] == y).float().mean())
        return {"clean": accuracy(model, x, y, rng, each=each), "recall": recall, "score": recall}


@RECIPES.register(
    "metric-robust",
    title="Robust metric learning",
    paper="arXiv:2102.07265",
    group="in feature space",
    summary="Metric learning in which every picture is first moved away from its own class and toward the nearest other.",
)
@dataclass(frozen=True)
class MetricRobust(Metric):
    """Contrastive loss of attacked against clean pictures of a batch; PGD moves the positive, the others' features stay (section 4).

    The attack ascends |f(x + d) - anchor| - |f(x + d) - negative|: anchor another picture of its class, negative the nearest of
    another class. differs: 3 steps instead of 5; see the base class.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\ \max_{\|\delta\|_\infty \le \varepsilon}\ L\big(f_\theta(a),\, f_\theta(p + \delta),\, f_\theta(n)\big)"
    )
    explanation: ClassVar[str] = (
        r"As metric learning, but a picture $p$ is first attacked: within $\varepsilon$ it is moved away from another picture $a$ of its "
        r"class and toward the nearest picture $n$ of another one. The loss then draws even the attacked picture to its class. The "
        r"neighbours of a picture are harder to change afterwards, also for classes that training never saw."
    )

    eps: float = param(0.1, "eps", lo=0.0, hi=1.0, unit="pixel range", help="Of the attack in training, in Linf.")
    steps: int = param(3, "steps", lo=1, hi=100, help="Of the attack in training.")

    def passes(self, epoch: int) -> int:
        return 2 + self.steps

    def of_pairs(
        self, model: Classifier, x: Tensor, y: Tensor, features: Tensor, seen: Tensor, rng: torch.Generator
    ) -> Tensor:
        still = features.detach()
        mates, _ = another_of_its_class(y, rng)
        rivals, _ = nearest_of_another_class(still, y, still[seen], y[seen])
        near, far = still[mates], still[seen][rivals]

        def gradient(at: Tensor) -> Tensor:
            return feature_gradient(model, at, lambda f: (f - near).norm(dim=1) - (f - far).norm(dim=1), rng)

        ball = Ball("linf", self.eps)
        region = ball.around(x)
        attacked = projected_ascent(region.sample(rng), region, ball, self.steps, 2 / self.steps, gradient)
        with use_generator(rng):
            _, moved = logits_and_features(model, attacked)
        apart = distances_between(moved[seen].float(), features[seen])
        return contrastive_loss(apart, y[seen][:, None] == y[seen], self.margin)


def left_out(unseen: str) -> list[int]:
    """The class numbers that "1-3-5" names. Raises InvalidValue for anything else."""
    parts = unseen.split("-") if unseen else []
    if not all(part.isdecimal() for part in parts):
        raise InvalidValue(f'unseen must be numbers of classes such as "1-3-5", or nothing; got {unseen!r}.')
    return [int(part) for part in parts]


def feature_gradient(model: Classifier, x: Tensor, objective: Any, rng: torch.Generator) -> Tensor:
    """(N,C,H,W) gradient at x of `objective`, which maps features (N,D) to one number an image (N,); in eval mode."""
    with torch.enable_grad(), eval_mode(model), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(model.features(leaf).float()).sum(), leaf)
    return gradient.float()
