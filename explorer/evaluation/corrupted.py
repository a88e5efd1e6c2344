"""Accuracy under common corruptions: 15 kinds at 5 severities (Hendrycks & Dietterich, arXiv:1903.12261), as a table."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from explorer.attacks.corruptions import Corruptions
from explorer.core import Classifier, Corruption, as_classifier
from explorer.core.corruptions import KINDS, SEVERITIES
from explorer.core.device import hardware_name
from explorer.core.ranks import ALONE, Ranks
from explorer.data import Images
from explorer.evaluation.batch_attack import ShouldStop, stop_if_asked
from explorer.evaluation.measure import Measure, count
from explorer.evaluation.outcome import wrong_in_most
from explorer.evaluation.robustness import BATCH, FLOAT32, Progress, batches
from explorer.evaluation.verdict import draw_logits, verdict_draws

MEAN = "mean"


def corrupted_accuracy(
    model: nn.Module,
    images: Images,
    *,
    seed: int = 0,
    batch: int = BATCH,
    chosen: str = "",
    ranks: Ranks = ALONE,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Measure:
    """Share of images classified right as they are and under all 15 corruptions at all 5 severities; the table is `outcomes`.

    `outcomes`: for each kind, and for "mean", the share classified right at severity "1" to "5" (a stochastic model's by
    the majority of 20 draws). CIFAR-10-C's usual number is the mean of them all, which `note` has. Raises Cancelled when
    `should_stop` says so.
    """
    began, model = time.monotonic(), as_classifier(model, like=images.x)
    found = []
    for x, y, rng, done in batches(images, model, batch, seed, ranks):
        rights = [_right(model, x, y, rng)]
        region = Corruption(SEVERITIES, seed).around(x)
        for kind in range(len(KINDS)):
            for severity in range(1, SEVERITIES + 1):
                stop_if_asked(should_stop)
                theta = torch.tensor([kind, severity]).to(x).expand(len(x), 2)
                rights.append(_right(model, region.apply(theta), y, rng))
        found.append(torch.stack(rights, 1).cpu())  # (n, 1 + 75)
        if progress is not None:
            progress(done, len(images))
    right = torch.cat(ranks.gather(found))
    shares = right[:, 1:].double().mean(0).view(len(KINDS), SEVERITIES)
    table = dict(zip(KINDS, shares.tolist(), strict=True)) | {MEAN: shares.mean(0).tolist()}
    draws, clean = verdict_draws(model), float(right[:, 0].double().mean())
    return Measure(
        kind="corrupted",
        **count(int(right.all(1).sum()), len(images)),
        attack="corruptions",
        hyper=Corruptions(corruption_seed=seed).to_dict(),
        norm="corruption",
        eps=float(SEVERITIES),
        outcomes={name: {str(k + 1): share for k, share in enumerate(row)} for name, row in table.items()},
        seed=seed,
        batch=batch,
        verdict_draws=draws,
        data=f"{images.name} {images.split}, {images.source}",
        chosen=chosen or f"{len(images):,} images as given",
        precision=FLOAT32,
        device=hardware_name(model.device, ranks.world),
        seconds=round(time.monotonic() - began, 2),
        note=f"right under all 75; the mean over them is {100 * float(shares.mean()):.1f} %, clean {100 * clean:.1f} %",
    )


def _right(model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator) -> Tensor:
    """(n,) bool, by as many fresh draws as a verdict takes."""
    looks = torch.cat(list(draw_logits(model, x, rng, verdict_draws(model))))
    return ~wrong_in_most(looks, y)
