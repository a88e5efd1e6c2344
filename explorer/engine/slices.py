"""Slice of the decision regions and the loss: a plane through the original, the attacked image and a random direction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.core import Classifier, Goal, InvalidValue, seeded, use_generator
from explorer.core.rng import derived_seed
from explorer.engine.clock import Clock, timed
from explorer.engine.engine import Engine
from explorer.engine.labels import goal_of
from explorer.engine.request import AttackRequest
from explorer.engine.tracing import picture
from explorer.models import zoo

EXTENTS = {"near": (-0.25, 1.25), "usual": (-1.0, 2.0), "wide": (-2.0, 4.0)}  # along the attack, in its lengths
SIZES = (31, 61, 121)  # points a side; with these and the extents above both pictures lie on the grid
SIZE = 61
STOCHASTIC_SIZE, STOCHASTIC_DRAWS = 31, 8  # where nobody says otherwise: many draws at each point cost time
DRAWS_LIMIT = 64
STRIDES = (12, 6, 3, 1)  # coarse to fine
PASS = 32  # images in one forward pass
PLANE, LOOKS = 11, 12  # streams of randomness beside the attack's own
SHARE = 0.9  # of the engine's deadline
OUTLINE = 361  # points of the ball's outline


@dataclass(frozen=True)
class Plan:
    """Which part of the plane to look at, and how closely."""

    extent: str = "usual"
    size: int = SIZE
    seed: int = 0  # of the random direction
    draws: int = 1  # of a stochastic model at each point, the same ones everywhere

    def __post_init__(self) -> None:
        if self.extent not in EXTENTS:
            raise InvalidValue(f"extent must be one of {', '.join(EXTENTS)}; got {self.extent!r}.")
        if self.size not in SIZES:
            raise InvalidValue(f"size must be one of {', '.join(map(str, SIZES))}; got {self.size!r}.")
        if not 1 <= self.draws <= DRAWS_LIMIT:
            raise InvalidValue(f"draws must be a whole number in [1, {DRAWS_LIMIT}]; got {self.draws!r}.")
        if not 0 <= self.seed < 2**31:
            raise InvalidValue(f"seed must be a whole number in [0, 2147483647]; got {self.seed!r}.")

    @classmethod
    def usual(cls, stochastic: bool) -> Plan:
        return cls(size=STOCHASTIC_SIZE, draws=STOCHASTIC_DRAWS) if stochastic else cls()

    @property
    def along(self) -> np.ndarray:
        """(S,) float64: 0 is the original, 1 the attacked image."""
        low, high = EXTENTS[self.extent]
        return (low * (self.size - 1) + np.arange(self.size) * (high - low)) / (self.size - 1)

    @property
    def across(self) -> np.ndarray:
        """(S,) float64, as wide as `along`, 0 in the middle: in units as long as the attack, sideways."""
        low, high = EXTENTS[self.extent]
        return (np.arange(self.size) - (self.size - 1) / 2) * (high - low) / (self.size - 1)


@dataclass(frozen=True, eq=False)
class Slice:
    """What the model says at x0 + along * (x_adv - x0) + across * sideways, cut to [0, 1]; S x S points.

    Points not looked at yet show what the nearest one says that was.
    """

    plan: Plan
    classes: tuple[str, ...]
    label: int  # the true class
    target: int | None
    predicted: np.ndarray  # (S,S) int16, rows across, columns along: the class of the largest mean probability
    probability: np.ndarray  # (S,S) float32, its probability, the mean over the draws
    loss: np.ndarray  # (S,S) float32: cross-entropy of the true class (target: minus its own), the mean over the draws
    margin: (
        np.ndarray
    )  # (S,S) float32: log mean probability of the class to leave minus the best other; below 0: reached
    cut: np.ndarray  # (S,S) float32, share of the pixel values that lay outside [0, 1]
    seen: np.ndarray  # (S,S) bool: looked at
    stride: int  # all points on this grid have been looked at; 1: all
    outline: np.ndarray  # (P,2) along and across of the ball's edge in this plane (before the cut to [0, 1])
    outline_is_eps: bool  # else (a search for the smallest change) it lies as far away as the attacked image
    norm: str
    linf: tuple[float, float]  # largest pixel of one unit along, and across
    l2: tuple[float, float]  # length of one unit along, and across
    passes: int = 0
    seconds: float = 0.0
    device: str = ""
    ended: str = ""  # "": not yet; "done", or "time": the engine's limit came near


def sideways(direction: Tensor, norm: str, seed: int) -> Tensor:
    """A random direction (C,H,W) float64, orthogonal to `direction` and of the same size in `norm`.

    Gaussian in L2; in Linf random signs, as an attack in that norm has, so that both directions are alike. By one step
    of Gram-Schmidt the part along `direction` is taken away. Raises InvalidValue if the direction is zero.
    """
    if not bool(direction.any()):
        raise InvalidValue("The attack changed nothing, so there is no direction to look along: play another walk.")
    noise = torch.randn(direction.shape, generator=seeded(derived_seed(seed, PLANE)), dtype=torch.float64)
    noise = noise.sign() if norm == "linf" else noise
    unit = direction / direction.norm()
    noise = noise - (noise * unit).sum() * unit
    noise = noise - (noise * unit).sum() * unit  # what rounding left
    return noise * (_size(direction, norm) / _size(noise, norm))


def _size(direction: Tensor, norm: str) -> float:
    return float(torch.linalg.vector_norm(direction, {"linf": math.inf, "l2": 2, "l1": 1}[norm]))


def _norm_of(request: AttackRequest) -> str:
    """That of the plane's lengths: L2 for L0, where a share of a change changes as many pixels, and for transformations."""
    return request.norm if request.norm in ("linf", "l2", "l1") else "l2"


