"""Results of randomized smoothing (arXiv:1902.02918): a Certificate of CERTIFY, a Prediction of PREDICT; values, no tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from explorer.certify.bounds import certified_radius, lower_bound
from explorer.certify.params import Precision
from explorer.certify.sound import SLACK
from explorer.core import InvalidValue


@dataclass(frozen=True)
class Certificate:
    """What CERTIFY found about one image, and everything needed to repeat it on the same device."""

    label: int | None  # None: abstained, or skipped
    radius: float  # L2, in pixel units; 0 without a label
    p_lower: float  # one-sided lower bound on P(f(x + noise) = selected); 0 when skipped
    selected: int  # the class that the selection draws chose
    selection: tuple[int, ...]  # (K,) votes of the n0 selection draws
    estimation: tuple[int, ...]  # (K,) votes of the n estimation draws; all 0 when skipped
    invalid: int  # draws, of both kinds, that voted for no class: logits not finite, or void noise (`sound`)
    sigma: float
    n0: int
    n: int
    alpha: float
    seed: int
    precision: Precision
    skipped: bool = False  # the selected class was not the true one, so nothing was estimated
    sound: bool = False  # in floating point: ordinary float32 noise is not (arXiv:2205.10159)

    @property
    def abstained(self) -> bool:
        return self.label is None and not self.skipped

    @property
    def caveat(self) -> str:
        return "" if self.sound else "not sound in floating point"

    def radius_text(self, digits: int = 3) -> str:
        """The radius rounded down: a proven radius may be understated, never overstated."""
        return str(Decimal(self.radius).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR))

    @classmethod
    def from_votes(
        cls, selection: tuple[int, ...], estimation: tuple[int, ...], invalid: int, *, skipped: bool, **conditions: Any
    ) -> Certificate:
        """The certificate that follows from the votes (K,) of both kinds; `conditions` are its other fields."""
        selected = argmax(selection)
        p_lower = 0.0 if skipped else lower_bound(estimation[selected], conditions["n"], conditions["alpha"])
        if conditions["sound"]:
            p_lower = max(0.0, p_lower - SLACK)
        radius = certified_radius(p_lower, conditions["sigma"])
        return cls(
            label=None if radius is None else selected,
            radius=radius or 0.0,
            p_lower=p_lower,
            selected=selected,
            selection=selection,
            estimation=estimation,
            invalid=invalid,
            skipped=skipped,
            **conditions,
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Certificate:
        """What `dataclasses.asdict` made, perhaps by way of JSON. Raises InvalidValue unless the votes bear it out."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise InvalidValue(f"a certificate must have the fields {', '.join(sorted(names))}.")
        found = cls(**values | {kind: tuple(values[kind]) for kind in ("selection", "estimation")})
        due = cls.from_votes(found.selection, found.estimation, found.invalid, **found.conditions)
        numbers = ((found.p_lower, due.p_lower), (found.radius, due.radius))  # another scipy may round otherwise
        same = replace(found, p_lower=due.p_lower, radius=due.radius) == due
        if not same or not all(math.isclose(mine, theirs, rel_tol=1e-9) for mine, theirs in numbers):
            raise InvalidValue("the certificate does not follow from its votes.")
        return found

    @property
    def conditions(self) -> dict[str, Any]:
        """What was asked for: everything but the votes and what follows from them."""
        names = ("sigma", "n0", "n", "alpha", "seed", "precision", "skipped", "sound")
        return {name: getattr(self, name) for name in names}

    def answers(self, asked: dict[str, Any], true_label: int | None) -> bool:
        """Whether CERTIFY asked for this could have given it: sigma, n0, n, alpha, seed, precision and sound are the same."""
        skipped = true_label is not None and self.selected != true_label
        return self.conditions == asked | {"skipped": skipped}


@dataclass(frozen=True)
class CertifyProgress:
    """The votes so far, of a certificate that is being made."""

    done: int  # draws of both kinds
    total: int
    selection: tuple[int, ...]  # (K,) votes
    selected: int | None  # once all selection draws have voted
    estimation: tuple[int, ...]  # (K,) votes
    n_drawn: int  # estimation draws so far
    invalid: int
    p_lower: float  # the largest anytime-valid bound so far: P(it is ever too large) <= alpha
    radius: float | None  # from it; None: nothing yet
    certificate: Certificate | None = None  # in the last one; from all n draws and the bound for a fixed n

    @property
    def votes(self) -> int:
        """Estimation votes for the selected class; 0 before there is one."""
        return 0 if self.selected is None else self.estimation[self.selected]


@dataclass(frozen=True)
class Prediction:
    """What PREDICT found about one image."""

    label: int | None  # None: abstained
    p_value: float  # of the two-sided test that the top two classes are equally likely
    counts: tuple[int, ...]  # (K,) votes
    invalid: int  # draws whose logits were not finite
    sigma: float
    n: int
    alpha: float
    seed: int
    precision: Precision
    sound: bool = False

    @property
    def abstained(self) -> bool:
        return self.label is None


@dataclass(frozen=True)
class TopClass:
    """The class that the smoothed classifier gives one image, as well as many draws can tell."""

    label: int  # most voted for; the first of equals
    p_value: float  # that it and the runner-up are equally likely
    counts: tuple[int, ...]  # (K,) votes
    n_drawn: int
    seed: int


def argmax(votes: Sequence[int]) -> int:
    """The class of most votes, the first of equals."""
    return max(range(len(votes)), key=votes.__getitem__)


def alarm(certificate: Certificate, distance: float, prediction: Prediction) -> str | None:
    """One sentence if a picture at this L2 distance disproves the certificate; None if it does not.

    It does if PREDICT gives it another class although it lies within the certified radius. An abstention is no other class.
    """
    other = prediction.label
    if certificate.label is None or other is None or other == certificate.label or distance >= certificate.radius:
        return None
    return (
        f"An attack at L2 distance {distance:.4f} is predicted as class {other}, inside the radius {certificate.radius_text(4)} "
        f"certified for class {certificate.label}. A certificate fails with probability {certificate.alpha:g} and a prediction "
        f"with {prediction.alpha:g}: unless this is such a case, one of them is wrong."
    )
