"""Decision boundaries: the logits linearised at a point, the way to the nearest boundary, and the search for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.attacks.gradient import degenerate, gaussian
from explorer.core import Ball, Goal, Step, ThreatModel, use_generator
from explorer.core.rng import rng_on
from explorer.core.waits import counts, put, surely_none, where_true

NUDGE = 2 / 255  # every pixel's part in a random step, where there is no slope to follow
BEYOND = 0.1  # of the rest of the way a point goes beyond a crossing, which rounding could miss
LEAST = 1e-6  # every pixel's part in the shortest step: less is lost in float32, and a tie would never be left
SHARE = 2e-6  # of the logits' spread: three times what a margin was seen to differ from batch to batch
DIGIT = 2.0**-23  # of the logits' size: the last digit of float32
AIM = 0.001  # of the clean margin: so far beyond the boundary a slide goes
NO_NEARER = 0.9995  # a slide that leaves more than this share of the distance was the last
LEAST_SHARE = 0.1  # of a slide that is still tried
ORDER = {"linf": math.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
TINY = 1e-30  # instead of a slope of 0
ROUNDS = 12  # of `shortest` on a GPU; no picture was seen to need more than
SWITCHED_OFF = 100  # a spread that is so many times the logits' size is that of classes that were masked by a number


class Linearization:
    """The model at x (n,C,H,W): `logits` (n,K), means over the draws; and their slopes, if `sloped`."""

    def __init__(self, model: nn.Module, x: Tensor, draws: int, rng: torch.Generator, sloped: bool = True):
        with torch.set_grad_enabled(sloped), use_generator(rng):
            self._leaf = x.detach().requires_grad_(sloped)
            every = self._leaf.repeat_interleave(draws, dim=0) if draws > 1 else self._leaf
            self._every = model(every).float()  # (n*draws,K)
        self._draws = draws
        self.logits = self._every.detach().view(len(x), draws, -1).mean(1)

    def slopes(self, goal: Goal, rivals: Tensor, more: bool = False) -> Tensor:
        """(n,R,C,H,W) how each of the `leads` over the rivals (n,R) falls: R backward passes a draw.

        Unless there are `more` to come, what the pass has left in memory is freed.
        """
        found: list[Tensor] = []
        for rival in rivals.T:
            rise = against(self.logits, goal, rival).repeat_interleave(self._draws, dim=0) / self._draws
            last = not more and len(found) == rivals.shape[1] - 1
            found += torch.autograd.grad(self._every, self._leaf, rise, retain_graph=not last)
        return torch.stack(found, 1)


def against(logits: Tensor, goal: Goal, rival: Tensor) -> Tensor:
    """(n,K) what raises each image's `rival` (n,) against the label (with a target: the reverse), by one logit each."""
    rise = torch.zeros_like(logits).scatter(1, rival[:, None], 1.0).scatter(1, goal.labels[:, None], -1.0)
    return -rise if goal.is_targeted else rise


def leads(logits: Tensor, goal: Goal, rivals: Tensor) -> Tensor:
    """(n,R) how far each rival's logit must rise against the label's (with a target: the reverse)."""
    lead = logits.gather(1, goal.labels[:, None]) - logits.gather(1, rivals)
    return -lead if goal.is_targeted else lead


def rounding(goal: Goal, logits: Tensor) -> Tensor:
    """(n,) the margin that rounding could take away when the image is looked at again, in another batch or elsewhere.

    Logits are sums of terms about as large as the logits lie apart: a constant added to all of them counts with its last
    digit only, and classes at -inf, or switched off by a very negative number, do not count.
    """
    finite = logits.isfinite()
    spread = logits.masked_fill(~finite, -math.inf).amax(1) - logits.masked_fill(~finite, math.inf).amin(1)
    own, margin = logits.gather(1, goal.labels[:, None])[:, 0], goal.margin(logits)
    size = torch.maximum(own.abs(), (own - margin if goal.is_targeted else own + margin).abs())
    return SHARE * torch.minimum(spread, SWITCHED_OFF * size) + DIGIT * size


