"""Attacks of the class against its networks, as a matrix below the board: robust accuracy with n, and which networks have red flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from explorer.engine.adding import check_pages
from explorer.engine.tables import Table
from explorer.evaluation.tournament import TOGETHER, Matrix, matrix
from explorer.plots.tournament import attacks_by_networks
from explorer.ui import permission
from explorer.ui.components.figures import chart, dark
from explorer.ui.components.save import save_place
from explorer.ui.text.certified import table as as_table

FILES, CHECKS, FIGURE = "tournament.attacks", "tournament.checks", "tournament.matrix"
CHECKED = 40  # pictures of the checks that the form offers


def form() -> None:
    """The class's attack files, and whether the networks are asked if they are real."""
    left, right = st.columns([3, 1.4], vertical_alignment="top")
    with left:
        if permission.may_run_code(FILES):
            st.file_uploader(
                "Attacks of the class", type=["py"], accept_multiple_files=True, key=FILES, max_upload_size=1,
                help="Python files with attack(model, x, y, eps), as on the Attack page. Each is run confined, on a copy of every entry.",
            )  # fmt: skip
    right.number_input(
        "Pictures of the masking checks", 0, 500, CHECKED, step=10, key=CHECKS,
        help="Every entry is asked whether it only hides its gradients (Lab: Is it real?). 0: it is not asked.",
    )  # fmt: skip


def asked() -> dict[str, Any]:
    """What the form says, as the run's settings name it; from a button. Raises Refused and InvalidValue."""
    uploads = st.session_state.get(FILES) or []
    if uploads:
        check_pages()
        permission.check("run attack", ", ".join(Path(one.name).name[:60] for one in uploads)[:200])
    attacks = [
        {"name": Path(one.name).stem[:60], "source": one.getvalue().decode("utf-8", "replace")} for one in uploads
    ]
    return {"attacks": attacks, "checks": st.session_state[CHECKS]}


def show(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], key: str, going: bool) -> None:
    """The matrix as far as it is measured; nothing where the run asks neither attacks nor checks."""
    if not (settings.get("attacks") or settings.get("checks")):
        return
    found = matrix(rows)
    if not found.models:
        return
    st.subheader("Attacks against networks", anchor=False)
    names = {model: model.partition("/")[2] for model in found.models}
    flagged = [names[model] for model, (_, raised) in found.flags.items() if raised and model in names]
    figure = attacks_by_networks(
        found.attacks, list(names.values()), _accuracy(found), _hover(found, names), flagged, dark=dark()
    )
    chart(figure, FIGURE)
    st.html(as_table(_lines(found, names)))
    n = sorted({share.n for share in found.shares.values()})
    about = (
        f"Robust accuracy in %, with 95 % intervals (Wilson), of n = {', '.join(map(str, n))} pictures, L∞ 8/255: right untouched and "
        f"still right. A picture that an attack puts outside of the ball or of [0, 1] fools nobody. “{TOGETHER}” counts pictures that "
        "stay right under every line above it. A red frame: at least one check for gradient masking raised a flag, so that an attack "
        "that fails there says little; no frame does not show that a network is robust."
    )
    st.caption(about)
    for attack, why in dict.fromkeys((attack, why) for (attack, _), why in found.refused.items()):
        on = [names[model] for (one, model), said in found.refused.items() if (one, said) == (attack, why)]
        st.warning(f"{attack} on {', '.join(on)}: {why}", icon=":material/block:")
    for model, (asked_, raised) in found.flags.items():
        if raised:
            st.markdown(
                f":red[:material/flag:] **{names.get(model, model)}**: {len(raised)} of {asked_} checks: {'; '.join(raised)}."
            )
    if not going:
        save_place(f"tournament-matrix-{key}", about=about, table=_table(found, settings), figures={FIGURE: "Attacks against networks"},
                   key="tournament.matrix.save")  # fmt: skip


def _accuracy(found: Matrix) -> np.ndarray:
    """(A,D)."""
    shares = [[found.shares.get((attack, model)) for model in found.models] for attack in found.attacks]
    return np.array([[np.nan if one is None else one.right / one.n for one in row] for row in shares])


def _hover(found: Matrix, names: Mapping[str, str]) -> list[list[str]]:
    return [
        [f"{attack} on {names[model]}: {_cell(found, attack, model)}" for model in found.models]
        for attack in found.attacks
    ]


def _cell(found: Matrix, attack: str, model: str) -> str:
    share = found.shares.get((attack, model))
    if share is None:
        return "refused" if (attack, model) in found.refused else "–"
    low, high = share.interval
    out = found.outside.get((attack, model))
    left = f"; {out} outside" if out else ""
    return f"{100 * share.right / share.n:.1f} [{100 * low:.1f} to {100 * high:.1f}, n {share.n}{left}]"


def _lines(found: Matrix, names: Mapping[str, str]) -> list[list[str]]:
    lines = [["Attack", *names.values()]]
    lines += [[attack, *(_cell(found, attack, model) for model in found.models)] for attack in found.attacks]
    flags = [found.flags.get(model) for model in found.models]
    if any(flag is not None for flag in flags):
        lines.append(
            ["Flags of gradient masking", *("–" if one is None else f"{len(one[1])} of {one[0]}" for one in flags)]
        )
    return lines


def _table(found: Matrix, settings: Mapping[str, Any]) -> Table:
    rows = tuple(
        {"attack": attack, "model": model, "right": share.right, "n": share.n, "low": share.interval[0], "high": share.interval[1],
         "outside": found.outside.get((attack, model), 0)}
        for (attack, model), share in found.shares.items()
    )  # fmt: skip
    flags = {model: {"asked": asked_, "raised": list(raised)} for model, (asked_, raised) in found.flags.items()}
    refused = [{"attack": attack, "model": model, "why": why} for (attack, model), why in found.refused.items()]
    return Table(rows, {"settings": dict(settings), "flags": flags, "refused": refused})
