"""FAB, the fast adaptive boundary attack (Croce & Hein, arXiv:1907.02044), as in the authors' code (fab_base.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm
from explorer.attacks._linear import LEAST, Sight, crossing, leads, likeliest, nearest, nudge, usable
from explorer.core import Attack, Ball, Goal, Step, param

FRAMES = 120  # of all updates about this many are yielded
ROUNDING = 1e-5  # a margin smaller than this part of the largest logit may be gone when the image is looked at again
START = {"linf": 0.3, "l2": 1.0}  # a random start lies within half of this, or of the nearest result


@ATTACKS.register(
    "fab",
    title="FAB",
    paper="arXiv:1907.02044",
    group="minimal",
    summary="Follows the boundary and pulls back toward the image, one wrong class after the other: small distances.",
)
@dataclass(frozen=True)
class FAB(Attack):
    """x <- clip((1 - a)(x + 1.05 d) + a(x0 + 1.05 d0)), then x <- x0 + 0.9 (x - x0) where the goal was reached.

    d and d0 are the shortest ways from x and from x0 to the boundary, if it is the straight one seen at x, that stay in
    [0, 1]: `shortest`. a = |d| / (|d| + |d0|), at most 0.1. The nearest point of all that reached the goal counts.
    Untargeted it is FAB-T: `restarts` runs toward the boundary to each of the likeliest wrong classes at the image, with
    any wrong class a success; or, if not `one_by_one`, runs toward whichever of these boundaries is nearest to x. The
    first run starts at the image, the others at a random point half as far as the nearest result so far.
    The final search of the authors' first code ends the walk: between the image and the result, where the straight line
    through both margins crosses zero, and again between the two points around the crossing.
    Cost: the first look takes one forward pass, and one backward pass for each class (targeted: one). An update takes one
    forward and one backward pass (a backward pass for each class if not `one_by_one`), and one more forward pass where
    the goal was reached; the final search `search_steps` forward passes. In a batch, slopes come from the look itself
    where most images need them, otherwise from one that is shared with those that stepped back.
    Of all updates about 120 are yielded, and each run's best point so far. Points beyond the ball do not count.
    differs: the step back is a candidate, too, where it still reaches the goal; an image that is not taken for its label
    has reached the goal at once; with a target, each update goes to the boundary between it and the best other class.
    differs: the final search goes a tenth of the rest of the way beyond the crossing, where a step could just miss it.
    differs: a point whose margin could be rounding replaces no other: looked at in another batch it may not be fooled.
    differs: an update moves at least 1e-6 a pixel, so that a tie is left; where all slopes are exactly zero or not finite
    (Step.degenerate), or the point would stay, it is a random step.
    """

    budget: ClassVar[str] = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("linf", "l2")
    stops: ClassVar[bool] = False  # whether an image leaves with its first result
    formula: ClassVar[str] = r"x \leftarrow (1-\alpha)\,(x + \eta\, d) + \alpha\,(x_0 + \eta\, d_0)"
    explanation: ClassVar[str] = (
        r"Near the present point treat the boundary to a wrong class as straight. Find the shortest step $d$ from there "
        r"onto it, and the shortest step $d_0$ from the original picture, both within the range of the pixels. Go a "
        r"little beyond ($\eta$), mostly to the first, a little ($\alpha$) to the second, which is nearer to the "
        r"picture. Once the model is fooled, step a tenth of the way back and look again: so the points move along "
        r"the boundary, ever nearer to the picture. It needs no eps: the result is a distance."
    )
    presets = {
        "weak": {"steps": 20, "target_classes": 3},
        "standard": {},
        "strong": {"steps": 100, "restarts": 2},
    }

    steps: int = param(50, "steps", lo=1, hi=1000, help="How many times the image is updated, in each run.")
    target_classes: int = param(
        9, "target classes", lo=1, hi=999, help="How many of the likeliest wrong classes' boundaries are looked for."
    )
    one_by_one: bool = param(
        True,
        "one class at a time",
        help="One run toward each class. Off: one run, each step of which goes to the boundary that is nearest.",
    )
    restarts: int = param(
        1, "restarts", lo=1, hi=100, help="Runs toward each class, from new random starts; the nearest result counts."
    )
    alpha_max: float = param(
        0.1, "largest pull", lo=0.0, hi=1.0, step=0.05, help="How much of a step may aim from the original image."
    )
    eta: float = param(
        1.05, "overshoot", lo=1.0, hi=2.0, step=0.05, help="How far beyond the boundary to go: 1 is onto it."
    )
    beta: float = param(
        0.9, "step back", lo=0.0, hi=1.0, step=0.05, help="How much of the change is kept after a success."
    )
    search_steps: int = param(
        3, "final search", lo=0, hi=30, help="Steps between the image and the result, to the very boundary."
    )
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return 1 + self._left(self._runs(self.target_classes))

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of an image by itself at most; fewer where the model has fewer classes."""
        width = 1 if self.one_by_one else self.target_classes
        updates = self._runs(self.target_classes) * self.steps
        return (1 + self.target_classes + updates * (2 + width) + self.search_steps) * self.draws

    @property
    def _every(self) -> int:
        """One of so many updates is yielded."""
        return math.ceil(self._runs(self.target_classes) * self.steps / FRAMES)

    def _runs(self, classes: int) -> int:
        return self.restarts * (classes if self.one_by_one else 1)

    def _left(self, runs: int) -> int:
        """Steps to come when so many runs have not begun: updates, the best of each run, the end of the search."""
        return runs * (self.steps // self._every + 1) + (self.search_steps > 0)

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        work = _Work(self, model, x0.detach(), goal, ball, rng)
        runs = [start for start in work.first_look() for _ in range(self.restarts)]
        yield work.step(self._left(len(runs)))
        for number, (rivals, clean) in enumerate(runs):
            rows, later = work.going(), self._left(len(runs) - number - 1)
            if len(rows) == 0:
                return
            run = _Run(work, rows, rivals, clean, anywhere=number % self.restarts > 0)
            for update in range(1, self.steps + 1):
                run.update(last=update == self.steps)
                if len(run.rows) == 0:
                    break
                if update % self._every == 0:
                    yield work.step(self.steps // self._every - update // self._every + 1 + later)
            work.show_best()
            yield work.step(later)
        if self.search_steps and len(work.going()):
            work.search()
            yield work.step(0)


class FABInside(FAB):
    """FAB as a part of AutoAttack: an image leaves with its first result inside the ball, as it is then fooled."""

    budget: ClassVar[str] = "fixed"
    stops: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class _Flat:
    """The model near x (n,C,H,W) as if the boundary that is nearest were straight (see `Near`)."""

    x: Tensor
    lead: Tensor
    way: Tensor
    size: Tensor
    lost: Tensor

    @classmethod
    def at(cls, x: Tensor, leads: Tensor, slopes: Tensor, norm: str) -> _Flat:
        near = nearest(leads, slopes, norm)
        return cls(x, near.lead, near.way, near.size, near.lost)

    def pick(self, keep: Tensor) -> _Flat:
        """Of some of the images (index or mask)."""
        return _Flat(*(value[keep] for value in vars(self).values()))

    def put(self, rows: Tensor, other: _Flat) -> _Flat:
        """With those of another in its `rows`."""
        return _Flat(
            *(a.index_copy(0, rows, b) for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )


class _Work:
    """Where every image of one walk stands."""

    def __init__(self, attack: FAB, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator):
        self.attack, self.model, self.x0, self.goal, self.ball, self.rng = attack, model, x0, goal, ball, rng
        n, device = len(x0), x0.device
        self.index = 0  # of the next step
        self.best = self.x = x0  # x and logits are shown
        self.best_distance = torch.full((n,), math.inf, device=device)
        self.forwards = torch.zeros(n, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.degenerate = torch.zeros(n, dtype=torch.bool, device=device)  # since the last step

    def first_look(self) -> list[tuple[Tensor | None, _Flat]]:
        """For each group of classes these (N,R), and how near the untouched images are to them.

        With a target there is one group, whose class is chosen anew at every look (None). Nothing if all is done.
        """
        seen = Sight(self.model, self.x0, self.attack.draws, self.rng)
        everybody = torch.arange(len(self.x0), device=self.x0.device)
        self.best_logits = self.logits = seen.logits
        self.clean_margin = self.goal.margin(seen.logits)
        self._keep(self.x0, everybody, seen.logits)
        if len(self.going()) == 0:
            return []
        targeted = self.goal.is_targeted
        rivals = likeliest(seen.logits, self.goal, 1 if targeted else self.attack.target_classes)
        lead, slopes = leads(seen.logits, self.goal, rivals), self.slopes(seen, everybody, rivals)
        self.degenerate = ~usable(slopes).any(1)
        groups = torch.arange(rivals.shape[1]).split(1 if self.attack.one_by_one else rivals.shape[1])
        flats = [_Flat.at(self.x0, lead[:, group], slopes[:, group], self.ball.norm) for group in groups]
        return [(None if targeted else rivals[:, group], flat) for group, flat in zip(groups, flats, strict=True)]

    def look(self, x: Tensor, rows: Tensor, sloped: bool = True) -> Sight:
        """One look at x (n,...), of the images in `rows`."""
        seen = Sight(self.model, x, self.attack.draws, self.rng, sloped)
        self._keep(x, rows, seen.logits)
        return seen

    def _keep(self, x: Tensor, rows: Tensor, logits: Tensor) -> None:
        """Count the pass, show the points that lie inside the ball, keep the nearest of those that reach the goal."""
        self.forwards = self.forwards.index_add(0, rows, torch.full_like(rows, self.attack.draws))
        far = self.ball.distance(x, self.x0[rows])  # float64, so perhaps not on the model's device
        inside, far = (far <= self.ball.rows(rows).eps).to(x.device), far.float().to(x.device)
        goal, first = self.goal.rows(rows), self.best_distance[rows].isinf()
        nearer = inside & (far < self.best_distance[rows]) & (clear(goal, logits) | goal.reached(logits) & first)
        at, kept = rows[inside], rows[nearer]
        self.x, self.logits = self.x.index_copy(0, at, x[inside]), self.logits.index_copy(0, at, logits[inside])
        self.best = self.best.index_copy(0, kept, x[nearer])
        self.best_logits = self.best_logits.index_copy(0, kept, logits[nearer])
        self.best_distance = self.best_distance.index_copy(0, kept, far[nearer])

    def slopes(self, seen: Sight, rows: Tensor, rivals: Tensor) -> Tensor:
        """(n,R,C,H,W) of a look at the images in `rows`."""
        self.backwards = self.backwards.index_add(0, rows, torch.full_like(rows, rivals.shape[1] * self.attack.draws))
        return seen.slopes(self.goal.rows(rows), rivals)

    def done(self) -> Tensor:
        """(N,) bool: cannot come nearer, or need not."""
        return self.best_distance.isfinite() if self.attack.stops else self.best_distance == 0

    def going(self) -> Tensor:
        """Rows of the images that are not done."""
        return (~self.done()).nonzero()[:, 0]

    def step(self, left: int) -> Step:
        """What is shown now; `left` more steps are to come, unless all images are done."""
        index, degenerate = self.index, self.degenerate
        self.index, self.degenerate = index + 1, torch.zeros_like(degenerate)
        margin = self.goal.margin(self.logits)
        return Step(
            index=index,
            total=index + left if len(self.going()) else index,
            x=self.x,
            logits=self.logits,
            loss=margin,
            distance=self.ball.distance(self.x, self.x0),
            reached=margin > 0,
            degenerate=degenerate,
            forwards=self.forwards,
            backwards=self.backwards,
            minimal=self.attack.budget == "minimal",
        )

    def show_best(self) -> None:
        """The best where there is one."""
        found = self.best_distance.isfinite()
        self.x = torch.where(found.view(-1, 1, 1, 1), self.best, self.x)
        self.logits = torch.where(found[:, None], self.best_logits, self.logits)

    def search(self) -> None:
        """The final search, between image and result."""
        rows = (self.best_distance.isfinite() & ~self.done()).nonzero()[:, 0]
        goal, low, high = self.goal.rows(rows), self.x0[rows], self.best[rows]
        below, above = self.clean_margin[rows], goal.margin(self.best_logits[rows])
        for _ in range(self.attack.search_steps if len(rows) else 0):
            x = (low + crossing(below, above) * (high - low)).clamp(0, 1)
            logits = self.look(x, rows, sloped=False).logits
            margin, beyond = goal.margin(logits), clear(goal, logits)
            low, high = (torch.where(side.view(-1, 1, 1, 1), x, end) for side, end in ((~beyond, low), (beyond, high)))
            below, above = torch.where(beyond, below, margin), torch.where(beyond, margin, above)
        self.show_best()


class _Run:
    """The walk of the images in `rows` toward one group of classes."""

    def __init__(self, work: _Work, rows: Tensor, rivals: Tensor | None, clean: _Flat, anywhere: bool):
        self.work, self.rows, self.rivals = work, rows, rivals
        self.flat = self._flat(*self._anywhere()) if anywhere else clean.pick(rows)

    def update(self, last: bool) -> None:
        """Step to where the boundary seems to be, look, step back where it was crossed; see the slopes there."""
        work = self.work
        x = self._ahead()
        seen = work.look(x, self.rows, sloped=not last)
        if last:
            return
        crossed, stay = work.goal.rows(self.rows).reached(seen.logits), ~work.done()[self.rows]
        back = torch.where(crossed.view(-1, 1, 1, 1), self._back(x), x)
        if not bool(stay.any()):
            self.rows = self.rows[stay]
        elif int(crossed.sum()) > len(x) // 2:  # a new look costs less than backward passes that nobody needs
            self.rows = self.rows[stay]
            self.flat = self._flat(back[stay], work.look(back[stay], self.rows), self.rows)
        else:
            flat, again = self._flat(x, seen, self.rows), crossed & stay
            if bool(again.any()):
                stepped = self._flat(back[again], work.look(back[again], self.rows[again]), self.rows[again])
                flat = flat.put(again.nonzero()[:, 0], stepped)
            self.rows, self.flat = self.rows[stay], flat.pick(stay)

    def _back(self, x: Tensor) -> Tensor:
        x0 = self.work.x0[self.rows]
        return (x0 + self.work.attack.beta * (x - x0)).clamp(0, 1)

    def _anywhere(self) -> tuple[Tensor, Sight, Tensor]:
        """A random point half as far as the nearest result, or as START, and what is seen there."""
        work, norm = self.work, self.work.ball.norm
        x0 = work.x0[self.rows]
        draw = torch.rand if norm == "linf" else torch.randn
        noise = draw(x0.shape, generator=work.rng, device=work.rng.device, dtype=x0.dtype).to(x0.device)
        noise = 2 * noise - 1 if norm == "linf" else noise
        noise = noise / length(noise.flatten(1), norm).view(-1, 1, 1, 1)
        far = work.best_distance[self.rows].clamp(max=min(START[norm], work.ball.eps))
        x = (x0 + far.view(-1, 1, 1, 1) / 2 * noise).clamp(0, 1)
        return x, work.look(x, self.rows), self.rows

    def _flat(self, x: Tensor, seen: Sight, rows: Tensor) -> _Flat:
        """What was seen at x (n,...) of the images in `rows`, as if it were straight: backward passes."""
        work, goal = self.work, self.work.goal.rows(rows)
        rivals = likeliest(seen.logits, goal, 1) if self.rivals is None else self.rivals[rows]
        flat = _Flat.at(x, leads(seen.logits, goal, rivals), work.slopes(seen, rows, rivals), work.ball.norm)
        work.degenerate[rows] |= flat.lost
        return flat

    def _ahead(self) -> Tensor:
        """(n,C,H,W) beyond the boundary as it seems to be, mostly from x, a little from the image."""
        work, flat, norm = self.work, self.flat, self.work.ball.norm
        least = LEAST if norm == "linf" else LEAST * math.sqrt(flat.way.shape[1])
        x, x0 = flat.x.flatten(1).to(flat.way), work.x0[self.rows].flatten(1).to(flat.way)
        near = torch.where(flat.lead < 0, -1.0, 1.0) * torch.maximum(flat.lead.abs(), least * flat.size)
        far = flat.lead + (flat.way * (x - x0)).sum(1)
        ways = shortest(torch.cat([flat.way] * 2), torch.cat([near, far]), torch.cat([x, x0]), norm)
        d, d0 = ways.chunk(2)
        own, pull = length(d, norm), length(d0, norm)
        pull = (own / (own + pull)).nan_to_num(0.0).clamp(max=work.attack.alpha_max)[:, None]
        ahead = (1 - pull) * (x + work.attack.eta * d) + pull * (x0 + work.attack.eta * d0)
        ahead = ahead.to(flat.x.dtype).clamp(0, 1).view_as(flat.x)
        stuck = flat.lost | (ahead == flat.x).flatten(1).all(1)
        if bool(stuck.any()):
            ahead = torch.where(stuck.view(-1, 1, 1, 1), (flat.x + nudge(flat.x, work.rng)).clamp(0, 1), ahead)
        return ahead


def clear(goal: Goal, logits: Tensor) -> Tensor:
    """(n,) bool: the goal is reached by more than rounding could take away."""
    return goal.margin(logits) > ROUNDING * logits.abs().amax(1)


def length(d: Tensor, norm: str) -> Tensor:
    """(n,) of changes (n,D)."""
    return d.abs().amax(1) if norm == "linf" else d.norm(dim=1)


def shortest(way: Tensor, need: Tensor, x: Tensor, norm: str) -> Tensor:
    """(n,D) the shortest d with way . d = need and x + d in [0, 1]; where there is none, the one that comes nearest.

    way, x (n,D), need (n,). The paper's projection onto a hyperplane within the box, solved in another way: every entry
    moves at its own rate, 1 (Linf) or |way| (L2), until it meets its limit. What is gained after a time t is concave and
    made of straight pieces, so that Newton's steps from t = 0 never overshoot, and end at the exact t.
    """
    way = way * need.sign()[:, None]
    size = way.abs()
    room, rate = torch.where(way > 0, 1 - x, x), torch.ones_like(size) if norm == "linf" else size
    full = size == 0
    while True:
        rest = need.abs() - (size * room * full).sum(1)
        time = (rest / (size * rate * ~full).sum(1)).clamp(min=0)[:, None]  # infinite, or NaN, where all are full
        more = full | (time * rate >= room)
        if bool((more == full).all()):
            return way.sign() * torch.where(full, room, time * rate)
        full = more
