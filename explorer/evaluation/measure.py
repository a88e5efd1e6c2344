"""A number with everything that must be known to believe it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

from explorer.core import InvalidValue, ThreatModel, wilson
from explorer.data import Images

Kind = Literal[
    "clean", "noisy", "white-box", "adaptive", "fixed draw", "transfer", "certified", "predict", "retrieval", "corrupted"
]  # fmt: skip
EACH = ("verdicts", "margins")  # fields that speak of each picture or batch: for programs, too long for people
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
    "certificate",
    "detector",
    "knows_detector",
)


class OfCard(Protocol):
    """A measure that a card can hold: an accuracy, or a number of another kind."""

    def to_dict(self) -> dict[str, Any]: ...


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
    eps: float | None = None  # pixel units; of a patch: the side in pixels
    restarts: int | None = None
    draws: int | None = None  # passes of a stochastic model averaged in each step of the attack
    source_model: str | None = None  # transfer: the model the images were made on
    variant: str | None = None  # of the model that the attack got in its place, or which images these were
    sigma: float | None = None  # noisy, certified: standard deviation of the Gaussian noise, pixel units
    n0: int | None = None  # certified: draws that select the class; `draws` of them then estimate
    alpha: float | None = None  # certified: how often one certificate may fail
    certificate: str | None = None  # certified: the kind, of explorer.certify.certifiers; None: Gaussian smoothing
    zero_gradient_share: float | None = None  # of all gradients, those exactly zero or not finite: a sign of masking
    median_distance: float | None = None  # smallest-change attacks: of the images classified right; None if most held
    eps_share: float | None = None  # eps as a share of another model's, the eps of reference
    accuracy_8bit: float | None = None  # fixed-eps attacks: when every attacked image is first rounded to 8 bits
    average_radius: dict[str, float] | None = None  # certified: "value", "low", "high"; 0 where not certified right
    abstained: int | None = None  # certified: images
    outcomes: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # predict: what became of the images; corrupted: the table
    note: str = ""
    verdicts: str = ""  # of each image, in their order: right (and still so), as `packed` writes them
    margins: list[float] = field(default_factory=list)  # of each batch: the highest margins that the attack saw, summed
    rows: str = ""  # sha256 of the images and labels (`rows_hash`)
    code: str = ""  # versions and hash of the code that measured

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a card stores them."""
        return asdict(self)


def count(correct: int, n: int) -> dict[str, Any]:
    """The fields that follow from the count."""
    low, high = wilson(correct, n)
    return {"n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high}


def packed(each: Sequence[bool]) -> str:
    """One bit an image as hexadecimal digits, the first image's the highest of the first digit."""
    bits = "".join("1" if one else "0" for one in each) + "0" * (-len(each) % 4)
    return "".join(f"{int(bits[i : i + 4], 2):x}" for i in range(0, len(bits), 4))


def unpacked(text: str, n: int) -> list[bool]:
    """What `packed` wrote of n images. Raises InvalidValue for anything else."""
    if len(text) != math.ceil(n / 4) or not set(text) <= set("0123456789abcdef"):
        raise InvalidValue(
            f"the verdicts of {n:,} images must be {math.ceil(n / 4):,} hexadecimal digits; got {len(text):,}."
        )
    bits = "".join(f"{int(digit, 16):04b}" for digit in text)
    return [bit == "1" for bit in bits[:n]]


def rows_hash(images: Images) -> str:
    """sha256 of which images were measured: their pixels as float32, and their labels."""
    pixels = np.ascontiguousarray(images.x.detach().cpu().float().numpy())
    return hashlib.sha256(f"{pixels.shape} {images.y.tolist()} ".encode() + pixels.tobytes()).hexdigest()


def single_eps(threat: ThreatModel) -> float:
    """The threat model's eps; raises InvalidValue where each image has its own."""
    if isinstance(threat.eps, Tensor):
        raise InvalidValue("a measure has one eps for all images; got a tensor with one for each.")
    return threat.eps


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
