"""Feature adversary: toward another picture's features (Sabour et al., arXiv:1511.05122), or toward a class's centre."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks._features import check_guide, guides, logits_and_features
from explorer.attacks.gradient import Evaluation, Network
from explorer.attacks.pgd import PGD
from explorer.core import Goal, Region, fixed, param, use_generator


@ATTACKS.register(
    "feature-adversary",
    title="Feature adversary",
    paper="arXiv:1511.05122",
    group="iterated",
    summary="Makes the features those of another picture, or of a class's centre; the label follows by itself.",
)
@dataclass(frozen=True)
class FeatureAdversary(PGD, steps=50, rel_step=0.1, random_start=False, loss=fixed("margin")):
    """min over x in the ball of ||phi(x) - phi(guide)||^2, phi the features before the last layer: the paper's objective.

    The guide is the picture named, or of `candidates` drawn ones that toward which the margin rises most for its distance in
    features; or, of all drawn ones, the mean of its class as the model sees it (`toward`). The steps are PGD's, down that
    distance; what a step reports as its loss is the margin, as the classes decide about success.
    differs: the paper takes L-BFGS-B, in L-infinity; a network without a known last layer is followed in its logits.
    differs: how the guide is chosen, and the walk toward a class's centre.
    """

    formula: ClassVar[str] = (
        r"\min_{x'} \lVert \phi(x') - \phi(x_g)\rVert_2^2 \ \text{ with } \ \lVert x' - x\rVert \le \varepsilon"
    )
    explanation: ClassVar[str] = (
        r"Every network sees a picture as a list of features $\phi$ before it names a class. Choose another picture $x_g$, the "
        r"guide, and change this one, within the ball, until its features are the guide's. To people it is the same picture; to "
        r"the network it is the guide, and everything that is read from features goes along: the class, the neighbours, the "
        r"place on the map."
    )
    presets = {"weak": {"steps": 15}, "standard": {}, "strong": {"steps": 200, "restarts": 5, "rel_step": 0.05}}

    toward: str = param(
        "picture", "toward", choices=("picture", "centre"), strength=False,
        help="The features of one guide, or the mean of all drawn pictures of its class, as the model sees it.",
    )  # fmt: skip
    guide: str = param(
        "", "guide", strength=False,
        help="A row of the bundled pictures, such as cifar10/17; empty: the best of some that are drawn.",
    )  # fmt: skip
    candidates: int = param(
        16, "candidates", lo=1, hi=200, help="How many pictures are drawn for each image at each start."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_guide(self.guide)

    @property
    def drawn(self) -> int:
        """How many pictures are looked at for each image at each start."""
        return 1 if self.guide else self.candidates

    @property
    def expected_passes(self) -> int:
        return super().expected_passes + self.restarts * (self.drawn + 1) * self.draws

    def gradient(
        self, model: Network, x: Tensor, goal: Goal, region: Region, rng: torch.Generator, state: dict[str, Tensor]
    ) -> Evaluation:
        """The model at x, and the way toward the guide's features."""
        spent = 0
        if "guide" not in state:
            state["guide"], spent = self._chosen(model, region.x0, goal, rng), (self.drawn + 1) * self.draws
        with torch.enable_grad(), use_generator(rng):
            leaf = x.detach().requires_grad_(True)
            each, features = logits_and_features(model, leaf.repeat_interleave(self.draws, dim=0))
            distance = (_mean(features, self.draws) - state["guide"]).square().sum(1)
            # through the last layer, too, with weight 0: a pass back is one from the logits
            (slope,) = torch.autograd.grad(
                [distance.sum(), each.sum()], leaf, [torch.ones(()).to(x), torch.zeros(()).to(x)]
            )
        each = each.detach()
        loss = goal.repeated(self.draws).loss(each, self.loss).view(-1, self.draws).mean(1)
        return Evaluation(_mean(each, self.draws), loss, self.draws + spent, self.draws, each, -slope)

    def _chosen(self, model: Network, x0: Tensor, goal: Goal, rng: torch.Generator) -> Tensor:
        """(N,D) the features to walk toward."""
        pictures = guides(self.guide, x0, self.candidates, rng)  # (N,M,C,H,W)
        n, m = pictures.shape[:2]
        logits, features = self._looked_at(model, pictures.flatten(0, 1), rng)
        before, own = self._looked_at(model, x0, rng)
        features, classes = features.view(n, m, -1), logits.argmax(1).view(n, m)
        gain = goal.repeated(m).margin(logits).view(n, m) - goal.margin(before)[:, None]
        steep = gain / (features - own[:, None]).norm(dim=2)
        best = steep.masked_fill(~steep.isfinite(), -torch.inf).argmax(1)
        rows = torch.arange(n, device=best.device)
        if self.toward == "picture":
            return features[rows, best]
        same = (classes == classes[rows, best][:, None]).to(features)[:, :, None]
        return (features * same).sum(1) / same.sum(1)

    def _looked_at(self, model: Network, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), use_generator(rng):
            logits, features = logits_and_features(model, x.repeat_interleave(self.draws, dim=0))
        return _mean(logits, self.draws), _mean(features, self.draws)


def _mean(values: Tensor, draws: int) -> Tensor:
    return values.view(-1, draws, values.shape[1]).mean(1)
