"""What gradient attacks share: the input gradient, averaged over a stochastic model's draws, without touching the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from explorer.core import Ball, Goal, Hyper, InvalidValue, use_generator


def check_norm(attack: Hyper, ball: Ball) -> None:
    """Raises InvalidValue if the attack is not defined in the ball's norm (its class says in which it is: `norms`)."""
    if ball.norm not in attack.norms:
        raise InvalidValue(f"norm must be {' or '.join(attack.norms)} for {type(attack).__name__}; got {ball.norm!r}.")


@dataclass(frozen=True, eq=False)
class View:
    """The model at x: logits (N,K) and loss (N,), means over the draws, and the input gradient up to scale (N,C,H,W)."""

    logits: Tensor
    loss: Tensor
    gradient: Tensor | None = None
    extra: Tensor | int = 0  # (N,) forward passes beyond one a draw
    each: Tensor | None = None  # (N*draws,K) logits of the draws, those of one image in a row


def look(model: nn.Module, x: Tensor, goal: Goal, loss: str, draws: int, rng: torch.Generator) -> View:
    """One forward pass a draw, no gradient."""
    with torch.no_grad(), use_generator(rng):
        logits = model(_repeated(x, draws)).float()
    return _averaged(logits, goal, loss, draws)


def look_and_pull(model: nn.Module, x: Tensor, goal: Goal, loss: str, draws: int, rng: torch.Generator) -> View:
    """One forward and one input-backward pass a draw.

    With several draws the gradients of the loss are averaged (expectation over transformation, Athalye et al.,
    arXiv:1707.07397): each draw's pull on the logits is weighted by its own slope, 1 - p(true) for cross-entropy.
    """
    with torch.enable_grad(), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        logits = model(_repeated(leaf, draws)).float()
        with torch.no_grad():
            many = goal.repeated(draws) if draws > 1 else goal
            pull = many.logit_grad(logits, loss)
            if draws > 1:
                pull = pull * _shares(many.log_grad_norm(logits, loss), draws)[:, None]
        (gradient,) = torch.autograd.grad(logits, leaf, grad_outputs=pull)
    return replace(_averaged(logits.detach(), goal, loss, draws), gradient=gradient)


def log_scale(view: View, goal: Goal, loss: str) -> Tensor:
    """(N,) log of the positive factor by which `view.gradient` differs from the gradient of the loss; -inf: flat.

    Steps on one image's loss need no scale; a sum over images or models does, in log space against underflow.
    """
    draws = len(view.each) // len(view.logits)
    slopes = goal.repeated(draws).log_grad_norm(view.each, loss).view(-1, draws)
    return slopes.amax(1) - math.log(draws)


def relative(log_scales: Tensor, dim: int) -> Tensor:
    """exp(log_scales) divided by the largest along `dim`, without underflow; where all are flat (-inf), all are 1."""
    steepest = log_scales.amax(dim, keepdim=True)
    return torch.where(steepest == -math.inf, 0, log_scales - steepest).exp()


def _repeated(x: Tensor, draws: int) -> Tensor:
    return x.repeat_interleave(draws, dim=0) if draws > 1 else x


def _averaged(logits: Tensor, goal: Goal, loss: str, draws: int) -> View:
    if draws == 1:
        return View(logits, goal.loss(logits, loss), each=logits)
    losses = goal.repeated(draws).loss(logits, loss)
    return View(logits.view(-1, draws, logits.shape[1]).mean(1), losses.view(-1, draws).mean(1), each=logits)


def _shares(log_slope: Tensor, draws: int) -> Tensor:
    """(N*draws,) how steep each draw's loss is, relative to the steepest of its image."""
    return relative(log_slope.view(-1, draws), 1).flatten()


def dead(gradient: Tensor) -> Tensor:
    """(N,) bool: exactly zero or not finite, so that it says nothing about where to go."""
    largest = gradient.flatten(1).abs().amax(1)
    return ~((largest > 0) & (largest < math.inf))  # NaN compares false


def revived(gradient: Tensor, degenerate: Tensor, rng: torch.Generator) -> Tensor:
    """The gradient with dead rows replaced by random directions, so that no image freezes."""
    if not bool(degenerate.any()):
        return gradient
    noise = torch.randn(gradient.shape, generator=rng, device=rng.device, dtype=gradient.dtype).to(gradient.device)
    return torch.where(degenerate.view(-1, 1, 1, 1), noise, gradient)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Every module in eval mode inside the block and exactly as before after it (attacks during training)."""
    modes = [(module, module.training) for module in model.modules() if module.training]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
