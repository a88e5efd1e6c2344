"""Gradient masking (obfuscated gradients) of any model: checks that contradict "my attack failed, so the model is robust".

After Carlini et al. (arXiv:1902.06705, section 5), Athalye, Carlini and Wagner (arXiv:1802.00420, section 3.1) and Pintor et al.
(arXiv:2106.09947, indicators of attack failure). Each check raises its flag or does not; a raised one names the picture that
shows it. That none is raised does not show that a model withstands attacks: it may hide its gradients in another way.

Pictures that the model has wrong anyway are left out. Where two attacks are compared on the same pictures, a flag needs that the
one that should be weaker wins on significantly more of them (one-sided exact McNemar test, LEVEL).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import degenerate
from explorer.core import Ball, Classifier, Goal, seeded, use_generator
from explorer.core.ball import EPS_LIMIT
from explorer.core.rng import derived_seed
from explorer.core.statistics import mcnemar
from explorer.data import Images
from explorer.evaluation.batch_attack import BatchAttack, ShouldStop, stop_if_asked
from explorer.evaluation.robustness import counted, right_of_batch

LEVEL = 0.01
MANY = 0.1  # share of the pictures from which on what should never happen is a flag
BLIND = 0.2  # share of a picture's pixels without any slope: a median filter has a third, a convolution next to none
WRONG_SLOPE = 0.5  # how far a slope may lie from finite differences, as a share
PROBE = 0.05  # length of a finite difference, L2, pixel units
FACTORS = (0.5, 1.0, 2.0, 4.0)  # of eps, along which the loss must rise
PRECISE = 0.9  # least cosine of the gradients in float32 and float64
STREAM = 21  # of randomness
SQUARE, NOISE, AVERAGED = 300, 100, 8  # queries, tries, draws
PGD: dict[str, Any] = {"steps": 20, "rel_step": 0.125}


@dataclass(frozen=True)
class Raised:
    """What one check found."""

    raised: bool | None  # None: it could not be asked
    said: str  # one sentence with its numbers
    n: int = 0  # pictures looked at
    picture: int | None = None  # which of the images shows it
    attack: str = ""  # key of the attack that shows it on that picture
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """One question to a model under test."""

    key: str
    title: str
    paper: str
    ask: Callable[[Bench], Raised]


class Bench:
    """A model, pictures that it has right, and what several checks need of them, computed once."""

    def __init__(
        self, model: Classifier, images: Images, ball: Ball, *, seed: int = 0, twin: Classifier | None = None,
        should_stop: ShouldStop | None = None,
    ):  # fmt: skip
        """`twin`: another model of the same classes, to make transferred images on; never the model itself."""
        self.model, self.ball, self.seed, self.twin, self.should_stop = model, ball, seed, twin, should_stop
        x, y = images.x.to(model.device), images.y.to(model.device)
        y = counted(model, x, y, images.top)
        right = torch.tensor(right_of_batch(model, x, y, self.rng(0)), dtype=torch.bool)
        self.places = right.nonzero()[:, 0].tolist()  # of these pictures among the images
        self.x, self.y = x[right], y[right]

    def __len__(self) -> int:
        return len(self.places)

    def rng(self, stream: int) -> torch.Generator:
        return seeded(derived_seed(self.seed, STREAM, stream))

    def fooled(
        self, key: str, hyper: dict[str, Any], source: Classifier | None = None, ball: Ball | None = None
    ) -> Tensor:
        """(n,) bool: whether this attack fools the model, by fresh draws of a stochastic one."""
        attack = ATTACKS[key].from_dict(hyper)
        made = BatchAttack(
            self.model, source or self.model, attack, ball or self.ball, "float32", self.should_stop, self.rng(1)
        )
        return ~torch.tensor(made.one_batch(self.x, self.y).each, dtype=torch.bool)

    def logits(self, model: Classifier, x: Tensor, stream: int = 2) -> Tensor:
        """(n,K); equal streams are equal draws."""
        with use_generator(self.rng(stream)):
            return model(x)

    def slope(self, model: Classifier, x: Tensor, loss: str = "ce") -> Tensor:
        """(n,C,H,W) gradient as any script would compute it: of the cross-entropy, by autograd, in the model's precision."""
        stop_if_asked(self.should_stop)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            logits = self.logits(model, leaf)
            goal = Goal.untargeted(self.y)
            value = goal.margin(logits) if loss == "margin" else F.cross_entropy(logits, self.y, reduction="none")
            (found,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
        return torch.zeros_like(x) if found is None else found

    @cached_property
    def white(self) -> Tensor:
        """(n,) bool: fooled by PGD-20 with one draw a step, as most evaluations attack."""
        return self.fooled("pgd", PGD)

    @cached_property
    def gradient(self) -> Tensor:
        return self.slope(self.model, self.x)

    @cached_property
    def draws(self) -> float:
        """The largest difference of any logit between two passes with other draws."""
        with torch.no_grad():
            return float((self.logits(self.model, self.x, 3) - self.logits(self.model, self.x, 4)).abs().max())

    @cached_property
    def losses(self) -> Tensor:
        """(factors+1,n): the margin loss without attack, and the highest that PGD finds at each of FACTORS of eps."""
        goal, found = Goal.untargeted(self.y), []
        with torch.no_grad():
            found.append(goal.margin(self.logits(self.model, self.x)))
        for factor in FACTORS:
            eps = min(factor * float(self.ball.eps), EPS_LIMIT[self.ball.norm])
            best = found[0]
            attack = ATTACKS["pgd"].from_dict(PGD | {"loss": "margin", "random_start": False})
            for step in attack.walk(self.model, self.x, goal, Ball(self.ball.norm, eps), self.rng(5)):
                stop_if_asked(self.should_stop)
                best = torch.maximum(best, step.loss)
            found.append(best)
        return torch.stack(found)

    def first(self, shows: Tensor) -> int | None:
        """Place of the first picture at which `shows` (n,) is true."""
        rows = shows.nonzero()[:, 0].tolist()
        return self.places[rows[0]] if rows else None


def _share(bench: Bench, shows: Tensor, what: str, limit: float = MANY, attack: str = "pgd") -> Raised:
    """Raised where more than `limit` of the pictures show it."""
    k, n = int(shows.sum()), len(bench)
    return Raised(k / n > limit, f"{k} of {n} pictures {what}.", n, bench.first(shows), attack, {"pictures": k})


def _wins(bench: Bench, weak: Tensor, strong: Tensor, names: tuple[str, str], attack: str) -> Raised:
    """Raised where what should be weaker fools the model on more pictures, by more than chance."""
    weak, strong = weak.cpu(), strong.cpu()
    only, other = int((weak & ~strong).sum()), int((strong & ~weak).sum())
    p = mcnemar(only, other) / 2 if only > other else 1.0
    said = (
        f"{names[0]} alone fools {only} of {len(bench)} pictures, {names[1]} alone {other} "
        f"(in all {int(weak.sum())} and {int(strong.sum())}; one-sided p = {p:.2g})."
    )
    facts = {
        "weaker": int(weak.sum()),
        "stronger": int(strong.sum()),
        "only weaker": only,
        "only stronger": other,
        "p": p,
    }
    return Raised(p < LEVEL, said, len(bench), bench.first(weak & ~strong), attack, facts)


def _zero(bench: Bench) -> Raised:
    return _share(bench, degenerate(bench.gradient).cpu(), "have a gradient of zero, or one that is no number")


def _blind(bench: Bench) -> Raised:
    grad = bench.gradient
    usable = ~degenerate(grad)
    if not bool(usable.any()):
        return Raised(None, "No picture has a gradient at all.")
    empty = (grad[usable] == 0).flatten(1).double().mean(1)
    median = float(empty.median())
    worst = torch.zeros(len(bench), dtype=torch.double, device=grad.device).masked_scatter(usable, empty)
    said = f"In half of {int(usable.sum())} pictures at least {median:.0%} of the pixels have a slope of exactly zero."
    shows = (worst > BLIND).cpu()
    return Raised(median > BLIND, said, int(usable.sum()), bench.first(shows), "pgd", {"median share": median})


def _differences(bench: Bench) -> Raised:
    if bench.draws > 0:
        return Raised(None, "Finite differences need answers that repeat.")
    grad = bench.slope(bench.model, bench.x, "margin").double()
    length = grad.flatten(1).norm(dim=1)
    usable = (length > 0) & length.isfinite()
    if not bool(usable.any()):
        return Raised(None, "No picture has a gradient at all.")
    there = (PROBE * grad / length.clamp(min=1e-300).view(-1, 1, 1, 1)).to(bench.x.dtype)
    goal = Goal.untargeted(bench.y)
    with torch.no_grad():
        up, down = (goal.margin(bench.logits(bench.model, bench.x + sign * there)).double() for sign in (1, -1))
    ratio = ((up - down) / (2 * PROBE) / length)[usable]
    off = (ratio - 1).abs()
    median = float(off.median())
    shows = torch.zeros(len(bench), dtype=torch.bool, device=off.device).masked_scatter(usable, off > WRONG_SLOPE).cpu()
    said = (
        f"Along its gradient the loss of the middle one of {len(off)} pictures rises {float(ratio.median()):.2g} times as fast "
        f"as the gradient says; {int(shows.sum())} are more than {WRONG_SLOPE:.0%} off."
    )
    return Raised(median > WRONG_SLOPE, said, len(off), bench.first(shows), "pgd", {"median error": median})


def _random(bench: Bench) -> Raised:
    if bench.draws == 0:
        return Raised(False, f"Two passes over each of {len(bench)} pictures agree in every bit.", len(bench))
    said = (
        f"Two passes over one picture differ by up to {bench.draws:.2g} in a logit: an attack that follows the gradient of one "
        "draw says little, and must average over many."
    )
    return Raised(True, said, len(bench), bench.places[0], "pgd", {"largest difference": bench.draws})


def _expectation(bench: Bench) -> Raised:
    if bench.draws == 0:
        return Raised(None, "The model draws nothing.")
    averaged = bench.fooled("pgd", PGD | {"draws": AVERAGED})
    names = (f"PGD averaged over {AVERAGED} draws", "PGD with one draw")
    return _wins(bench, averaged, bench.white, names, "pgd")


def _one_step(bench: Bench) -> Raised:
    return _wins(bench, bench.fooled("fgsm", {}), bench.white, ("FGSM, one step,", "PGD with 20 steps"), "fgsm")


def _black_box(bench: Bench) -> Raised:
    found = bench.fooled("square", {"queries": SQUARE})
    return _wins(bench, found, bench.white, (f"Square, {SQUARE} queries and no gradient,", "PGD"), "square")


def _random_search(bench: Bench) -> Raised:
    found = bench.fooled("uniform-noise", {"tries": NOISE})
    return _wins(bench, found, bench.white, (f"The best of {NOISE} random changes", "PGD"), "uniform-noise")


def _transfer(bench: Bench) -> Raised:
    if bench.twin is None:
        return Raised(None, "No other model was named to make images on.")
    found = bench.fooled("pgd", PGD, source=bench.twin)
    return _wins(bench, found, bench.white, ("PGD on another model", "PGD on this one"), "pgd")


def _unbounded(bench: Bench) -> Raised:
    limit = EPS_LIMIT[bench.ball.norm]
    left = ~bench.fooled("pgd", PGD, ball=Ball(bench.ball.norm, limit))
    return _share(bench, left, f"withstand PGD although it may change them at will (eps {limit:g})", MANY / 2)


def _rising(bench: Bench) -> Raised:
    losses = bench.losses[1:]
    falls = (losses[1:] < losses[:-1] - 1e-6 * losses[:-1].abs()).any(0).cpu()
    means = ", ".join(f"{float(value):.3g}" for value in losses.mean(1))
    what = f"have a lower loss at a larger eps (mean loss {means} at {', '.join(f'{f:g}' for f in FACTORS)} eps)"
    found = _share(bench, falls, what, limit=0.25)  # PGD is no global optimiser: some fall on honest models, too
    return Raised(**(found.to_dict() | {"facts": found.facts | {"mean loss": losses.mean(1).tolist()}}))


def _still(bench: Bench) -> Raised:
    clean, most = bench.losses[0], bench.losses[1 + FACTORS.index(1.0)]
    stands = (most - clean <= 1e-6 * clean.abs()).cpu()
    return _share(bench, stands, "keep the loss that they have without any change through all 20 steps")


def _probabilities(bench: Bench) -> Raised:
    with torch.no_grad():
        out = bench.logits(bench.model, bench.x).double()
    are = bool(((out >= 0) & (out <= 1)).all()) and bool((out.sum(1) - 1).abs().max() < 1e-3)
    said = "The outputs lie in [0, 1] and sum to 1" if are else "The outputs are no probabilities"
    why = ": a cross-entropy takes their softmax once more, and hardly rises any more." if are else "."
    return Raised(are, said + why, len(bench), bench.places[0] if are else None, "pgd" if are else "")


def _precision(bench: Bench) -> Raised:
    if bench.draws > 0:
        return Raised(None, "Two precisions cannot be compared where answers do not repeat.")
    try:
        exact = bench.slope(copy.deepcopy(bench.model).double(), bench.x.double())
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return Raised(None, f"The model does not compute in float64 ({str(error).partition(chr(10))[0][:80]}).")
    cosine = F.cosine_similarity(bench.gradient.double().flatten(1), exact.flatten(1), dim=1, eps=1e-300)
    lost = (~(cosine > PRECISE) & ~degenerate(exact)).cpu()
    return _share(bench, lost, f"have another gradient in float64 than in float32 (cosine below {PRECISE:g})")


CARLINI, ATHALYE, PINTOR = "arXiv:1902.06705", "arXiv:1802.00420", "arXiv:2106.09947"
CHECKS = (
    Check("zero", "Zero gradients", PINTOR, _zero),
    Check("blind", "Pixels without a slope", ATHALYE, _blind),
    Check("differences", "Gradient against finite differences", ATHALYE, _differences),
    Check("precision", "Gradient in float32 and float64", CARLINI, _precision),
    Check("probabilities", "Probabilities in place of logits", CARLINI, _probabilities),
    Check("random", "Random answers", ATHALYE, _random),
    Check("expectation", "Averaging over draws wins", ATHALYE, _expectation),
    Check("one-step", "One step wins against many", ATHALYE, _one_step),
    Check("black-box", "Black-box wins against white-box", ATHALYE, _black_box),
    Check("random-search", "Random search wins", ATHALYE, _random_search),
    Check("transfer", "Transfer wins", CARLINI, _transfer),
    Check("unbounded", "Something is left at the largest eps", CARLINI, _unbounded),
    Check("rising", "Loss over eps", CARLINI, _rising),
    Check("still", "Loss that stands still", PINTOR, _still),
)


def ask(bench: Bench, check: Check) -> Raised:
    """One check. Raises Cancelled where it is to stop, and FloatingPointError for logits that are not finite."""
    stop_if_asked(bench.should_stop)
    return check.ask(bench) if len(bench) else Raised(None, "The model has none of the pictures right.")


def summary(found: dict[str, Raised]) -> str:
    """What may be said of all checks; never more than that no flag was raised."""
    raised = [check.title for check in CHECKS if check.key in found and found[check.key].raised]
    asked = sum(one.raised is not None for one in found.values())
    if raised:
        return (
            f"{len(raised)} of {asked} checks raised a flag ({'; '.join(raised)}): that an attack fails here says little about "
            "the model."
        )
    return (
        f"No flag was raised by {asked} checks. This does not show that the model withstands attacks: it may hide its gradients in "
        "a way that none of them sees."
    )
