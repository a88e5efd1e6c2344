"""The inner attacks of adversarial training: FGSM, N-FGSM and PGD as few passes as they can be, and a quick robust accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from explorer.attacks.pgd import PGD
from explorer.core import Ball, Classifier, Goal, Region, eval_mode, run, sample_batch, use_generator
from explorer.core.goal import LossName


def fgsm_images(model: Classifier, x: Tensor, y: Tensor, ball: Ball, rng: torch.Generator) -> Tensor:
    """FGSM (Goodfellow et al., arXiv:1412.6572), or its L2 counterpart: one step of length eps from x itself, in the ball."""
    return ball.project(x + ball.eps * ball.steepest(input_gradient(model, x, y, rng)), x)


def nfgsm_images(
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


def pgd_images(
    model: Classifier, x: Tensor, y: Tensor, ball: Ball, steps: int, rel_step: float, rng: torch.Generator
) -> Tensor:
    """The last iterate of PGD from a random start, as Madry et al. (arXiv:1706.06083) train on.

    No forward pass beyond the gradients'.
    """
    region = ball.around(x)
    return projected_ascent(
        region.sample(rng), region, ball, steps, rel_step, lambda at: input_gradient(model, at, y, rng)
    )


def projected_ascent(
    start: Tensor, region: Region, ball: Ball, steps: int, rel_step: float, gradient: Callable[[Tensor], Tensor]
) -> Tensor:
    """`start` (N,C,H,W) after so many steps of length rel_step * eps up `gradient`, each projected into the region."""
    for _ in range(steps):
        start = region.project(start + rel_step * ball.eps * ball.steepest(gradient(start)))
    return start


def input_gradient(model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, kind: LossName = "ce") -> Tensor:
    """Gradient of a goal's loss at x (N,C,H,W), each image's up to scale; see `input_vjp`."""
    return input_vjp(model, x, lambda logits: Goal.untargeted(y).logit_grad(logits, kind), rng)


def input_vjp(model: Classifier, x: Tensor, logit_grad: Callable[[Tensor], Tensor], rng: torch.Generator) -> Tensor:
    """(N,C,H,W) gradient at x of the loss whose gradient by the float32 logits (N,K) is `logit_grad` of them.

    A vector-Jacobian product, in eval mode; running statistics and parameter gradients stay untouched.
    """
    with torch.enable_grad(), eval_mode(model), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        logits = model(leaf)
        above = logit_grad(logits.detach().float()).to(logits.dtype)
        (gradient,) = torch.autograd.grad(logits, leaf, grad_outputs=above)
    return gradient.float()


def quick_pgd(steps: int) -> PGD:
    """The attack of held-out selection: so few steps, long enough to cross the ball."""
    return PGD(steps=steps, rel_step=min(2.5 / steps, 2.0))


def robust_mask(
    attack: Any, model: Classifier, x: Tensor, y: Tensor, ball: Ball, rng: torch.Generator, batch: int = 250
) -> Tensor:
    """(N,) bool: the images whose class one walk of `attack` does not change."""
    robust = []
    for at in range(0, len(x), batch):
        goal = Goal.untargeted(y[at : at + batch])
        robust.append(~run(attack.walk(model, x[at : at + batch], goal, ball, rng), goal).success)
    return torch.cat(robust)
