"""What every recipe is: hyper-parameters, an architecture, the loss of one batch, and a score on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks.pgd import PGD
from explorer.core import Ball, Classifier, Goal, Hyper, Region, eval_mode, param, run, sample_batch, use_generator
from explorer.core.goal import LossName


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
    replays: ClassVar[int] = 1  # updates in a row on the same augmented batch

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
        seen = self.seen(model, x, y, rng, epoch)
        with use_generator(rng):
            return self.cross_entropy(model(seen), y)

    def carried(self, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """What a run carries from update to update beside its weights, at first; its checkpoints hold it.

        Row i of each tensor belongs to image i of whatever batch comes; `shape` is (N,C,H,W) of a full batch. If there is
        anything, `loss` is given the batch's rows, carried={name: tensor}; it or its backward pass may change them in place.
        """
        return {}

    def learning_rate(self, update: int, updates: int) -> float:
        """Of the 0-based `update` of `updates`."""
        return one_cycle(update, updates, self.lr, self.warmup)

    def enough(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a run may end before its last epoch; `history` holds the scores of the epochs so far."""
        return False

    def remark(self, history: Sequence[Mapping[str, Any]]) -> str:
        """What people must know about the run so far, in a plain sentence; mostly nothing."""
        return ""

    def initial(self) -> dict[str, Tensor]:
        """Weights to begin with that come from no model of the zoo: names of the architecture's, not always all."""
        return {}

    def from_scratch(self) -> Self:
        """The same recipe, from random weights."""
        return replace(self, start="")

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


def one_cycle(update: int, updates: int, peak_rate: float, warmup: float) -> float:
    """The learning rate of the 0-based `update` of `updates`: linear up to the peak, then linear down to zero."""
    peak = max(warmup * updates, 1e-9)
    return peak_rate * min((update + 1) / peak, (updates - update) / max(updates - peak, 1))


def probabilities(model: Classifier, x: Tensor, rng: torch.Generator, batch: int = 500) -> Tensor:
    """(N,K) float32 probabilities of the classes, without gradients."""
    with torch.no_grad(), use_generator(rng):
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
    return survivors(quick_pgd(steps), model, x, y, ball, rng, batch)


def quick_pgd(steps: int) -> PGD:
    return PGD(steps=steps, rel_step=min(2.5 / steps, 2.0))


def survivors(
    attack: Any, model: Classifier, x: Tensor, y: Tensor, ball: Ball, rng: torch.Generator, batch: int = 250
) -> Tensor:
    """(N,) bool: the images whose class one walk of `attack` does not change."""
    held = []
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
    noise = sample_batch(lambda shape: torch.rand(shape, generator=rng, device=rng.device), x.shape).to(x.device)
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
    return ascended(region.sample(rng), region, ball, steps, rel_step, lambda at: input_gradient(model, at, y, rng))


def ascended(
    start: Tensor, region: Region, ball: Ball, steps: int, rel_step: float, gradient: Callable[[Tensor], Tensor]
) -> Tensor:
    """`start` (N,C,H,W) after so many steps of length rel_step * eps up `gradient`, each projected into the region."""
    for _ in range(steps):
        start = region.project(start + rel_step * ball.eps * ball.steepest(gradient(start)))
    return start


def input_gradient(
    model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, kind: LossName = "ce"
) -> Tensor:
    """Gradient of a goal's loss at x (N,C,H,W), each image's up to scale; see `pulled_gradient`."""
    return pulled_gradient(model, x, lambda logits: Goal.untargeted(y).logit_grad(logits, kind), rng)


def pulled_gradient(
    model: Classifier, x: Tensor, pull: Callable[[Tensor], Tensor], rng: torch.Generator
) -> Tensor:
    """(N,C,H,W) at x, of the loss whose derivative by the float32 logits (N,K) is `logit_grad` of them.

    In eval mode; running statistics and parameter gradients stay untouched.
    """
    with torch.enable_grad(), eval_mode(model), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        logits = model(leaf)
        above = pull(logits.detach().float()).to(logits.dtype)
        (gradient,) = torch.autograd.grad(logits, leaf, grad_outputs=above)
    return gradient.float()
