"""The preview of a run after each epoch: a few held-out images, what the loss makes of them and what the models say."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from explorer.core import Classifier, eval_mode, seeded, use_generator
from explorer.data.loading import balanced
from explorer.defenses.recipe import Recipe
from explorer.training.data import HeldOut
from explorer.training.preview_file import DRAWS, EpochPreview

PREVIEWED = 8  # images, of different classes as far as there are


class PreviewImages:
    """The images to preview, chosen once: the same for every run on the same held-out images."""

    def __init__(self, x: HeldOut, y: Tensor):
        rows = balanced(y.cpu(), min(PREVIEWED, len(y)), seed=0).to(y.device)
        self.x, self.y = x[rows], y[rows]

    def preview(self, recipe: Recipe, trained: Classifier, averaged: Classifier, epoch: int) -> EpochPreview:
        """What the loss of 0-based `epoch` would see, against the `trained` model; the run's generators stay untouched.

        The draws are the same every time, so that from epoch to epoch only the models change.
        """
        rng = seeded(recipe.seed, self.x.device)
        with eval_mode(trained), use_generator(rng):
            inputs = recipe.training_inputs(trained, self.x, self.y, rng, epoch).detach().float()
        return EpochPreview(
            clean=_bytes(self.x),
            trained_on=_bytes(inputs),
            labels=self.y.cpu().numpy(),
            p_clean=_probabilities(averaged, self.x, rng),
            p_trained_on=_probabilities(averaged, inputs, rng),
        )


def _bytes(x: Tensor) -> np.ndarray:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()


def _probabilities(model: Classifier, x: Tensor, rng: torch.Generator) -> np.ndarray:
    passes = DRAWS if model.stochastic else 1
    with torch.no_grad(), use_generator(rng):
        drawn = torch.stack([model(x).float().softmax(1) for _ in range(passes)])  # (passes, N, K)
    return drawn.mean(0).cpu().numpy()
