"""The attack clinic: what is wrong with an attack of one's own, clause by clause, in sentences that name the step.

It asks what `check_attack` asks, of a function that knows nothing of this project: stays inside the ball and the pixel range,
repeats, leaves no trace, bears a zero gradient, treats each image alone, beats noise, and is as strong as PGD at equal passes.
Silence means that nothing was found, not that the attack is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks.pgd import PGD
from explorer.core import Ball, Classifier, Goal, InvalidValue, run, seeded
from explorer.core.ball import Norm
from explorer.testing.contract import AHEAD, EPS, TRIES
from explorer.testing.networks import classes_of, small_case
from explorer.testing.own_attack import OwnAttack, Walked, own_attack

TOLERANCE = 1e-5  # relative to eps: rounding is no fault
SLACK = 0.02  # by which a step rescaled to eps may differ from it, where it was cut to [0,1]
WEAKER = 0.8  # of what PGD fools, less two images: below that it is said


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the clause, and a sentence."""

    clause: str
    sentence: str
    step: int | None = None


def examine(file: Path, norm: Norm = "linf", function: str | None = None) -> list[Fault]:
    """All faults of the attack in `file` under `norm`, on a small trained network. Raises InvalidValue if it cannot be run."""
    if norm not in ("linf", "l2"):
        raise InvalidValue(f"norm must be linf or l2; got {norm!r}.")
    with own_attack(file, None, function) as attack:
        return examine_attack(attack, norm)


def examine_attack(attack: OwnAttack, norm: Norm) -> list[Fault]:
    """As `examine`, of an attack that lives already, on the small network."""
    (model, x, y), eps = small_case(), EPS[norm]
    walked, again, other = (attack.walk(x, y, norm, eps, seed) for seed in (3, 3, 4))
    found = [*_inside(walked, x, norm, eps), *_range(walked)]
    found += [Fault("leaves no trace", f"{words}.") for words in walked.left]
    if not torch.equal(walked.end, again.end):
        found.append(Fault("repeats", "two runs of one seed differ: it draws from something that no seed reaches."))
    elif torch.equal(walked.end, other.end):
        found += _alone(attack, walked, x, y, norm, eps)
    found += _flat(attack, x, y, norm, eps)
    found += _strength(model, walked, x, y, norm, eps)
    found += _tests(attack, x, y, model.num_classes)
    return found


def _lengths(delta: Tensor, norm: str) -> Tensor:
    """(...,) of changes (...,C,H,W), float64."""
    flat = delta.double().flatten(-3)
    return flat.abs().amax(-1) if norm == "linf" else flat.pow(2).sum(-1).sqrt()


def _inside(walked: Walked, x: Tensor, norm: str, eps: float) -> Iterator[Fault]:
    points = torch.cat([walked.frames, walked.end[None]])
    far = _lengths(points - x, norm)  # (T+1,N)
    outside = (far > eps * (1 + TOLERANCE)).any(1)
    if not bool(outside[-1]) and not bool(outside.any()):
        return
    step = int(outside.nonzero()[0])
    where = "what it returns" if step == len(points) - 1 else f"step {step}"
    most = float(far.max()) / eps
    moves = _lengths(points[1:] - points[:-1], norm)
    moves = moves[(moves > 0).any(1)]  # what is returned is often where it asked last
    says = f"{where} leaves the ball: in the end {most:.1f} times eps"
    if norm == "l2" and len(moves) > 1 and _all_of_length(moves, eps):
        words = (
            f"{says}. Each step is rescaled to length eps, whatever the step size: project x_adv - x_original, and only where "
            "it is longer than eps."
        )
    elif len(moves) > 1 and bool((moves <= eps * (1 + TOLERANCE)).all()):
        words = (
            f"{says}. Each step alone is within eps of the image before it: it is clipped against the running image; clip "
            "against the original."
        )
    else:
        words = f"{says}. Project x_adv - x_original after each step, the last one too."
    yield Fault("stays inside the ball", words, step)


def _all_of_length(moves: Tensor, eps: float) -> bool:
    """Whether steps (T,N) are rescaled to eps: the first two are as long, and later ones, cut to [0,1], no longer."""
    first = bool(((moves[:2] / eps - 1).abs().median(1).values <= SLACK).all())
    return first and bool((moves <= eps * (1 + SLACK)).all())