def usable(slopes: Tensor) -> Tensor:
    """(n,R) bool: neither exactly zero nor not finite."""
    return ~degenerate(slopes.flatten(0, 1)).view(slopes.shape[:2])


@dataclass(frozen=True, eq=False)
class Hyperplane:
    """The boundary that is nearest if they are straight, float64 where the device has it; and how far all of them are."""

    lead: Tensor  # (n,)
    way: Tensor  # (n,D) its slope
    size: Tensor  # (n,) the slope's, in the dual norm
    lost: Tensor  # (n,) bool: all slopes are dead, so that lead, way and size say nothing
    lengths: Tensor  # (n,R), infinite where the slope is dead or the lead not finite

    def rows(self, keep: Tensor) -> Hyperplane:
        """Those of some of the images (index)."""
        return Hyperplane(*(value[keep] for value in vars(self).values()))

    def step(self, norm: str) -> Tensor:
        """(n,D) the shortest onto the boundary in Linf or L2 (pixels have no limits), but LEAST for each pixel at least."""
        far = (self.lead / self.size).clamp(min=least(self.way, norm))
        return self.way.sign() * far[:, None] if norm == "linf" else self.way * (far / self.size)[:, None]

    def put(self, rows: Tensor, other: Hyperplane) -> Hyperplane:
        """With those of another in its `rows`."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Hyperplane(*(ours.index_copy(0, rows, theirs) for ours, theirs in pairs))


def nearest(leads: Tensor, slopes: Tensor, norm: str) -> Hyperplane:
    """Of the boundaries with these leads (n,R) and slopes (n,R,C,H,W)."""
    kind = torch.float64 if slopes.device.type != "mps" else slopes.dtype
    alive, flat = usable(slopes) & leads.isfinite(), slopes.to(kind).flatten(2)
    if not surely_none(~alive):
        flat = torch.where(alive[:, :, None], flat, 1.0)
    size = torch.linalg.vector_norm(flat, DUAL[norm], dim=2)  # (n,R)
    lengths = torch.where(alive, leads.abs() / size, float("inf"))
    if leads.shape[1] == 1:
        return Hyperplane(leads[:, 0].to(kind), flat[:, 0], size[:, 0], ~alive[:, 0], lengths)
    rows, best = torch.arange(len(leads), device=leads.device), lengths.argmin(1)
    return Hyperplane(leads[rows, best].to(kind), flat[rows, best], size[rows, best], ~alive.any(1), lengths)


def least(d: Tensor, norm: str) -> float:
    """The length of a change (n,D) that is LEAST for each pixel."""
    return LEAST * {"linf": 1.0, "l2": math.sqrt(d.shape[1]), "l1": float(d.shape[1])}[norm]


def length(d: Tensor, norm: str) -> Tensor:
    """(n,) of changes (n,D)."""
    size: Tensor = torch.linalg.vector_norm(d, ORDER[norm], dim=1)
    return size


def shortest(way: Tensor, need: Tensor, x: Tensor, norm: str) -> Tensor:
    """(n,D) the shortest d with way . d = need and x + d in [0, 1]; where there is none, the one that comes nearest.

    way, x (n,D), need (n,). FAB's projection onto a hyperplane within the box, solved in another way than its paper's
    (arXiv:1907.02044, eq. 7): every entry moves at its own rate, 1 (Linf) or |way| (L2), until it meets its limit. What is
    gained after a time t is concave and made of straight pieces, so that Newton's steps from t = 0 never overshoot, and
    end at the exact t. On a GPU there are ROUNDS of them, as each question whether it is the last would make the host wait.
    In L1 the steepest entries go first, each as far as it may.
    """
    way = way * need.sign()[:, None]
    size, room = way.abs(), torch.where(way > 0, 1 - x, x)
    if norm == "l1":
        order = size.argsort(dim=1, descending=True)
        most = (size * room).gather(1, order)
        used = torch.minimum((need.abs()[:, None] - (most.cumsum(1) - most)).clamp(min=0), most)
        return way.sign() * torch.zeros_like(size).scatter(1, order, used) / size.clamp(min=TINY)
    rate = torch.ones_like(size) if norm == "linf" else size
    full = size == 0
    for _ in range(ROUNDS if way.device.type != "cpu" else way.shape[1] + 1):  # each fills one entry, or is the last
        rest = need.abs() - (size * room * full).sum(1)
        time = (rest / (size * rate * ~full).sum(1)).clamp(min=0)[:, None]  # infinite, or NaN, where all are full
        before, full = full, full | (time * rate >= room)
        if surely_none(before != full):
            break
    return way.sign() * torch.where(full, room, time * rate)


def halfway(below: Tensor, above: Tensor) -> Tensor:
    """(n,1,1,1) the share of the way at which a bisection looks next."""
    return torch.full_like(below, 0.5).view(-1, 1, 1, 1)


def crossing(below: Tensor, above: Tensor) -> Tensor:
    """(n,1,1,1) the share of the way from a margin below 0 to one above 0 at which a straight line is at 0, and a little
    more."""
    share = (below / (below - above)).nan_to_num(1.0)
    return (share + BEYOND * (1 - share)).clamp(0, 1).view(-1, 1, 1, 1)


def refine(
    look: Callable[[Tensor], tuple[Tensor, Tensor]],
    ends: tuple[Tensor, Tensor],
    margins: tuple[Tensor, Tensor],
    steps: int,
    share: Callable[[Tensor, Tensor], Tensor] = crossing,
) -> None:
    """`steps` points, ever nearer to the boundary, on the line from a point that does not reach the goal to one that does.

    ends (n,C,H,W) and their margins (n,); `look` is shown each point and says its margin and whether it is beyond.
    """
    (low, high), (below, above) = ends, margins
    for _ in range(steps if len(low) else 0):
        x = (low + share(below, above) * (high - low)).clamp(0, 1)
        margin, beyond = look(x)
        low, high = (torch.where(side.view(-1, 1, 1, 1), x, end) for side, end in ((~beyond, low), (beyond, high)))
        below, above = torch.where(beyond, below, margin), torch.where(beyond, margin, above)


@dataclass(eq=False)
class BoundaryWalk:
    """What a walk to the boundary shows of each image, and the passes that it took."""

    model: nn.Module
    x0: Tensor
    goal: Goal
    threat: ThreatModel  # L2 or Linf
    rng: torch.Generator
    draws: int
    stops: bool = False  # an image is done with its first success: the nearest does not count

    def __post_init__(self) -> None:
        assert isinstance(self.threat, Ball), "a boundary's distance is measured in a norm"
        self.ball = self.threat
        n, device = len(self.x0), self.x0.device
        self.rng = rng_on(device, self.rng)
        self.index = 0  # of the next step
        self.x, self.logits = self.x0, torch.zeros(n, 1, device=device)  # shown; logits from the first look on
        self.forwards = torch.zeros(n, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.degenerate = torch.zeros(n, dtype=torch.bool, device=device)  # since the last step
        self.everybody = torch.arange(n, device=device)

    def linearize(self, x: Tensor, rows: Tensor, sloped: bool = True) -> Linearization:
        """One look at x (n,C,H,W), points of the images in `rows` (n,)."""
        self.forwards = self.forwards.index_add(0, rows, torch.full_like(rows, self.draws))
        return Linearization(self.model, x, self.draws, self.rng, sloped)

    def slopes(self, seen: Linearization, rows: Tensor, rivals: Tensor, more: bool = False) -> Tensor:
        """(n,R,C,H,W) of a look at the images in `rows` (see `Linearization.slopes`)."""
        self.backwards = self.backwards.index_add(0, rows, torch.full_like(rows, rivals.shape[1] * self.draws))
        return seen.slopes(self.goal.rows(rows), rivals, more)

    def show(self, x: Tensor, logits: Tensor, rows: Tensor, only: Tensor | None = None) -> None:
        """Points of the images in `rows` (n,) and the logits there; `only` (n,) bool: of these."""
        if only is not None:
            self.x, self.logits = put(self.x, rows, x, only), put(self.logits, rows, logits, only)
            return
        self.x = self.x.index_copy(0, rows, x)
        self.logits = logits if len(rows) == len(self.x) else self.logits.index_copy(0, rows, logits)

    def nudge(self, like: Tensor) -> Tensor:
        """A random step: NUDGE up or down for every pixel."""
        return NUDGE * gaussian(like, self.rng).sign()

    def step(self, left: int) -> Step:
        """What is shown now; `left` more steps are to come at most."""
        index, degenerate = self.index, self.degenerate
        self.index, self.degenerate = index + 1, torch.zeros_like(degenerate)
        return Step(
            index=index,
            total=index + left,
            x=self.x,
            logits=self.logits,
            loss=self.goal.margin(self.logits),
            distance=self.ball.distance(self.x, self.x0),
            reached=self.reached(),
            degenerate=degenerate,
            forwards=self.forwards,
            backwards=self.backwards,
            minimal=not self.stops,
        )

    def reached(self) -> Tensor:
        """(N,) bool: what is shown is a success."""
        return self.goal.reached(self.logits)


@dataclass(eq=False)
class BoundarySearch(BoundaryWalk):
    """A walk that keeps the nearest success of each image."""

    kappa: float = 0.0  # a success is a margin above it
    eps: float | Tensor = math.inf  # points farther away neither count nor are they shown; a number or (N,)

    def __post_init__(self) -> None:
        """The first look, at the images themselves."""
        super().__post_init__()
        self.clean = self.linearize(self.x0, self.everybody)
        self.show(self.x0, self.clean.logits, self.everybody)
        self.best, self.best_logits = self.x, self.logits
        self.clean_margin = self.goal.margin(self.logits)
        self.best_distance = torch.where(self.reached(), 0.0, torch.full_like(self.clean_margin, math.inf))
        self._left: int | None = None  # images that are not done, if known
        self.terms = torch.zeros_like(self.clean_margin)  # (N,) size of pixel * slope at the images, once seen

    def look(self, x: Tensor, rows: Tensor, sloped: bool = True) -> Linearization:
        """`linearize`; the point is shown, and kept if it is the nearest success.

        A point whose success could be rounding is neither.
        """
        seen = self.linearize(x, rows, sloped)
        goal, logits = self.goal.rows(rows), seen.logits
        far = self.ball.distance(x, self.x0[rows])  # float64, so perhaps not on the model's device
        limit = self.eps.to(far)[rows.to(far.device)] if isinstance(self.eps, Tensor) else self.eps
        inside, far = (far <= limit).to(x.device), far.float().to(x.device)
        success = inside & self.clear(logits, rows)
        shown = inside & (success | ~(goal.margin(logits) > self.kappa))
        nearer = success & (far < self.best_distance[rows])
        self.show(x, logits, rows, only=shown)
        self.best, self.best_logits = put(self.best, rows, x, nearer), put(self.best_logits, rows, logits, nearer)
        self.best_distance = put(self.best_distance, rows, far, nearer)
        self._left = None if self.stops else self._left  # else only a success at the image itself would end its search
        return seen

    def rounding(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(n,) `rounding`, but not less than what is lost in the sum of pixel * slope: two classes may lie together."""
        return torch.maximum(rounding(self.goal.rows(rows), logits), SHARE / 2 * self.terms[rows])

    def clear(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(n,) bool: a success that rounding could not take away."""
        return self.goal.rows(rows).margin(logits) - self.kappa > self.rounding(logits, rows)

    def show_best(self) -> None:
        """Show the best where there is one."""
        self.show(self.best, self.best_logits, self.everybody, only=self.found)

    @property
    def found(self) -> Tensor:
        """(N,) bool: has a success."""
        return self.best_distance.isfinite()

    def done(self) -> Tensor:
        """(N,) bool: cannot come nearer, or need not."""
        return self.found if self.stops else self.best_distance == 0

    def counts(self, *masks: Tensor) -> list[int]:
        """How many entries of each are True, and, for `left`, how many images are not done: the host waits once a look."""
        *found, self._left = counts(*masks, ~self.done())
        return found

    @property
    def left(self) -> int:
        """How many images are not done."""
        if self._left is None:
            self.counts()
        assert self._left is not None
        return self._left

    def reached(self) -> Tensor:
        return self.goal.margin(self.logits) > self.kappa

    def step(self, left: int) -> Step:
        """What is shown now; `left` more steps are to come, unless all images are done."""
        return super().step(left if self.left else 0)

    def from_images(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The first look's likeliest wrong classes (N,R) (with a target: the likeliest other), leads (N,R), (N,R,C,H,W) slopes."""
        rivals = self.goal.rivals(self.clean.logits, 1 if self.goal.is_targeted else count)
        slopes = self.slopes(self.clean, self.everybody, rivals)
        self.degenerate |= ~usable(slopes).any(1)
        self.terms = (slopes * self.x0[:, None]).flatten(2).norm(dim=2).nan_to_num(0.0, posinf=0.0).amax(1)
        return rivals, leads(self.clean.logits, self.goal, rivals), slopes

    def slide(self, steps: int) -> Iterator[int]:
        """Along the boundary toward the images (L2): to what is nearest to them in [0, 1], as if it were straight; looks at
        the slopes `steps` times at most, and yields after each how often it may look again.

        Each step begins at the point before. From one that is not a success half of the step is taken, the next time a
        quarter, and else it goes onto the boundary. An image that has come no nearer is done.
        """
        rows = self._improvable()
        x, share = self.best[rows], torch.ones_like(self.clean_margin[rows])
        for left in reversed(range(steps if len(rows) else 0)):
            goal, before = self.goal.rows(rows), self.best_distance[rows]
            seen = self.look(x, rows)
            success = self.clear(seen.logits, rows)
            share = torch.where(success, share, share / 2)
            rival = goal.rivals(seen.logits, 1)
            plane = nearest(leads(seen.logits, goal, rival) + self.kappa, self.slopes(seen, rows, rival), "l2")
            self.degenerate[rows] |= plane.lost
            need = plane.lead + torch.maximum(
                AIM * (self.kappa - self.clean_margin[rows]), 2 * rounding(goal, seen.logits)
            )
            now, x0 = x.flatten(1).to(plane.way), self.x0[rows].flatten(1).to(plane.way)
            near = x0 + shortest(plane.way, need + (plane.way * (now - x0)).sum(1), x0, "l2")
            over = now + shortest(plane.way, need, now, "l2")
            ahead = torch.lerp(over, near, share.to(over)[:, None]).to(x.dtype).view_as(x).clamp(0, 1)
            keep = ~plane.lost & (self.best_distance[rows] < NO_NEARER * before)
            keep |= ~plane.lost & (share > LEAST_SHARE) & ~success | (left == steps - 1)
            kept = where_true(keep, *self.counts(keep))
            rows, x, share = rows[kept], ahead[kept], share[kept]
            self.show_best()
            yield left if len(rows) else 0
            if len(rows) == 0:
                return

    def refine(self, steps: int, share: Callable[[Tensor, Tensor], Tensor] = crossing) -> None:
        """Look for the boundary between each image and its best, and show the best."""
        rows = self._improvable()
        goal = self.goal.rows(rows)

        def look(x: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.look(x, rows, sloped=False).logits
            return goal.margin(logits) - self.kappa, self.clear(logits, rows)

        margins = self.clean_margin[rows] - self.kappa, goal.margin(self.best_logits[rows]) - self.kappa
        refine(look, (self.x0[rows], self.best[rows]), margins, steps, share)
        self.show_best()

    def _improvable(self) -> Tensor:
        """Rows of the images that have a success and may come nearer."""
        some = self.found & ~self.done()
        return where_true(some, *self.counts(some))
