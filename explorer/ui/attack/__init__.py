"""The Attack page: the walk of one attack on one picture, in the trace player, and what came out in plain words."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial

import streamlit as st

from explorer.attacks import ATTACKS
from explorer.core import ExplorerError, FeaturePath
from explorer.engine import AttackRequest, Result, Snapshot, attack_work
from explorer.engine.tracing import on_map
from explorer.evaluation.outcome import Ending
from explorer.features import NoMap
from explorer.models import zoo
from explorer.ui import gate
from explorer.ui.attack import pace, tools, verdict
from explorer.ui.attack.next_step import NextStep, Seen, next_step
from explorer.ui.components.trace_player import trace_player
from explorer.ui.frame import go_to, in_lesson, is_hidden, row
from explorer.ui.inputs import attack as controls
from explorer.ui.inputs.picture import jump_to_right
from explorer.ui.page_run import TRAVEL, PageRun, Stored, Work
from explorer.ui.session import engine
from explorer.ui.text import attack as verdicts

LONGEST = 0.5  # seconds between two looks at a running walk


class AttackRun(PageRun[AttackRequest, Snapshot]):
    """One attack on one picture; it is begun by other pages, too (`play`).

    A choice is an act: another picture or model is shown at once with the model's answer, and attacked at once where the
    last such walk was quick and nobody else waits; so is any other change of the settings.
    """

    act = "play"
    poll = 0.15
    names = frozenset(AttackRequest.link)
    about = (
        "An adversarial example: a picture changed so little that people see no difference, and so well aimed that the model sees "
        "something else. Watch how an attack finds it, step by step."
    )

    looked: Stored[bool] = Stored(False)  # whether only the untouched picture was asked for

    def of_link(self, query: Mapping[str, str]) -> AttackRequest:
        request = AttackRequest.from_query(query).within()
        if isinstance(request.image, str):
            engine().upload(request.image)  # raises if that picture is not here
        return request

    def filled(self, query: Mapping[str, str]) -> Mapping[str, str]:
        return controls.filled(query)

    def current(self) -> AttackRequest:
        return controls.current_request()

    def show(self, request: AttackRequest) -> None:
        controls.show(request)

    def same(self, shown: AttackRequest, request: AttackRequest) -> bool:
        return controls.same_walk(shown, request)

    def work(self, request: AttackRequest) -> Work[Snapshot]:
        whole = attack_work(engine(), request)
        return (lambda: _first_look(whole())) if self.looked else whole

    def decides(self, request: AttackRequest) -> Hashable | None:
        return self.looked, super().decides(request)

    def start(self, request: AttackRequest) -> None:
        self.looked = False
        super().start(request)

    def look_at(self, request: AttackRequest) -> None:
        """Show the untouched picture and what the model makes of it, in place of the run before."""
        self.looked = not gate.is_on(request)  # at a gate the picture is shown without asking the model
        super().start(request)

    def every(self, request: AttackRequest) -> float:
        return min(self.poll + request.frames * TRAVEL, LONGEST)

    def follow(self) -> None:
        shown = self.shown
        try:
            request = self.current()
        except ExplorerError:
            return  # `notices` says so
        if shown is None or self.is_shown(request) or (self.running and not (self.looked or pace.is_quick(shown))):
            return  # a long run is not given up for a click
        if pace.is_quick(request) and pace.is_free(self.running):
            self.start(request)
        elif self.looked or (request.image, request.model) != (shown.image, shown.model):
            self.look_at(request)

    def say(self) -> None:
        if not self.looked:
            super().say()
            return
        st.info(f"Not attacked yet: press **{self.verb}** to see what becomes of it.", icon=":material/arrow_upward:")

    def link(self, request: AttackRequest) -> dict[str, str]:
        return {} if request.is_upload else request.to_query()  # no link can carry an upload

    def forget_old(self, request: AttackRequest) -> None:
        tools.forget(request)

    def draw(self, item: Snapshot, request: AttackRequest, finished: bool) -> None:
        other, note = _other_map(request.model, item) if finished else (None, "")
        model = zoo.card(request.model).title
        with st.container(key="player-place"):
            trace_player(
                item.trace,
                item.feature_path,
                *verdicts.told(item, request.model),
                key="player",
                live=not finished,
                title=f"{model} on the untouched picture" if self.looked else request.title(),
                other=other,
                other_note=note,
            )
        if item.result is not None:
            pace.took(request, item)
        if not is_hidden("verdict"):
            with st.container(key="verdict"):
                self._verdict(item, request, finished)

    def _verdict(self, item: Snapshot, request: AttackRequest, finished: bool) -> None:
        """In the same look as the player's last frame: stage and words never disagree."""
        st.header("What happened", anchor=False)
        if item.result is not None:
            verdict.show(item, item.result, request, partial(self._ask, item, item.result, request))
        elif self.looked:
            st.caption("Nothing yet: this is the picture before any attack.")
        else:
            ended = "No verdict: the attack did not get to its end."
            st.caption(ended if finished else "The verdict comes when the attack has ended.")

    def _ask(self, item: Snapshot, result: Result, request: AttackRequest) -> None:
        """The next step: one question, one button."""
        if in_lesson():
            return  # a lesson has its own next step
        ending = result.ending
        fooled, before = ending is Ending.FOOLED, ending is Ending.WRONG_BEFORE
        step = next_step(Seen(request, item.trace.label, fooled=fooled, wrong_before=before))
        if step is None:
            return
        with st.container(key="next-step"):
            st.markdown(f"**What next?** {step.question}")
            if st.button(
                step.button, icon=":material/arrow_forward:", key="next step", on_click=self.take, args=(step,)
            ):
                st.rerun()  # the whole page, not this part of it only

    def take(self, step: NextStep) -> None:
        """Go where a next step leads."""
        if step.link is None:
            jump_to_right()
            self.begin()
        elif step.page == "attack":
            self.play(AttackRequest.from_query(step.link))
        else:
            go_to(step.page, step.link)


