"""What a person watches from epoch to epoch: the same few held-out images, as the recipe's loss sees them now."""

from __future__ import annotations

import io
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from explorer.attacks._ascent import in_eval_mode
from explorer.core import Classifier, randomness, seeded
from explorer.core.files import write_atomically
from explorer.data.loading import balanced
from explorer.defenses._recipe import Recipe

SIGHTS = "sights"
WATCHED = 8  # images, of different classes as far as there are
DRAWS = 16  # passes of a stochastic network that are averaged
NAME = re.compile(r"epoch-(\d{4,})\.npz")


@dataclass(frozen=True, eq=False)
class Sight:
    """The watched images after an epoch. N images, K classes; the probabilities are the averaged model's.

    `trained_on` is shown cut to [0,1] and rounded to 8 bits; `p_trained_on` is that of the pixels as they are (noise,
    for one, leaves [0,1]). A stochastic network's probabilities are means over `DRAWS` passes.
    """

    clean: np.ndarray  # (N,C,H,W) uint8
    trained_on: np.ndarray  # (N,C,H,W) uint8: attacked, noisy or plain
    labels: np.ndarray  # (N,) int64
    p_clean: np.ndarray  # (N,K) float32
    p_trained_on: np.ndarray  # (N,K) float32


class Watched:
    """The images to watch, chosen once: the same for every run on the same held-out images."""

    def __init__(self, x: Tensor, y: Tensor):
        rows = balanced(y.cpu(), min(WATCHED, len(y)), seed=0).to(y.device)
        self.x, self.y = x[rows], y[rows]

    def sight(self, recipe: Recipe, trained: Classifier, averaged: Classifier, epoch: int) -> Sight:
        """What the loss of 0-based `epoch` would see, against the `trained` model; the run's generators stay untouched.

        The draws are the same every time, so that from epoch to epoch only the models change.
        """
        rng = seeded(recipe.seed, self.x.device)
        with in_eval_mode(trained), randomness(rng):
            seen = recipe.seen(trained, self.x, self.y, rng, epoch).detach().float()
        return Sight(
            clean=_bytes(self.x),
            trained_on=_bytes(seen),
            labels=self.y.cpu().numpy(),
            p_clean=_probabilities(averaged, self.x, rng),
            p_trained_on=_probabilities(averaged, seen, rng),
        )


def write_sight(folder: Path, epoch: int, sight: Sight) -> None:
    """`folder`/sights/epoch-0003.npz after three epochs, durably; 0: before the first. Raises OSError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **asdict(sight))
    write_atomically(Path(folder) / SIGHTS / f"epoch-{epoch:04d}.npz", buffer.getvalue())


def read_sight(folder: Path, epoch: int) -> Sight:
    """What `write_sight` wrote. Raises FileNotFoundError."""
    with np.load(Path(folder) / SIGHTS / f"epoch-{epoch:04d}.npz", allow_pickle=False) as file:
        return Sight(**{name: file[name] for name in file.files})


def sight_epochs(folder: Path) -> list[int]:
    """After how many epochs there are sights, in order."""
    found = (NAME.fullmatch(path.name) for path in (Path(folder) / SIGHTS).glob("epoch-*.npz"))
    return sorted(int(name.group(1)) for name in found if name)


def _bytes(x: Tensor) -> np.ndarray:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8).contiguous().cpu().numpy()


def _probabilities(model: Classifier, x: Tensor, rng: torch.Generator) -> np.ndarray:
    passes = DRAWS if model.stochastic else 1
    with torch.no_grad(), randomness(rng):
        drawn = torch.stack([model(x).float().softmax(1) for _ in range(passes)])  # (passes, N, K)
    return drawn.mean(0).cpu().numpy()
