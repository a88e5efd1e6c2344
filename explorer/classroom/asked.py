"""What a scene's link asks of the engine: the request of the page it leads to, its work, and the values that answer questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from explorer.core import InvalidValue
from explorer.engine import AttackRequest, Engine, Snapshot, attack_work
from explorer.engine.batch_request import ManyRequest
from explorer.engine.batch_result import BatchResult
from explorer.engine.certifying import LINK, Certifying, CertifyRequest, certify_work
from explorer.engine.compare import CompareRequest, Comparison, compare_work
from explorer.engine.featurespace import CloudRequest, FeatureCloud, cloud_work
from explorer.engine.many import many_work
from explorer.evaluation.outcome import Ending
from explorer.evaluation.verdict import Verdict

Asked = AttackRequest | CompareRequest | ManyRequest | CloudRequest | CertifyRequest
ATTACK, COMPARE, MANY, FEATURES, CERTIFY = PAGES = ("attack", "compare", "many", "features", "certify")
_REQUESTS: Mapping[str, Any] = dict(
    zip(PAGES, (AttackRequest, CompareRequest, ManyRequest, CloudRequest, CertifyRequest), strict=True)
)
_KNOWN = {
    ATTACK: {*AttackRequest.link},
    COMPARE: {*AttackRequest.link, "models", "craft", "attacks"} - {"model"},
    MANY: {*ManyRequest.link},
    FEATURES: {*CloudRequest.link, "map"},
    CERTIFY: {*LINK},
}
_WORKS: Mapping[type, Any] = {
    AttackRequest: attack_work,
    CompareRequest: compare_work,
    ManyRequest: many_work,
    CloudRequest: cloud_work,
    CertifyRequest: certify_work,
}
ANSWERED = {  # which kinds of questions a page's run answers; every page may have a "choice"
    ATTACK: ("fooled", "class", "distance"),
    COMPARE: ("count",),
    MANY: ("count",),
    FEATURES: ("count",),
    CERTIFY: ("distance",),
}


def of_link(link: str) -> tuple[str, dict[str, str], Asked]:
    """The page, its parameters, and the request of a link such as "/compare?data=cifar10&...". Raises an ExplorerError."""
    parts = urlsplit(link)
    page = parts.path.strip("/") or ATTACK
    if parts.scheme or parts.netloc or page not in PAGES:
        raise InvalidValue(f"a scene's link must lead to / or one of /{', /'.join(PAGES[1:])}; got {link!r}.")
    query = dict(parse_qsl(parts.query))
    if unknown := sorted(query.keys() - _KNOWN[page]):
        raise InvalidValue(f"a link of /{page} does not know {', '.join(unknown)}.")
    request = _REQUESTS[page].from_query(query)
    if isinstance(request, AttackRequest | CompareRequest | ManyRequest | CloudRequest):
        request = request.within()
    attacked = request.attack if isinstance(request, CompareRequest) else request
    if isinstance(getattr(attacked, "image", None), str):
        raise InvalidValue("a scene shows bundled pictures: an uploaded one is gone when the app starts again.")
    return page, query, request


def work_of(engine: Engine, request: Asked) -> Callable[[], Iterable[Any]]:
    """What to give to `engine.submit`."""
    work: Callable[[], Iterable[Any]] = _WORKS[type(request)](engine, request)
    return work


def pictures_of(request: Asked) -> tuple[str, tuple[int, ...]]:
    """The dataset and the rows of the bundled sample that a run begins with; none where a model has a say in them."""
    if isinstance(request, CompareRequest):
        request = request.attack
    if isinstance(request, CloudRequest):
        request = request.batch
    if isinstance(request, ManyRequest):
        free = request.pick == "right"
        return request.dataset, () if free else tuple(int(row) for row in request.candidates[: request.count])
    return request.dataset, (int(request.image),)


def most(request: Asked) -> int:
    """How many a "count" can come to: pictures, or lanes of a comparison."""
    if isinstance(request, CompareRequest):
        return len(request.lanes)
    if isinstance(request, CloudRequest):
        return request.batch.count
    return request.count if isinstance(request, ManyRequest) else 1


def norm_of(request: Asked) -> str:
    """The norm of a "distance"."""
    return request.norm if isinstance(request, AttackRequest) else "l2"


def value(kind: str, item: Any) -> float | None:
    """What a run's last item answers to a question of this kind: 1 or 0 for "fooled", a class's number, a count, a distance in
    pixel units; None while the run has not got there.

    A certificate that abstains proves a distance of 0; an attack that found nothing has an infinite smallest distance.
    """
    if isinstance(item, Snapshot):
        return None if item.result is None else _of_walk(kind, item.result.ending, item.result.verdict)
    if isinstance(item, Comparison):
        ended = all(lane.snapshot.result is not None for lane in item.lanes)
        return sum(lane.fooled for lane in item.lanes) if ended else None
    if isinstance(item, BatchResult):
        return item.fooling_rate.fooled if item.finished else None
    if isinstance(item, FeatureCloud):
        return int(item.lanes[0].fooled.sum()) if item.finished else None
    if isinstance(item, Certifying):
        return None if item.certificate is None else item.certificate.radius
    return None


def _of_walk(kind: str, ending: Ending, verdict: Verdict) -> float:
    fooled = ending is Ending.FOOLED
    if kind == "fooled":
        return int(fooled)
    if kind == "class":
        return int(verdict.predicted[0])
    return float(verdict.distance[0]) if fooled else float("inf")
