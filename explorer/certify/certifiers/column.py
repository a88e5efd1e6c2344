"""Column (de-randomized) smoothing as a certifier: no square patch of so many pixels, wherever it lies, can turn the vote.

Levine and Feizi, arXiv:2002.10733, theorem 1. Deterministic: every look votes, none is drawn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from torch import Tensor

from explorer.certify.certifier import CertifiedRadius, Certifier, Norm, parts
from explorer.certify.certifiers import CERTIFIERS
from explorer.certify.columns import THETA, largest_patch, votes
from explorer.core import Classifier, param
from explorer.models.column_resnet import ColumnResNet

BATCH = 16  # pictures in a pass, each looked at as often as it is wide


@CERTIFIERS.register(
    "column",
    title="Column smoothing",
    paper="arXiv:2002.10733",
    summary="Looks at a few columns each vote; a patch touches few of them. Holds always, against patches of any content.",
)
@dataclass(frozen=True)
class ColumnSmoothing(Certifier):
    """The largest side of a square patch whose looks, all turned, would not turn the vote."""

    norm: ClassVar[Norm] = "patch"
    deterministic: ClassVar[bool] = True
    caveat: ClassVar[str] = "Of the vote of the looks in float32, which a patch's looks alone can change."

    theta: float = param(
        THETA,
        "vote threshold",
        lo=0.0,
        hi=1.0,
        help="A look votes for each class that it finds more probable than this.",
    )

    def reason_against(self, model: Classifier) -> str | None:
        if isinstance(model, ColumnResNet):
            return None
        return (
            f"column smoothing needs a network that looks at columns (column-resnet); {type(model).__name__} does not."
        )

    def certificates(
        self, model: Classifier, x: Tensor, *, seeds: Sequence[int] | None = None
    ) -> Iterator[CertifiedRadius | None]:
        self.check(model, x)
        base = cast("ColumnResNet", model)
        across = base.input_shape[2]
        for part in parts(x, BATCH):
            began = time.perf_counter()
            counts = votes(base.looks(part), self.theta)
            sides, labels = largest_patch(counts, base.columns, across).tolist(), counts.argmax(1).tolist()
            each = (time.perf_counter() - began) / len(part)
            for row, label, side in zip(counts.tolist(), labels, sides, strict=True):
                yield CertifiedRadius(label, float(side), "patch", 1.0, across, each, {"votes": row})
            yield None
