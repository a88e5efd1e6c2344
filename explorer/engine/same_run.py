"""Same run: all that decides about a request's answer, as a key; sessions with equal keys share one run (`sharing`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from explorer.engine.batch_request import ManyRequest
from explorer.engine.certifying import CertifyRequest
from explorer.engine.compare import CompareRequest
from explorer.engine.featurespace import CloudRequest
from explorer.engine.request import AttackRequest
from explorer.models import zoo


def same_run(request: Any) -> Hashable | None:
    """The request and the identity of every model's weights in it; None where nothing is known of that kind of request.

    Raises UnknownName or BadCheckpoint, as the run would.
    """
    if not isinstance(request, AttackRequest | CompareRequest | ManyRequest | CloudRequest | CertifyRequest):
        return None
    return type(request), request, tuple(zoo.card(name).identity for name in dict.fromkeys(_models(request)))


def _models(request: Any) -> Iterable[str]:
    if isinstance(request, CompareRequest):
        yield from request.models
        for lane in request.lanes:
            yield from lane.method.partners
    elif isinstance(request, CloudRequest):
        yield from request.models
        yield from request.batch.one.method.partners
    else:
        yield request.model
        if not isinstance(request, CertifyRequest):
            one = request.one if isinstance(request, ManyRequest) else request
            yield from one.method.partners
