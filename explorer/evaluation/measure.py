"""A number with everything that must be known to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from explorer.core import wilson

Kind = Literal["clean", "noisy", "white-box", "adaptive", "fixed draw", "transfer", "certified", "predict"]
CONDITIONS = (
    "kind",
    "attack",
    "hyper",
    "norm",
    "eps",
    "sigma",
    "source_model",
    "variant",
    "verdict_draws",
    "n0",
    "draws",
    "alpha",
    "detector",
    "knows_detector",
)


@dataclass(frozen=True)
class Measure:
    """An accuracy: the share of n images that are classified right (and, under an attack, stay right).

    low and high: 95 % Wilson interval; it covers the choice of the images (and a stochastic model's verdict draws),
    not what a stronger attack would find.
    """

    kind: Kind
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    seed: int  # of every draw: noise, random starts, stochastic models
    batch: int  # images at once; a seed repeats a measure only with the same batch
    data: str  # which images there were
    chosen: str  # how these were chosen
    precision: str
    device: str
    seconds: float
    verdict_draws: int  # passes that decide about one image
    attack: str | None = None
    hyper: dict[str, Any] = field(default_factory=dict)
    norm: str | None = None
    eps: float | None = None  # pixel units
    restarts: int | None = None
    draws: int | None = None  # passes of a stochastic model averaged in each step of the attack
    source_model: str | None = None  # transfer: the model the images were made on
    variant: str | None = None  # of the model that the attack got in its place, or which images these were
    sigma: float | None = None  # noisy, certified: standard deviation of the Gaussian noise, pixel units
    n0: int | None = None  # certified: draws that select the class; `draws` of them then estimate
    alpha: float | None = None  # certified: how often one certificate may fail
    zero_gradient_share: float | None = None  # of all gradients, those exactly zero or not finite: a sign of masking
    median_distance: float | None = None  # smallest-change attacks: of the images classified right; None if most held
    eps_share: float | None = None  # eps as a share of another model's, the eps of reference
    accuracy_8bit: float | None = None  # fixed-eps attacks: when every attacked image is first rounded to 8 bits
    average_radius: dict[str, float] | None = None  # certified: "value", "low", "high"; 0 where not certified right
    abstained: int | None = None  # certified: images
    outcomes: dict[str, dict[str, float]] = field(default_factory=dict)  # predict: what became of the images
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a card stores them."""
        return asdict(self)


def count(correct: int, n: int) -> dict[str, Any]:
    """The fields that follow from the count."""
    low, high = wilson(correct, n)
    return {"n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high}


def same_conditions(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether two measures (as a card stores them) ask the same question, so that the newer replaces the older.

    Number and choice of the images, seed, batch, precision and device may differ; and eps, where both ask at the same share
    of the eps of reference.
    """
    share = a.get("eps_share")
    asked = [key for key in CONDITIONS if key != "eps" or share is None]
    return share == b.get("eps_share") and all(a.get(key) == b.get(key) for key in asked)


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The old measures, each replaced in its place by a new one under the same conditions; the others at the end."""
    kept = [next((n for n in new if same_conditions(o, n)), o) for o in old]
    return kept + [n for n in new if not any(same_conditions(o, n) for o in old)]
