"""What DeepFool and FAB share: the logits near a point as straight slopes, and the boundary that is nearest then."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.attacks._ascent import dead
from explorer.core import Goal, use_generator

NUDGE = 2 / 255  # every pixel's part in a random step, where there is no slope to follow
BEYOND = 0.1  # of the rest of the way a point goes beyond a crossing, which rounding could miss
LEAST = 1e-6  # every pixel's part in the shortest step: less is lost in float32, and a tie would never be left


class Sight:
    """One look at x (n,C,H,W): `logits` (n,K), means over the draws; and their slopes, if `sloped`."""

    def __init__(self, model: nn.Module, x: Tensor, draws: int, rng: torch.Generator, sloped: bool = True):
        with torch.set_grad_enabled(sloped), use_generator(rng):
            self._leaf = x.detach().requires_grad_(sloped)
            every = self._leaf.repeat_interleave(draws, dim=0) if draws > 1 else self._leaf
            self._every = model(every).float()  # (n*draws,K)
        self._draws = draws
        self.logits = self._every.detach().view(len(x), draws, -1).mean(1)

    def slope(self, goal: Goal, rival: Tensor, more: bool = True) -> Tensor:
        """(n,C,H,W) how the lead over each image's `rival` (n,) falls: one backward pass a draw.

        Unless there are `more` to come, what the pass has left in memory is freed.
        """
        rise = against(self.logits, goal, rival).repeat_interleave(self._draws, dim=0) / self._draws
        return torch.autograd.grad(self._every, self._leaf, rise, retain_graph=more)[0]

    def slopes(self, goal: Goal, rivals: Tensor) -> Tensor:
        """(n,R,C,H,W) how each of the `leads` falls. Nothing more can be asked for afterwards."""
        last = rivals.shape[1] - 1
        return torch.stack([self.slope(goal, rivals[:, k], more=k < last) for k in range(last + 1)], 1)


def likeliest(logits: Tensor, goal: Goal, count: int) -> Tensor:
    """(n,R) the `count` classes, if there are so many, with the largest logits among all but the goal's."""
    others = logits.scatter(1, goal.labels[:, None], float("-inf"))
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def against(logits: Tensor, goal: Goal, rival: Tensor) -> Tensor:
    """(n,K) what raises each image's `rival` (n,) against the label (with a target: the reverse), by one logit each."""
    rise = torch.zeros_like(logits).scatter(1, rival[:, None], 1.0).scatter(1, goal.labels[:, None], -1.0)
    return -rise if goal.is_targeted else rise


def leads(logits: Tensor, goal: Goal, rivals: Tensor) -> Tensor:
    """(n,R) how far each rival's logit must rise against the label's (with a target: the reverse)."""
    lead = logits.gather(1, goal.labels[:, None]) - logits.gather(1, rivals)
    return -lead if goal.is_targeted else lead


def usable(slopes: Tensor) -> Tensor:
    """(n,R) bool: neither exactly zero nor not finite."""
    return ~dead(slopes.flatten(0, 1)).view(slopes.shape[:2])


@dataclass(frozen=True, eq=False)
class Near:
    """The boundary that is nearest if they are straight, float64 where the device has it; and how far all of them are."""

    lead: Tensor  # (n,)
    way: Tensor  # (n,D) its slope
    size: Tensor  # (n,) the slope's, in the dual norm
    lost: Tensor  # (n,) bool: all slopes are dead, so that lead, way and size say nothing
    lengths: Tensor  # (n,R), infinite where the slope is dead


def nearest(leads: Tensor, slopes: Tensor, norm: str) -> Near:
    """Of the boundaries with these leads (n,R) and slopes (n,R,C,H,W)."""
    kind = torch.float64 if slopes.device.type != "mps" else slopes.dtype
    alive, flat = usable(slopes), slopes.to(kind).flatten(2)
    if not bool(alive.all()):
        flat = torch.where(alive[:, :, None], flat, 1.0)
    size = torch.linalg.vector_norm(flat, 1 if norm == "linf" else 2, dim=2)  # (n,R)
    lengths = torch.where(alive, leads.abs() / size, float("inf"))
    if leads.shape[1] == 1:
        return Near(leads[:, 0].to(kind), flat[:, 0], size[:, 0], ~alive[:, 0], lengths)
    rows, best = torch.arange(len(leads), device=leads.device), lengths.argmin(1)
    return Near(leads[rows, best].to(kind), flat[rows, best], size[rows, best], ~alive.any(1), lengths)


def crossing(below: Tensor, above: Tensor) -> Tensor:
    """(n,1,1,1) the share of the way from a margin below 0 to one above 0 at which a straight line is at 0, and a little
    more."""
    share = (below / (below - above)).nan_to_num(1.0)
    return (share + BEYOND * (1 - share)).clamp(0, 1).view(-1, 1, 1, 1)


def nudge(like: Tensor, rng: torch.Generator) -> Tensor:
    """A random step: NUDGE up or down for every pixel."""
    noise = torch.randn(like.shape, generator=rng, device=rng.device, dtype=like.dtype)
    return NUDGE * noise.sign().to(like.device)
