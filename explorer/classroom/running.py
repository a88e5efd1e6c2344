"""A scene's run to its end, without a page: what its question's answer comes to."""

from __future__ import annotations

from typing import Any

from explorer.classroom import asked
from explorer.classroom.lesson import Scene
from explorer.core import InvalidValue
from explorer.engine import Engine

SECONDS = 600.0  # of computing that one scene may take


def last_item(request: asked.Asked, engine: Engine) -> Any:
    """The run's last item. Raises what ended it."""
    future = engine.submit("lesson", asked.work_of(engine, request), deadline=SECONDS)
    for _ in future.events():
        pass
    return future.latest


def outcome_of(scene: Scene, device: str = "auto", engine: Engine | None = None) -> int:
    """The option of the scene's question that its run makes true. Raises InvalidValue for a scene without a question.

    A choice's is the one that its author marks: no run says it, and none is made.
    """
    if scene.question is None or scene.request is None:
        raise InvalidValue(f"scene {scene.title!r} asks nothing.")
    if scene.question.kind == "choice":
        assert scene.question.claim is not None
        return scene.question.claim
    own = engine or Engine(device)
    try:
        option = scene.question.option(asked.value(scene.question.kind, last_item(scene.request, own)))
    finally:
        if engine is None:
            own.close()
    if option is None:
        raise InvalidValue(f"the run of scene {scene.title!r} ended without an answer.")
    return option
