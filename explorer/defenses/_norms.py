"""Training against L-infinity and L2 at once: what the recipes for several norms share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from explorer.core import USUAL_EPS, Ball, Classifier, Region, param, use_generator
from explorer.defenses.inner_attacks import pgd_images, quick_pgd, robust_mask
from explorer.defenses.recipe import Each, Recipe, accuracy, counted


class BallOfEach:
    """What `pgd_images` asks of a ball, where each image has its own: the L2 ball where `in_l2` (N,), else the Linf one.

    Steps are `lengths` long (Linf, L2; in the pixel range), so a caller's relative step is 1.
    """

    eps = 1.0

    def __init__(self, linf: Ball, l2: Ball, in_l2: Tensor, lengths: tuple[float, float]):
        self.linf, self.l2, self.lengths = linf, l2, lengths
        self.in_l2 = in_l2.view(-1, 1, 1, 1)

    def around(self, x0: Tensor) -> _RegionOfEach:
        return _RegionOfEach(self.linf.around(x0), self.l2.around(x0), self.in_l2)

    def steepest(self, grad: Tensor) -> Tensor:
        linf, l2 = self.lengths
        return torch.where(self.in_l2, l2 * self.l2.steepest(grad), linf * self.linf.steepest(grad))


class _RegionOfEach:
    def __init__(self, linf: Region, l2: Region, in_l2: Tensor):
        self.linf, self.l2, self.in_l2 = linf, l2, in_l2

    def sample(self, rng: torch.Generator) -> Tensor:
        """Both norms draw for every image: which of them an image has changes no other image's draw."""
        linf, l2 = self.linf.sample(rng), self.l2.sample(rng)
        return torch.where(self.in_l2, l2, linf)

    def project(self, x: Tensor) -> Tensor:
        return torch.where(self.in_l2, self.l2.project(x), self.linf.project(x))


@dataclass(frozen=True)
class SeveralNorms(Recipe):
    """PGD in Linf `eps` and in L2 `eps_l2`; the kept epoch is the one that withstands most images in both.

    Scores, on the first half of the held-out images: "linf" and "l2", each against its own PGD, and "robust", the images
    that withstand both, which is also the score: never more than the worse of the two.
    """

    half: ClassVar[tuple[str, ...]] = ("robust", "linf", "l2")

    eps: float = param(
        USUAL_EPS["linf"], "Linf eps", lo=1e-4, hi=1.0, unit="pixel range", help="Radius of the Linf ball attacked in."
    )
    eps_l2: float = param(USUAL_EPS["l2"], "L2 eps", lo=1e-3, hi=10.0, help="Radius of the L2 ball, as a length.")
    inner_steps: int = param(2, "inner steps", lo=1, hi=50, help="PGD steps in each norm before every update.")
    selection_steps: int = param(10, "selection PGD steps", lo=1, hi=100, help="PGD steps of the held-out measure.")

    def balls(self) -> tuple[Ball, Ball]:
        """The two sets attacked in: Linf and L2."""
        return Ball("linf", self.eps), Ball("l2", self.eps_l2)

    def lengths(self) -> tuple[float, float]:
        """How long a step of the inner attack is, in Linf and in L2."""
        share = min(2.0 / self.inner_steps, 1.0)
        return share * self.eps, share * self.eps_l2

    def attacked(self, model: Classifier, x: Tensor, y: Tensor, in_l2: Tensor, rng: torch.Generator) -> Tensor:
        """(N,C,H,W): each image attacked in its own norm, L2 where `in_l2` (N,) is true."""
        each = BallOfEach(*self.balls(), in_l2, self.lengths())
        return pgd_images(model, x, y, each, self.inner_steps, 1.0, rng)  # type: ignore[arg-type]  # all that is asked of a ball

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        half = slice(0, max(len(x) // 2, 1))
        attack = quick_pgd(self.selection_steps)
        robust = [robust_mask(attack, model, x[half], y[half], ball, rng) for ball in self.balls()]
        linf, l2 = (counted(held, None, "") for held in robust)
        both = counted(robust[0] & robust[1], each, "robust")
        return {"clean": accuracy(model, x, y, rng, each=each), "linf": linf, "l2": l2, "robust": both, "score": both}


@dataclass(frozen=True)
class InBothNorms(SeveralNorms):
    """Every image is attacked in both norms; `combine` says what becomes of the two losses."""

    def combine(self, losses: Tensor) -> Tensor:
        """(N,) what is minimised, of the losses (2,N) in Linf and L2."""
        raise NotImplementedError

    def passes(self, epoch: int) -> int:
        return 2 * (1 + self.inner_steps)

    def in_both(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """(2N,C,H,W), the images attacked in Linf and then the same ones in L2; and their labels (2N,)."""
        images, labels = torch.cat((x, x)), torch.cat((y, y))
        in_l2 = torch.arange(len(images), device=x.device) >= len(x)
        return self.attacked(model, images, labels, in_l2, rng), labels

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        images, labels = self.in_both(model, x, y, rng)
        with use_generator(rng):
            losses = self.cross_entropy(model(images), labels, reduction="none")
        return self.combine(losses.view(2, -1)).mean()

    def training_inputs(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        """Of the two attacked images the one with the larger loss, as people would see the worse of both."""
        images, labels = self.in_both(model, x, y, rng)
        with torch.no_grad(), use_generator(rng):
            losses = self.cross_entropy(model(images), labels, reduction="none").view(2, -1)
        linf, l2 = images.chunk(2)
        return torch.where((losses[1] > losses[0]).view(-1, 1, 1, 1), l2, linf)
