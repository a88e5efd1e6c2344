"""The question that fits a run, where no lesson asks one: fooled, how many of all, or how far."""

from __future__ import annotations

from explorer.classroom import asked
from explorer.classroom import question as q
from explorer.classroom.question import Question
from explorer.engine import AttackRequest
from explorer.engine.certifying import CertifyRequest
from explorer.engine.compare import CompareRequest


def usual_question(request: asked.Asked) -> Question:
    """What one may foretell of this request's run."""
    if isinstance(request, CertifyRequest):
        return _distance("How far will the answer be proven?", "l2")
    if isinstance(request, AttackRequest):
        if request.is_minimal and request.norm in q.USUAL:
            return _distance("How large a change will it need?", request.norm)
        wish = "the chosen class" if request.target is not None else "a wrong class"
        return Question(q.FOOLED, f"Will the attack lead the network to {wish}?", ("yes", "no"))
    most = asked.most(request)
    what = "players" if isinstance(request, CompareRequest) else "pictures"
    limits = q.count_limits(most)
    words = f"In how many of the {most} {what} will the network be fooled?"
    return Question(q.COUNT, words, q.count_options(limits, most), limits)


def _distance(text: str, norm: str) -> Question:
    return Question(q.DISTANCE, text, q.distance_options(q.USUAL[norm], norm), q.USUAL[norm])
