"""Earlier names of what is in `gradient`, for attacks that are being rewritten."""

import torch
from torch import Tensor

from explorer.attacks.gradient import degenerate as dead
from explorer.attacks.gradient import forward as look
from explorer.attacks.gradient import gaussian
from explorer.core import Attack, Ball


def check_norm(attack: Attack, ball: Ball) -> None:
    attack.check_threat(ball)


def revived(gradient: Tensor, degenerate: Tensor, rng: torch.Generator) -> Tensor:
    if not bool(degenerate.any()):
        return gradient
    return torch.where(degenerate.view(-1, 1, 1, 1), gaussian(gradient, rng), gradient)


__all__ = ["check_norm", "dead", "look", "revived"]