def outline(along: Tensor, across: Tensor, norm: str, eps: float) -> np.ndarray:
    """(P,2) where ||a * along + b * across|| = eps, once around: exact in each of its directions."""
    angles = np.linspace(0, 2 * math.pi, OUTLINE)
    turns = [(math.cos(t), math.sin(t)) for t in angles]
    radii = [eps / _size(a * along + b * across, norm) for a, b in turns]
    return np.array([(r * a, r * b) for r, (a, b) in zip(radii, turns, strict=True)])


def slice_work(
    engine: Engine, request: AttackRequest, adversarial: np.ndarray, label: int, plan: Plan
) -> Callable[[], Iterator[Slice]]:
    """What to give to `engine.submit`: a Slice after each batch, coarse to fine; in the last one `ended` is set.

    `adversarial` (C,H,W) is what the attack made of the request's image, `label` the class it is to leave. Raises
    InvalidValue at once if the two images are the same, or for several draws of a model that is not stochastic.
    """
    x0 = picture(engine, request)[0].double().cpu()
    direction = torch.from_numpy(adversarial.copy()).double() - x0
    across = sideways(direction, _norm_of(request), plan.seed)
    if plan.draws > 1 and not zoo.card(request.model).stochastic:
        raise InvalidValue(
            f"draws must be 1 for {request.model}, which says the same at every look; got {plan.draws!r}."
        )
    return lambda: timed(lambda clock: _work(engine, request, x0, direction, across, label, plan, clock))


def _work(
    engine: Engine,
    request: AttackRequest,
    x0: Tensor,
    along: Tensor,
    across: Tensor,
    label: int,
    plan: Plan,
    clock: Clock,
) -> Generator[Slice]:
    limit = SHARE * engine.deadline
    model = engine.model(request.model)
    goal = goal_of(label, request.label, request.target, torch.device("cpu"))
    norm = _norm_of(request)
    is_eps = not request.is_minimal and norm == request.norm
    eps = request.eps if is_eps else _size(along, norm)
    square = (plan.size, plan.size)
    found = Slice(
        plan,
        request.classes,
        label,
        request.target,
        predicted=np.zeros(square, np.int16),
        probability=np.zeros(square, np.float32),
        loss=np.zeros(square, np.float32),
        margin=np.zeros(square, np.float32),
        cut=np.zeros(square, np.float32),
        seen=np.zeros(square, bool),
        stride=plan.size,
        outline=outline(along, across, norm, eps),
        outline_is_eps=is_eps,
        norm=norm,
        linf=(_size(along, "linf"), _size(across, "linf")),
        l2=(_size(along, "l2"), _size(across, "l2")),
        device=engine.description,
    )
    for stride, points, completes in _batches(plan):
        x, cut = _pictures(x0, along, across, plan, points)
        values = _look(model, x, goal, plan, request.seed) | {"cut": cut}
        found = _filled(found, points, stride, values)
        done = completes and stride == 1
        found = dataclasses.replace(
            found,
            stride=stride if completes else found.stride,
            passes=found.passes + len(points) * plan.draws,
            seconds=clock.seconds,
            ended="done" if done else "time" if clock.seconds > limit else "",
        )
        yield found
        if found.ended:
            return