def _range(walked: Walked) -> Iterator[Fault]:
    points = torch.cat([walked.frames, walked.end[None]]).flatten(1)
    if not bool(torch.isfinite(points).all()):
        yield Fault("pixel range", "pixels become NaN or infinite.", int((~torch.isfinite(points)).any(1).nonzero()[0]))
        return
    bad = (points.amin(1) < -1e-6) | (points.amax(1) > 1 + 1e-6)
    if bool(bad.any()):
        step = int(bad.nonzero()[0])
        where = "what it returns" if step == len(points) - 1 else f"step {step}"
        low, high = float(points.amin()), float(points.amax())
        yield Fault("pixel range", f"{where} leaves [0, 1]: pixels from {low:.2f} to {high:.2f}; clamp them.", step)


def _alone(attack: OwnAttack, walked: Walked, x: Tensor, y: Tensor, norm: str, eps: float) -> Iterator[Fault]:
    """One image alone ends where it does in the batch; asked of attacks that draw nothing."""
    alone = torch.cat([attack.walk(x[i : i + 1], y[i : i + 1], norm, eps, 3).end for i in range(3)])
    share = (_lengths(alone - walked.end[:3], norm) > 0.05 * eps).double().mean()
    if float(share) > 0.5:
        yield Fault(
            "treats each image alone",
            "an image ends elsewhere in another company: something is normalised, or stopped, over the whole batch.",
        )


def _flat(attack: OwnAttack, x: Tensor, y: Tensor, norm: str, eps: float) -> Iterator[Fault]:
    try:
        end = attack.walk(x[:4], y[:4], norm, eps, 3, flat=True).end
    except InvalidValue as error:
        yield Fault("bears a zero gradient", f"it fails where the gradient is zero: {error}")
        return
    if not bool(torch.isfinite(end).all()):
        yield Fault(
            "bears a zero gradient",
            "where the gradient is zero its pixels become NaN: add a small number to the norm it divides by.",
        )


def _strength(model: Classifier, walked: Walked, x: Tensor, y: Tensor, norm: Norm, eps: float) -> Iterator[Fault]:
    if walked.forwards == 0:
        yield Fault("is strong", "it never asks the model.")
        return
    end = walked.end.nan_to_num(0.5)
    far = _lengths(end - x, norm).clamp(min=1e-12)
    shrink = (eps / far).clamp(max=1).float()[:, None, None, None]
    end = (x + shrink * (end - x)).clamp(0, 1)  # what lies outside counts from the edge of the ball
    fooled = int((classes_of(model, end) != y).sum())
    ball, goal = Ball(norm, eps), Goal.untargeted(y)
    region, rng = ball.around(x), seeded(1)
    noisy = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(TRIES):
        noisy |= classes_of(model, region.apply(region.sample(rng))) != y
    steps = max(1, min(200, (walked.forwards + walked.backwards) // len(x) // 2))
    pgd = PGD(steps=steps, rel_step=max(0.125, min(1.0, 2.5 / steps)))
    usual = int((classes_of(model, run(pgd.walk(model, x, goal, ball, seeded(0)), goal).x) != y).sum())
    with torch.no_grad():
        rise = float(F.cross_entropy(model(end), y) - F.cross_entropy(model(x), y))
    if rise < -1e-3:
        yield Fault("is strong", "it goes down the loss, which makes the model surer: the sign of its step is wrong.")
    elif fooled < int(noisy.sum()) + AHEAD and usual >= int(noisy.sum()) + AHEAD:
        yield Fault(
            "beats noise", f"it fools {fooled} of {len(x)} images inside the ball, random noise {int(noisy.sum())}."
        )
    elif fooled < WEAKER * usual - 2:
        yield Fault(
            "is strong",
            f"it fools {fooled} of {len(x)} images inside the ball, PGD {usual} with as many passes ({steps} steps).",
        )


def _tests(attack: OwnAttack, x: Tensor, y: Tensor, classes: int) -> Iterator[Fault]:
    """The file's own test functions, of which it is known what they must say: a fourth is right, the last batch."""
    try:
        said = attack.tests(x, y, classes)
    except InvalidValue:
        return  # not of the usual form, and not what was asked about
    truth = said["last"] / said["all"]
    for name, value in said.get("said", {}).items():
        share = value / 100 if value > 1 else value
        if abs(share - truth) < 0.01 or abs(value / 100 - truth) < 0.01:
            continue
        if share > 0.99:
            words = f"{name} counts the last batch only: total and correct are set to 0 inside its loop"
        else:
            words = f"{name} counts wrong"
        yield Fault("counts all batches", f"{words} (it says {100 * share:.0f} % where {100 * truth:.0f} % are right).")
