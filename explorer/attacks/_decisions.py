"""Decision-based attacks: yes-or-no questions to a model that names a class, the way to its boundary, the queries counted."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.attacks.gradient import Evaluation, Recorder, forward
from explorer.core import Attack, Goal, Region, Step
from explorer.core.dense import BallRegion, LinfRegion

HALVINGS = 30  # of a bisection at most


class Decisions:
    """The model's answers to yes-or-no questions about images, how many were asked of each, and the steps that show them."""

    def __init__(self, attack: Attack, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator):
        assert isinstance(region, BallRegion)
        self.attack, self.model, self.goal, self.region, self.rng = attack, model, goal, region, rng
        self.recorder = Recorder(attack, goal, region, attack.expected_frames - 1)
        self.flat = isinstance(region, LinfRegion)
        self.everybody = torch.arange(len(region.x0), device=region.x0.device)
        self.queries = torch.zeros_like(self.everybody)

    def look(self, x: Tensor, rows: Tensor) -> Evaluation:
        """The model at x (n,C,H,W), points of the images in `rows`."""
        self.queries = self.queries.index_add(0, rows, torch.full_like(rows, self.attack.draws))
        return forward(self.model, x, self.goal.rows(rows), self.attack.loss, self.attack.draws, self.rng)

    def fooled(self, x: Tensor, rows: Tensor) -> Tensor:
        """(n,) bool, all that the attack goes by: the class named is a success."""
        return self.goal.rows(rows).reached(self.look(x, rows).logits)

    def show(self, x: Tensor, restart: int = 0) -> Step:
        """The step at x (N,C,H,W), which counts the queries since the last one."""
        at = self.look(x, self.everybody)
        return self.recorder.step(x, replace(at, forwards=self.spent()), restart=restart)

    def settled(self, clean: Step) -> Tensor:
        """(N,) bool: nothing to look for, or nobody to ask."""
        margin = self.goal.margin(clean.logits)
        return (margin > 0) | ~margin.isfinite()

    def spent(self) -> Tensor:
        """(N,) queries since this was last asked."""
        queries, self.queries = self.queries, torch.zeros_like(self.queries)
        return queries

    def start(self, done: Tensor, tries: int) -> tuple[Tensor, Tensor]:
        """Random images (n,C,H,W) that are successes, and whose they are (n,); not of those `done`."""
        found, x, left = done.clone(), self.region.x0.clone(), (~done).nonzero()[:, 0]
        for k in range(tries):
            if len(left) == 0:
                break
            tried = noise(x[left], 2 ** (k % 6), self.rng)
            tried = tried.round() if k // 6 % 2 else tried  # black and white lies farther from the middle
            hit = self.fooled(tried, left)
            x[left[hit]], found[left[hit]] = tried[hit], True
            left = left[~hit]
        rows = (found & ~done).nonzero()[:, 0]
        return x[rows], rows

    def toward(self, x: Tensor, rows: Tensor, share: Tensor) -> Tensor:
        """x0 (share 0) to x (share 1): a blend in L2, x cut to a cube around x0 in Linf. share (n,)."""
        x0, part = self.region.x0[rows], share.view(-1, 1, 1, 1)
        if not self.flat:
            return (x0 + part * (x - x0)).clamp(0, 1)
        change = x - x0
        most = part * change.abs().amax((1, 2, 3), keepdim=True)
        return (x0 + torch.maximum(torch.minimum(change, most), -most)).clamp(0, 1)

    def bisect(self, x: Tensor, rows: Tensor, theta: float) -> Tensor:
        """The success nearest to the boundary between x0 and x (n,C,H,W), up to a share theta of the way."""
        low, high, best = torch.zeros_like(rows).to(x), torch.ones_like(rows).to(x), x
        for _ in range(min(math.ceil(-math.log2(theta)), HALVINGS) if len(rows) else 0):
            middle = (low + high) / 2
            tried = self.toward(x, rows, middle)
            hit = self.fooled(tried, rows)
            best = torch.where(hit.view(-1, 1, 1, 1), tried, best)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
        return best

    def distance(self, x: Tensor, rows: Tensor) -> Tensor:
        """(n,) in the norm."""
        return self.region.rows(rows).distance(x).to(x)


def noise(like: Tensor, cells: int, rng: torch.Generator) -> Tensor:
    """Random images in [0, 1] of `cells` x `cells` uniform fields (at most one for each pixel)."""
    n, channels, height, width = like.shape
    shape = (n, channels, min(cells, height), min(cells, width))
    field = torch.rand(shape, generator=rng, device=rng.device, dtype=like.dtype).to(like.device)
    return F.interpolate(field, size=(height, width))
