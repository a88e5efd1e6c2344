"""De-randomized column smoothing (Levine and Feizi, arXiv:2002.10733): looks at few columns, certified against patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explorer.certify.columns import certified, touched, votes
from explorer.core import Classifier, param, sample_batch
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Each, Recipe, counted

PATCH = 5  # pixels: an epoch is scored by the share certified against patches of this width
PART = 100  # images scored at a time


@RECIPES.register(
    "column",
    title="Column smoothing",
    paper="arXiv:2002.10733",
    group="certified",
    summary="Votes of looks at four columns each: a patch touches few of them, so votes that are clear enough are proven.",
)
@dataclass(frozen=True)
class Column(Recipe, epochs=30, label_smoothing=0.0):
    """Cross-entropy of one look at each image, at a position drawn anew every time.

    differs: flips and crops of the whole image precede the look; see the architecture for how a look is given.
    """

    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\, \mathbb{E}_{w\sim\mathcal{U}\{1..W\}}\, L\big(f_\theta(x_{[w,\,w+s)}), y\big)"
    )
    explanation: ClassVar[str] = (
        r"The network never sees a whole picture: of $x$ it is shown $s$ neighbouring columns that begin at a random place $w$, "
        r"and learns to name the class from them. In use it looks at each of the $W$ places once, and every look votes. A square "
        r"patch of $m$ pixels, wherever it is stuck and whatever is on it, touches at most $m + s - 1$ looks: where the winner "
        r"leads by more than twice that, no such patch can turn the vote, which is a *proof*, with no chance in it."
    )
    half: ClassVar[tuple[str, ...]] = ("clean", "certified")
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "width": 8}

    width: int = param(32, "width", lo=4, hi=128, unit="channels", help="Channels of the first stage.")
    columns: int = param(4, "columns", lo=1, hi=32, unit="pixels", help="Neighbouring columns that a look sees (s).")

    def architecture(self) -> tuple[str, dict[str, Any]]:
        return "column-resnet", {"width": self.width, "columns": self.columns}

    def places(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """(N,) int64: the leftmost column of one look at each image (N,C,H,W), any with equal chance."""
        across = x.shape[3]
        places = sample_batch(lambda n: torch.randint(across, tuple(n), generator=rng, device=rng.device), x.shape[:1])
        return places.to(x.device)

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        return self.cross_entropy(model(x, self.places(x, rng)), y)

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """The columns of one look at each image; black where the network sees nothing."""
        column = torch.arange(x.shape[3], device=x.device)
        kept = (column - self.places(x, rng)[:, None]) % x.shape[3] < self.columns  # (N, W)
        return x * kept[:, None, None, :]

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """Of half the images: how many are right, and how many are right and proven against a 5x5 patch, which decides."""
        half = (len(y) + 1) // 2
        right, proven = [], 0
        reach = touched(PATCH, self.columns, x.shape[3])
        with torch.no_grad():
            for images, labels in zip(x[:half].split(PART), y[:half].split(PART), strict=True):
                features = model.features(images)
                right.append(model.head(features).argmax(1) == labels)
                counts = votes(features.unflatten(1, (x.shape[3], -1)))
                proven += int((certified(counts, reach) & (counts.argmax(1) == labels)).sum())
        return {"clean": counted(torch.cat(right), each, "clean"), "certified": proven / half, "score": proven / half}
