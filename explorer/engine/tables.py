"""Tables to take home, one row a picture or a lane: CSV for pandas and spreadsheets, JSON with all conditions.

Numbers are not rounded. A column's name ends in its unit; `pixel_units` are those of eps (8/255 is 0.0314). What is not
known or does not apply is an empty cell. An accuracy, a probability and a share lie in [0, 1].
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from explorer.certify.certifier import CertifiedRadius
from explorer.core import InvalidValue
from explorer.data import dataset
from explorer.engine.batch_result import BatchResult
from explorer.engine.certifying_set import CertifiedSet
from explorer.engine.compare import Comparison, ModelLane
from explorer.engine.labels import true_labels
from explorer.engine.proving import ProvenPictures
from explorer.evaluation.outcome import Ending, endings
from explorer.evaluation.verdict import Verdict

Row = dict[str, Any]  # plain values; None: not known, or does not apply


@dataclass(frozen=True)
class Table:
    """Rows of equal columns, as `st.dataframe` and pandas take them, and the conditions under which they hold."""

    rows: tuple[Row, ...]
    conditions: Mapping[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.rows[0]) if self.rows else ()

    def to_csv(self) -> str:
        """One line of names, then the rows (RFC 4180); True and False in words, floats in full."""
        memory = io.StringIO(newline="")
        writer = csv.DictWriter(memory, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        return memory.getvalue()

    def to_json(self) -> str:
        """The conditions, and the rows once more."""
        whole = {"conditions": dict(self.conditions), "columns": self.columns, "rows": self.rows}
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def of_batch(result: BatchResult) -> Table:
    """Many pictures: one row each. Raises InvalidValue if the attack has not ended."""
    if not result.finished:
        raise InvalidValue("The attack has not ended yet, so there are no verdicts to save.")
    classes, words = result.request.classes, _batch_endings(result)
    attacked = np.flatnonzero(result.right)
    at = {int(k): i for i, k in enumerate(attacked)}  # where a picture stands in the verdict
    rows = []
    for k, word in enumerate(words):
        verdict, i = (None, 0) if result.verdict is None or k not in at else (result.verdict, at[k])
        row: Row = {
            "image": int(result.rows[k]),
            "label": classes[result.labels[k]],
            "answer_before": classes[result.before.predicted[k]],
            "probability_before": float(result.before.sure[k]),
            "margin_before_logits": float(result.before.margin[k]),
            "answer": classes[result.after.predicted[k]],
            "probability": float(result.after.sure[k]),
            "margin_logits": float(result.after.margin[k]),
            "verdict": word.value,
            **_judged(verdict, i),
        }
        if result.request.is_minimal:
            found = word is Ending.FOOLED
            row[f"smallest_change_{result.request.norm}_pixel_units"] = float(result.distance[k]) if found else None
        rows.append(row | {"seed": result.request.seed})
    return Table(tuple(rows), result.conditions)


def _batch_endings(result: BatchResult) -> list[Ending]:
    """By the verdict on the attacked pictures; the others were wrong before."""
    words = [Ending.WRONG_BEFORE] * len(result.rows)
    attacked = np.flatnonzero(result.right)
    if result.verdict is not None:
        labels, target = torch.from_numpy(result.labels[attacked]), result.request.target
        also = true_labels(result.request.dataset, result.rows[attacked].tolist())
        judged = endings(result.verdict, labels, target, torch.zeros(len(attacked), dtype=torch.bool), also)
        for k, word in zip(attacked, judged, strict=True):
            words[k] = word
    return words


def _judged(verdict: Verdict | None, i: int) -> Row:
    """A verdict's columns for its image i; empty for a picture that nobody attacked."""
    if verdict is None:
        names = ("reached", "reached_8bit", "inside", "linf_pixel_units", "l2_pixel_units", "reached_share_of_draws")
        return {**dict.fromkeys(names), "draws": None}
    return {
        "reached": bool(verdict.reached[i]),
        "reached_8bit": bool(verdict.reached_8bit[i]),
        "inside": bool(verdict.inside[i]),
        "linf_pixel_units": float(verdict.linf[i]),
        "l2_pixel_units": float(verdict.l2[i]),
        "reached_share_of_draws": float(verdict.share[i]),
        "draws": verdict.draws,
    }


