"""The looks of column smoothing at one picture: what each sees of a few columns, for the page that shows their votes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from explorer.certify.columns import ballots
from explorer.core import InvalidValue
from explorer.engine.engine import Engine
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import picture
from explorer.models.column_resnet import ColumnResNet

ARCHITECTURE = "column-resnet"


@dataclass(frozen=True, eq=False)
class Looks:
    """Each look at one picture; look w sees the columns w to w + columns - 1, the last ones wrap around."""

    request: AttackRequest  # names picture, model and classes
    picture: np.ndarray  # (C,H,W) float32
    columns: int
    ballots: np.ndarray  # (W,K) bool: for which classes each look votes


def looks_work(engine: Engine, request: AttackRequest) -> Callable[[], Iterator[Looks]]:
    """What to give to `engine.submit`: one pass over all looks. Raises InvalidValue of a model that looks at no columns."""
    return lambda: _work(engine, request)


def _work(engine: Engine, request: AttackRequest) -> Iterator[Looks]:
    model, x = engine.model(request.model), picture(engine, request)
    if not isinstance(model, ColumnResNet):
        raise InvalidValue(
            f"only a network that looks at columns ({ARCHITECTURE}) has looks; {request.model} has none."
        )
    with torch.no_grad():
        found = ballots(model.looks(x))[0]
    yield Looks(request, x[0].cpu().numpy(), model.columns, found.cpu().numpy())