def _first_look(snapshots: Iterable[Snapshot | None]) -> Iterator[Snapshot | None]:
    """Up to the untouched picture, as a walk of one frame."""
    for snapshot in snapshots:
        if snapshot is not None:
            yield dataclasses.replace(snapshot, trace=dataclasses.replace(snapshot.trace, planned=len(snapshot.trace)))
            return
        yield None


ATTACK = AttackRun()


def headline() -> None:
    """Model, attack and wish in one sentence-like row, and the button."""
    model, attack, wish, button = row([3, 3, 2.4, 1.5])
    controls.model_box(model)
    controls.attack_boxes(attack, wish)
    ATTACK.button(button)


def _other_map(model: str, snapshot: Snapshot) -> tuple[FeaturePath | None, str]:
    """A finished walk on the model's UMAP, where there is one, and what that map is worth."""
    maps = engine().plane(model).maps
    if maps is None or snapshot.feature_path is None:
        return None, ""
    try:
        ground = maps.umap()
    except NoMap:
        return None, ""
    note = (
        "UMAP keeps who is near whom and preserves no distances; this image is placed between its nearest reference "
        f"images. Neighbourhoods kept: {ground.trustworthiness:.2f} (trustworthiness: 1 all, 0.5 a random map)."
    )
    trace, kept = snapshot.trace, st.session_state.get("stage.umap")
    if (
        kept is None or kept[0] is not trace or kept[1] is not ground
    ):  # k-NN of every frame: once a walk, not once a rerun
        kept = st.session_state["stage.umap"] = (trace, ground, on_map(ground, trace))
    return kept[2], note


def outcome() -> None:
    """The tools for a finished walk, and how the method works."""
    future, request = ATTACK.future, ATTACK.shown
    if future is None or request is None:
        return
    snapshot = future.latest
    with st.container(key="tools"):
        if snapshot is not None and snapshot.result is not None:
            tools.show(snapshot, snapshot.result, request, ATTACK.play)
        else:
            tools.wait(request.model)
    if not is_hidden("explain"):
        _method(request)


def _method(request: AttackRequest) -> None:
    entry = ATTACKS.entry(request.attack)
    st.header(f"How {entry.title} works", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(entry.summary)
        st.latex(entry.cls.formula)
        st.caption(f"Source: {entry.paper}")
    with right:
        st.markdown(entry.cls.explanation)
        st.markdown(SYMBOLS)


SYMBOLS = r"""
$x$ is the picture, $y$ its class, $L$ the model's loss: large when the model is wrong. $\nabla_x L$ says how the loss
grows with each pixel, $\varepsilon$ (eps) how far the attack may go. In L∞ no pixel may change by more than
$\varepsilon$; in L2 the length of the whole change may not exceed it. With a chosen class, the loss of that class is
pushed down instead.
"""