def of_comparison(comparison: Comparison) -> Table:
    """Compare: one row a lane. Raises InvalidValue if not all walks have ended."""
    rows = tuple(_lane(lane) for lane in comparison.lanes)
    return Table(rows, {"lanes": [lane.result.conditions for lane in comparison.lanes]})


def _lane(lane: ModelLane) -> Row:
    request, trace, result = lane.request, lane.snapshot.trace, lane.result
    about, answer = result.conditions, int(result.verdict.predicted[0])
    return {
        "model": request.model,
        "attack": request.attack,
        "made_on": lane.source or request.model,
        "norm": request.norm,
        "eps_pixel_units": about["eps"],
        "image": request.image,
        "label": trace.classes[trace.label],
        "target": None if trace.target is None else trace.classes[trace.target],
        "answer_before": trace.classes[int(trace.predicted[0])],
        "answer": trace.classes[answer],
        "probability": float(trace.probabilities[result.best, answer]),
        "verdict": result.ending.value,
        **_judged(result.verdict, 0),
        "first_fooled_frame": trace.first_reached,
        "best_frame": result.best,
        "forwards": about["forwards"],
        "backwards": about["backwards"],
        "seconds": about["seconds"],
        "seed": request.seed,
    }


def of_certified(found: CertifiedSet) -> Table:
    """Certify's set: one row for each picture that has its certificate by now, with the votes for the chosen class."""
    classes = dataset(found.request.dataset).classes
    rows = []
    for k, c in enumerate(found.certificates):
        label = int(found.labels[k])
        right = c.label is not None and c.label == label
        rows.append(
            {
                "image": int(found.rows[k]),
                "label": classes[label],
                "answer_without_noise": classes[int(found.clean[k])],
                "answer": classes[c.selected],
                "verdict": "certified" if right else "abstained" if c.selected == label else "wrong",
                "certified_radius_l2_pixel_units": c.radius if right else None,
                "lower_bound_on_share": None if c.skipped else c.p_lower,
                "votes": None if c.skipped else c.estimation[c.selected],
                "draws": c.n,
                "selection_votes": c.selection[c.selected],
                "selection_draws": c.n0,
                "sigma_pixel_units": c.sigma,
                "alpha": c.alpha,
                "seed": c.seed,
            }
        )
    return Table(tuple(rows), dict(found.conditions) or {"title": found.request.title(), "finished": False})


def of_proven(found: ProvenPictures) -> Table:
    """Certify's table of radii: one row a picture; a radius counts only where the answer is right."""
    classes = dataset(found.request.dataset).classes
    rows = []
    for k, image in enumerate(found.rows.tolist()):
        label, answer = int(found.labels[k]), int(found.answers[k])
        row: Row = {
            "image": image, "label": classes[label], "answer": classes[answer], "verdict": "", "lead_logits": float(found.runner_up[k])
        }  # fmt: skip
        proofs = {key: cells[k] for key, cells in found.radii.items() if k < len(cells)}
        for key in found.radii:
            one = proofs.get(key)
            row[f"radius_{key}"] = (
                None if one is None or one.label != label or not np.isfinite(one.radius) else one.radius
            )
        for norm, cells in found.nearest.items():
            near = cells[k] if k < len(cells) else None
            row[f"attack_{norm}"] = None if near is None else near.distance
            sure = [one.radius for one in proofs.values() if one.norm == norm and one.confidence == 1]
            row[f"gap_{norm}"] = None if near is None or not sure else near.distance - max(sure)
        drawn = [one for one in proofs.values() if "votes" in one.detail]
        row["votes"] = max(drawn[0].detail["votes"]) if drawn else None
        row["seed"] = next((one.detail["seed"] for one in proofs.values() if "seed" in one.detail), None)
        row["verdict"] = _proven_verdict([*proofs.values()], label, answer)
        rows.append(row)
    return Table(tuple(rows), dict(found.conditions) or {"title": found.request.title(), "finished": False})


def _proven_verdict(proofs: Sequence[CertifiedRadius], label: int, answer: int) -> str:
    if any(one.label == label and one.radius > 0 for one in proofs):
        return "certified"
    if proofs and all(one.abstained for one in proofs):
        return "abstained"
    return "not proven" if label == answer else "wrong"
