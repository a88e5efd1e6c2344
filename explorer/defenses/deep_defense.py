"""Deep Defense (Yan et al., arXiv:1803.00404): the distance to DeepFool's boundary is part of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.core import Classifier, eval_mode, param
from explorer.defenses import RECIPES
from explorer.defenses._fashion import FashionDefence

STEPS, OVERSHOOT = 5, 0.02  # of DeepFool in the paper, and in the report on Fashion-MNIST
LARGEST_EXPONENT = 5.0  # what lies farther on the wrong side pulls no harder
TINY = 1e-12  # under the root and in quotients
TIE = 1e-6  # a lead, in logits: an image on the boundary still moves


def to_boundary(
    model: nn.Module, x: Tensor, y: Tensor, steps: int = STEPS, overshoot: float = OVERSHOOT, through: bool = False
) -> Tensor:
    """(N,C,H,W) DeepFool's change of x in L2, as its authors describe it: pixels may leave [0, 1].

    An image that is taken for its y (N,) goes to the nearest boundary of y; any other goes to y's boundary with the class
    that leads, until it is taken for y. Each update is 1 + overshoot times as long as the way to the boundary, if the
    logits were linear. `through`: the change can be differentiated by the weights, through all updates (which boundary is
    the nearest is not a matter of degree). float32 or float64, whatever autocast says.
    """
    moved, rows, right = torch.zeros_like(x), torch.arange(len(x), device=x.device), None
    with torch.enable_grad(), eval_mode(model), torch.autocast(x.device.type, enabled=False):
        for _ in range(steps):
            here = (x.detach() + moved)[rows]
            here = here if here.requires_grad else here.requires_grad_()
            logits = model(here)
            leader, label = logits.detach().argmax(1), y[rows]
            right = leader == label if right is None else right
            going = (leader == label) == right[rows]
            if not bool(going.any()):
                break
            origin = torch.where(right[rows], label, leader)
            aim = torch.where(right[rows], _nearest(logits, here, label), label)
            rise = (logits.gather(1, aim[:, None]) - logits.gather(1, origin[:, None])).squeeze(1)
            way = torch.autograd.grad(rise.sum(), here, create_graph=through)[0][going]
            length = (-rise[going]).clamp(min=TIE) / (way.flatten(1).square().sum(1) + TINY)
            length = length if through else length.detach()
            rows = rows[going]
            moved = moved.index_add(0, rows, (1 + overshoot) * length.view(-1, 1, 1, 1) * way)
    return moved if through else moved.detach()


def _nearest(logits: Tensor, here: Tensor, label: Tensor) -> Tensor:
    """(n,) the class whose boundary with `label` is the nearest, if the logits (n,K) at `here` were linear."""
    classes = logits.shape[1]
    rise = (logits - logits.gather(1, label[:, None])).sum(0)  # (K,) each image adds its own
    each = torch.eye(classes, device=logits.device, dtype=logits.dtype)
    slopes = torch.autograd.grad(rise, here, each, retain_graph=True, is_grads_batched=True)[0]  # (K,n,C,H,W)
    values = logits.detach()
    lengths = (values.gather(1, label[:, None]) - values) / slopes.flatten(2).norm(dim=2).T.clamp(min=TINY)
    return lengths.scatter(1, label[:, None], float("inf")).argmin(1)


def relative_length(change: Tensor, x: Tensor) -> Tensor:
    """(N,) |change| / |x| in L2, with a slope everywhere."""
    return (change.flatten(1).square().sum(1) + TINY).sqrt() / (x.flatten(1).square().sum(1) + TINY).sqrt()


@RECIPES.register(
    "deep-defense",
    title="Deep Defense",
    paper="arXiv:1803.00404",
    group="adversarial training",
    summary="Fashion-MNIST: the distance to the nearest boundary, as DeepFool finds it, is made larger by the loss itself.",
)
@dataclass(frozen=True)
class DeepDefense(FashionDefence, lr=0.01):
    """Cross-entropy on clean images, plus a term for each image's distance to the boundary, differentiated through DeepFool.

    differs: lambda is 3 instead of 15, since more distance costs accuracy; the sum over the images is their mean, as for the
    cross-entropy; the exponent is cut at 5.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\,L\big(f_\theta(x), y\big) + \lambda\,\mathbb{E}\Big[ \mathbf{1}_{\text{right}}\, "
        r"e^{-c\,\|\Delta_x\|_2/\|x\|_2} + \mathbf{1}_{\text{wrong}}\, e^{d\,\|\Delta_x\|_2/\|x\|_2} \Big]"
    )
    explanation: ClassVar[str] = (
        r"DeepFool tells how far a picture is from the nearest boundary: $\Delta_x$. That length is a function of the weights, so "
        r"it can be made part of the loss and improved like any other: for a picture that is classified right, a longer "
        r"way to the boundary lowers the loss; for a wrong one, $\Delta_x$ is the way to its true class, which should become "
        r"shorter. The gradient goes through all of DeepFool's updates. No attacked picture is ever trained on."
    )

    weight: float = param(3.0, "weight", lo=0.0, hi=1000.0, help="Of the distances (lambda).")
    right_rate: float = param(25.0, "rate, right", lo=0.0, hi=1000.0, help="How soon a distance is long enough (c).")
    wrong_rate: float = param(
        5.0, "rate, wrong", lo=0.0, hi=1000.0, help="How fast a wrong image's distance grows dear (d)."
    )
    steps: int = param(STEPS, "DeepFool steps", lo=1, hi=50, help="How often each image is moved at most.")
    overshoot: float = param(
        OVERSHOOT, "overshoot", lo=0.0, hi=1.0, help="How far beyond the boundary, relative to the way."
    )

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        logits = model(x)
        ratio = relative_length(to_boundary(model, x, y, self.steps, self.overshoot, through=True), x)
        exponent = torch.where(logits.argmax(1) == y, -self.right_rate * ratio, self.wrong_rate * ratio)
        return self.cross_entropy(logits, y) + self.weight * exponent.clamp(max=LARGEST_EXPONENT).exp().mean()

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """The images at the boundary: not what is trained on, but what the loss looks at."""
        return x + to_boundary(model, x, y, self.steps, self.overshoot)

    def passes(self, epoch: int) -> int:
        return 2 + 3 * self.steps
