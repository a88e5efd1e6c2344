"""What every recipe is: hyper-parameters, an architecture, the loss of one batch, and a score on held-out images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks._ascent import in_eval_mode
from explorer.attacks.pgd import PGD
from explorer.core import Ball, Classifier, Goal, Hyper, drawn, param, randomness, run


@dataclass(frozen=True)
class Recipe(Hyper):
    """Common hyper-parameters (Nesterov SGD, one cycle, label smoothing, averaged weights) and hooks to override."""

    dataset: ClassVar[str] = "cifar10"
    formula: ClassVar[str] = ""  # what is minimised, as LaTeX
    explanation: ClassVar[str] = ""  # the idea, in a few sentences (Markdown)
    half: ClassVar[tuple[str, ...]] = ()  # measures of `score` that are made on the first half of the held-out images
    bank: ClassVar[int] = 0  # for each image of a batch, `loss` is given as many others: bank=((B,C,H,W), (B,))
    augment: ClassVar[bool] = True  # training images are flipped and shifted
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1}  # overrides of a run that only shows that the recipe works
    smoke_images: ClassVar[int] = 512

    epochs: int = param(20, "epochs", lo=1, hi=1000, help="Passes over the training images.")
    batch: int = param(128, "batch size", lo=1, hi=4096, unit="images", help="Images per update.")
    lr: float = param(0.2, "peak learning rate", lo=1e-5, hi=10.0, help="Highest point of the one-cycle schedule.")
    warmup: float = param(0.25, "warm-up share", lo=0.0, hi=0.9, help="Share of all updates until the peak is reached.")
    momentum: float = param(0.9, "momentum", lo=0.0, hi=0.999, help="Nesterov momentum of SGD.")
    weight_decay: float = param(5e-4, "weight decay", lo=0.0, hi=1.0, help="Applied to weights, not to BN and biases.")
    label_smoothing: float = param(0.1, "label smoothing", lo=0.0, hi=0.5, help="Share of the label spread evenly.")
    ema: float = param(0.998, "weight averaging", lo=0.0, hi=0.99999, help="Decay of the averaged weights (EMA).")
    seed: int = param(0, "seed", lo=0, hi=2**31 - 1, help="Seeds the initial weights, the order and every draw.")
    start: str = param(
        "", "start from", help="A model of the zoo whose weights the run starts from; empty: from scratch."
    )

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Registered name and keyword arguments (beyond mean, std, shape and classes, which the dataset gives)."""
        raise NotImplementedError

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """The scalar to minimise for one augmented batch x (N,C,H,W), y (N,)."""
        return self.cross_entropy(model(self.seen(model, x, y, rng, epoch)), y)

    def passes(self, epoch: int) -> int:
        """Forward-backward passes that an update of this 0-based epoch makes: where they are equal, so is the cost."""
        return 1

    def seen(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """(N,C,H,W) what the loss shows the model in place of x: attacked or noisy images, by default x itself."""
        return x

    def cross_entropy(self, logits: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        """With the recipe's label smoothing: a scalar, or (N,) for the reduction "none"."""
        return F.cross_entropy(logits.float(), y, label_smoothing=self.label_smoothing, reduction=reduction)

    def score(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Accuracies on held-out images; "score" selects the epoch that is kept."""
        clean = accuracy(model, x, y, rng)
        return {"clean": clean, "score": clean}


def probabilities(model: Classifier, x: Tensor, rng: torch.Generator, batch: int = 500) -> Tensor:
    """(N,K) float32 probabilities of the classes, without gradients."""
    with torch.no_grad(), randomness(rng):
        return torch.cat([model(part).float().softmax(1) for part in x.split(batch)])


def accuracy(model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, batch: int = 500) -> float:
    """Share of images classified as y."""
    return int((probabilities(model, x, rng, batch).argmax(1) == y).sum()) / len(x)


def robust_accuracy(
    model: Classifier, x: Tensor, y: Tensor, ball: Ball, steps: int, rng: torch.Generator, batch: int = 250
) -> float:
    """Share of images whose class one PGD walk does not change (the quick measure of held-out selection)."""
    return int(withstood(model, x, y, ball, steps, rng, batch).sum()) / len(x)


def withstood(
    model: Classifier, x: Tensor, y: Tensor, ball: Ball, steps: int, rng: torch.Generator, batch: int = 250
) -> Tensor:
    """(N,) bool: the images whose class one PGD walk does not change."""
    attack, held = PGD(steps=steps, rel_step=2.5 / steps), []
    for at in range(0, len(x), batch):
        goal = Goal.untargeted(y[at : at + batch])
        held.append(~run(attack.walk(model, x[at : at + batch], goal, ball, rng), goal).success)
    return torch.cat(held)


def noisy_single_step(
    model: Classifier, x: Tensor, y: Tensor, eps: float, rng: torch.Generator, spread: float = 2.0
) -> Tensor:
    """N-FGSM (de Jorge et al., arXiv:2202.01181): x + u + eps * sign(gradient at x + u).

    u is uniform in [-spread*eps, spread*eps] and the result is not clipped back to the eps-ball (that is the point).
    differs: the gradient is taken in eval mode, and the result is clipped to [0,1].
    """
    noise = drawn(lambda shape: torch.rand(shape, generator=rng, device=rng.device), x.shape).to(x.device)
    noise = (noise * 2 - 1) * (spread * eps)
    start = (x + noise).clamp(0, 1)
    return (start + eps * input_gradient(model, start, y, rng).sign()).clamp(0, 1)


def full_step(model: Classifier, x: Tensor, y: Tensor, ball: Ball, rng: torch.Generator) -> Tensor:
    """FGSM (Goodfellow et al., arXiv:1412.6572), or its L2 counterpart: one step of length eps from x itself, in the ball."""
    return ball.project(x + ball.eps * ball.steepest(input_gradient(model, x, y, rng)), x)


def pgd_images(
    model: Classifier, x: Tensor, y: Tensor, ball: Ball, steps: int, rel_step: float, rng: torch.Generator
) -> Tensor:
    """The last iterate of PGD from a random start, as Madry et al. train on; no forward pass beyond the gradients."""
    region = ball.around(x)
    adversarial = region.sample(rng)
    for _ in range(steps):
        ascent = ball.steepest(input_gradient(model, adversarial, y, rng))
        adversarial = region.project(adversarial + rel_step * ball.eps * ascent)
    return adversarial


def input_gradient(model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """Gradient of the cross-entropy at x (N,C,H,W) in eval mode; running statistics and parameter gradients untouched."""
    with torch.enable_grad(), in_eval_mode(model), randomness(rng):
        leaf = x.detach().requires_grad_(True)
        logits = model(leaf)
        pull = Goal.untargeted(y).pull(logits.detach().float()).to(logits.dtype)
        (gradient,) = torch.autograd.grad(logits, leaf, grad_outputs=pull)
    return gradient.float()
