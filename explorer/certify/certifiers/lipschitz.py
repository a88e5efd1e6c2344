"""1-Lipschitz networks as a certifier: the lead over each rival is a radius in L2, from one pass (arXiv:1802.04034).

Computed in float64 by the network with its very weights: what rounding can do there is bounded, layer by layer, and taken off
(`LipschitzNet.rounding`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from explorer.certify.certifier import CertifiedRadius, Certifier, Norm, parts
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.lipschitz import radii
from explorer.core import Classifier
from explorer.models.lipschitz_net import LipschitzNet
from explorer.models.variants import in_float64

BATCH = 64  # pictures in a pass


class Proof:
    """The radii of one network, which is copied in float64 once: for who asks again and again, as along an attack's walk."""

    def __init__(self, model: LipschitzNet):
        self._exact = cast("LipschitzNet", in_float64(model))
        self._slopes, self._rounding = self._exact.slopes(), self._exact.rounding()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) float64 certified radii in L2 and (N,) int64 answers at x (N,C,H,W), by one pass."""
        logits = self._exact(x.double())
        return radii(logits, self._slopes, self._rounding), logits.argmax(1)


@CERTIFIERS.register(
    "lipschitz",
    title="Lipschitz constant",
    paper="arXiv:1802.04034",
    summary="No layer enlarges a difference, so the lead over the rivals is a radius in L2: one pass, holds always.",
)
@dataclass(frozen=True)
class LipschitzConstant(Certifier):
    """min over k of (z_c - z_k - rounding) / |w_c - w_k|, c the answer."""

    norm: ClassVar[Norm] = "l2"
    deterministic: ClassVar[bool] = True
    caveat: ClassVar[str] = "Of the network computed in float64; its float32 logits differ in the sixth digit."

    def reason_against(self, model: Classifier) -> str | None:
        if isinstance(model, LipschitzNet):
            return None
        return (
            "a Lipschitz certificate needs a network whose layers enlarge no difference (lipschitz-net); "
            f"{type(model).__name__} is none."
        )

    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        self.check(model, x)
        proof = Proof(cast("LipschitzNet", model))
        for part in parts(x, BATCH):
            began = time.perf_counter()
            found, labels = proof(part)
            each = (time.perf_counter() - began) / len(part)
            for label, radius in zip(labels.tolist(), found.tolist(), strict=True):
                yield CertifiedRadius(label, radius, "l2", 1.0, 1, each)
            yield None
