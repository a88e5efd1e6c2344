"""The film of a run: the decision boundary around one held-out picture, sliced every few updates by the averaged weights."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from explorer.core import USUAL_EPS, Classifier, seeded, use_generator
from explorer.defenses.inner_attacks import input_gradient
from explorer.defenses.recipe import Recipe
from explorer.training.watched import ACROSS, ALONG, SIDE, BoundarySlice

SHARE = 0.02  # of the passes that updates make, which slices may make
MOST = 240  # slices of a run
BACKWARD = 2  # what a backward pass costs, in forward passes


class Film:
    """Slices through one picture x (1,C,H,W) of class y (1,).

    u is the direction of one FGSM step (the sign of the loss's gradient at x), which follows the network; v are random signs
    that stay the same over the run, less what they share with u. Both are eps long in Linf: that of the recipe, 8/255 without.
    A network that has learned to withstand the one step alone is right at a = 1 and wrong on the way there
    (Kim et al., arXiv:2010.01799).
    """

    def __init__(self, recipe: Recipe, x: Tensor, y: Tensor, updates: int):
        self.recipe, self.x, self.y, self.updates = recipe, x, y, updates
        in_linf = getattr(recipe, "norm", "linf") == "linf"
        self.eps = float(getattr(recipe, "eps", USUAL_EPS["linf"])) if in_linf else USUAL_EPS["linf"]
        self.across = torch.randn(x.shape, generator=seeded(recipe.seed)).sign().to(x)

    def every(self, epoch: int) -> int:
        """Updates between two slices in this 0-based epoch, by what both cost in passes."""
        update = self.recipe.batch * self.recipe.passes(epoch) * (1 + BACKWARD)
        return max(math.ceil((SIDE**2 + 1 + BACKWARD) / (SHARE * update)), math.ceil(self.updates / MOST))

    def slice(self, model: Classifier, update: int) -> BoundarySlice:
        """The plane after so many updates. The run's generators stay untouched; a stochastic network has one draw for all points."""
        rng = seeded(self.recipe.seed, self.x.device)
        along = input_gradient(model, self.x, self.y, rng).sign()
        shared = (self.across * along).mean()
        across = self.across - shared * along
        across = across / across.abs().amax().clamp(min=1e-6)
        a = torch.linspace(*ALONG, SIDE, device=self.x.device).repeat(SIDE).view(-1, 1, 1, 1)
        b = torch.linspace(*ACROSS, SIDE, device=self.x.device).repeat_interleave(SIDE).view(-1, 1, 1, 1)
        points = (self.x + self.eps * (a * along + b * across)).clamp(0, 1)
        with torch.no_grad(), use_generator(rng, shared=True):
            best = model(points).float().softmax(1).max(1)
        square = (SIDE, SIDE)
        classes = best.indices.cpu().numpy().astype(np.uint16).reshape(square)
        sure = (
            (best.values.nan_to_num(0) * 255).round().cpu().numpy().astype(np.uint8).reshape(square)
        )  # NaN: it diverges
        return BoundarySlice(update, self.eps, int(self.y[0]), classes, sure)
