"""`evaluate --inference`: a pursuit network with other numbers of inference steps than it was trained with."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from explorer.cli._console import eps_of, whole
from explorer.core import Ball
from explorer.core.ball import as_norm
from explorer.evaluation.inference import inference_measures
from explorer.models import zoo
from explorer.models.pursuit import MOST

PICTURES = 200


def work(card: zoo.Card, device: Any, n: int | None, shared: dict[str, Any], options: argparse.Namespace) -> Any:
    """The measures, asked for; the numbers of steps are separated by commas. Raises InvalidValue."""
    steps = [whole("inference", text, 0, MOST) for text in options.inference.split(",")]
    norm = as_norm(options.norm or "linf")
    one = {key: shared[key] for key in ("seed", "batch")}  # in one process
    ball = Ball(norm, eps_of(norm, options.eps))
    return partial(
        inference_measures, card.name, steps, device=device, n=n or PICTURES, ball=ball, twins=options.twin, **one
    )
