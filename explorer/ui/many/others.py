"""One change put on pictures it was not made for, beside noise and the change shuffled."""

from __future__ import annotations

import streamlit as st

from explorer.data.pictures import amplified
from explorer.engine import Future
from explorer.engine.batch_result import BatchResult
from explorer.engine.transfer import MAX_OTHERS, PerturbationTransfer, transfer_work
from explorer.plots import many as plots
from explorer.ui.components.conditions import as_json, bullets
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.pictures import large, to_url
from explorer.ui.components.strip import Card, strip
from explorer.ui.inputs.choices import sample
from explorer.ui.notices import noticed
from explorer.ui.page_run import Task, say_how_it_stands
from explorer.ui.session import engine
from explorer.ui.text import batch as words

POLL = 0.8  # seconds between two looks
EXAMPLES = 12  # others that are shown
TRANSFER: Task[PerturbationTransfer] = Task("many.applied")


def show(now: BatchResult, picked: int | None) -> None:
    """The offer, or what it came to; one change for all is put on others unasked. `picked`: the row shown in large."""
    st.header("The same change on other pictures", anchor=False)
    if now.shared is not None:
        st.markdown(
            "This attack made **one change for all** pictures of the strip. Does it fool the model on pictures it has not seen?"
        )
        if TRANSFER.future is None:
            _apply(now, None, MAX_OTHERS)  # it is what this attack is about
    else:
        _apply_row(now, picked)
    if TRANSFER.future is not None:
        TRANSFER.look(_applied, now, TRANSFER.future, every=POLL, name="many.others")


def _apply_row(now: BatchResult, picked: int | None) -> None:
    state = st.session_state
    changed = [int(row) for row, right, d in zip(now.rows, now.right, now.distance, strict=True) if right and d > 0]
    if not changed:
        st.caption("No picture was changed.")
        return
    st.markdown("A change is made for one picture. How much of it works on pictures it was not made for?")
    columns = st.columns([3, 2, 2, 3], vertical_alignment="bottom")
    labels = dict(zip(now.rows.tolist(), now.labels.tolist(), strict=True))
    if picked in changed and state.get("many.offered") != picked:
        state["many.given"] = state["many.offered"] = picked
    if state.get("many.given") not in changed:
        fooled = [row for row in changed if now.fooled[now.rows == row][0]]
        state["many.given"] = (fooled or changed)[0]
    columns[0].selectbox(
        "Take the change of",
        changed,
        key="many.given",
        format_func=lambda row: f"{now.request.classes[labels[row]]}, picture {row}",
    )
    state.setdefault("many.n", 100)
    columns[1].number_input("and put it on (pictures)", 1, MAX_OTHERS, key="many.n", persist_state="session")
    if columns[2].button("Put it on others", icon=":material/content_copy:", width="stretch", key="many.apply"):
        _apply(now, state["many.given"], state["many.n"])
        st.rerun()


def _apply(now: BatchResult, given: int | None, n: int) -> None:
    with noticed():
        TRANSFER.submit(transfer_work(engine(), now, given, n, seed=now.request.seed % 2**31))


def _applied(now: BatchResult, future: Future[PerturbationTransfer], polling: bool) -> None:
    if not future.finished:
        st.button("Cancel", icon=":material/stop_circle:", on_click=future.cancel, key="many.stop")
    if future.latest is not None:
        _carried(now, future.latest)
    say_how_it_stands(future, polling)


def _carried(now: BatchResult, made: PerturbationTransfer) -> None:
    st.markdown(words.applied_headline(made))
    change, factor = amplified(made.change)
    left, right = st.columns([1, 3], gap="large")
    whose = "made on all of them" if made.given is None else f"made on picture {made.given}"
    large(left, change, f"the change, × {factor:g} around grey, {whose}")
    with right:
        rows = [("others", made.fooling_rate("change")), ("others, noise of the same size", made.fooling_rate("noise")),
                ("others, the change shuffled", made.fooling_rate("shuffled"))]  # fmt: skip
        if made.given is None:
            rows.insert(0, ("those it was made on", now.fooling_rate))
        known = [(name, tally, tally.interval) for name, tally in rows if tally.interval is not None]
        if known:
            figure = plots.carried(
                [name for name, _, _ in known],
                [(tally.fooled, tally.right) for _, tally, _ in known],
                [interval for _, _, interval in known],
                own=2 if made.given is None else 1,
                dark=dark(),
            )
            chart(figure, "many.carried")
    _examples(now, made)
    if made.finished:
        bullets(words.applied_details(made))
        with st.expander("All conditions of this"):
            as_json(dict(made.conditions))


def _examples(now: BatchResult, made: PerturbationTransfer) -> None:
    classes, originals = now.request.classes, sample(now.request.dataset).x
    cards = []
    for at in range(min(EXAMPLES, len(made.rows))):
        state = "wrong" if not made.right[at] else "fooled" if made.fooled["change"][at] else "holds"
        word = {"wrong": "wrong before", "fooled": "fooled", "holds": "holds"}[state]
        row, true = int(made.rows[at]), classes[made.labels[at]]
        lines = (true, f"→ {classes[made.after['change'][at]]}")
        pictures = ((to_url(originals[row].numpy()), "original"), (to_url(made.images[at]), "with the change"))
        cards.append(Card(row, f"{true}, picture {row}: {word}", state, word, pictures, lines))
    strip(cards, None, key="many.examples", label="Other pictures with the change")