_VALUES = ("predicted", "probability", "loss", "margin", "cut")


def _batches(plan: Plan) -> Iterator[tuple[int, np.ndarray, bool]]:
    """(stride, (n,2) rows and columns, whether they complete the grid of this stride); every point once."""
    known = np.zeros((plan.size, plan.size), bool)
    for stride in STRIDES:
        wanted = np.zeros_like(known)
        wanted[::stride, ::stride] = True
        points = np.argwhere(wanted & ~known)
        known |= wanted
        for first in range(0, len(points), PASS):
            yield stride, points[first : first + PASS], first + PASS >= len(points)


def _pictures(x0: Tensor, along: Tensor, across: Tensor, plan: Plan, points: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """Images (n,C,H,W) float32 in [0,1], and the share of each one's values that had to be cut."""
    a = torch.from_numpy(plan.along[points[:, 1]]).view(-1, 1, 1, 1)
    b = torch.from_numpy(plan.across[points[:, 0]]).view(-1, 1, 1, 1)
    x = x0 + a * along + b * across
    cut = ((x < 0) | (x > 1)).flatten(1).float().mean(1).numpy()
    return x.clamp(0, 1).float(), cut


def _look(model: Classifier, x: Tensor, goal: Goal, plan: Plan, seed: int) -> dict[str, np.ndarray]:
    """What the model says of each image; raises FloatingPointError if that is not finite."""
    logits = torch.stack(list(_draws(model, x, plan.draws, seed)), dim=1)  # (n,draws,K)
    if not bool(torch.isfinite(logits).all()):
        raise FloatingPointError("the model's logits are not finite")
    chances = torch.log_softmax(logits, 2).logsumexp(1) - math.log(plan.draws)  # (n,K) log of the mean probability
    best, predicted = chances.max(1)
    aims = goal.repeated(len(x))
    each = aims.repeated(plan.draws)
    return {
        "predicted": predicted.numpy(),
        "probability": best.exp().numpy(),
        "loss": each.loss(logits.flatten(0, 1)).view(len(x), -1).mean(1).numpy(),
        "margin": -aims.margin(chances).numpy(),
    }


def _draws(model: Classifier, x: Tensor, draws: int, seed: int) -> Iterator[Tensor]:
    """(n,K) logits of each draw: the very same draws for every image, in this batch and in all others."""
    rng = seeded(derived_seed(seed, LOOKS))
    for _ in range(draws):
        yield _logits(model, x, rng)


def _logits(model: Classifier, x: Tensor, rng: torch.Generator) -> Tensor:
    with torch.no_grad(), use_generator(rng, shared=True):
        return model(x.to(model.device)).float().cpu()


def _filled(found: Slice, points: np.ndarray, stride: int, values: dict[str, np.ndarray]) -> Slice:
    """The slice with these points, each standing for its neighbourhood of `stride` x `stride`; finer points stay."""
    arrays = {name: getattr(found, name).copy() for name in (*_VALUES, "seen")}
    for i, (row, column) in enumerate(points):
        near = tuple(slice(max(at - stride // 2, 0), at + stride // 2 + 1) for at in (row, column))
        open_ = ~arrays["seen"][near]
        for name in _VALUES:
            arrays[name][near][open_] = values[name][i]
        arrays["seen"][row, column] = True
    return dataclasses.replace(found, **arrays)
