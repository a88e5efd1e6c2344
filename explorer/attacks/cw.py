"""Carlini & Wagner's L2 attack (arXiv:1608.04644; search and resets as in the authors' l2_attack.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import check_norm, dead, look, revived
from explorer.attacks._linear import Sight, against, leads, likeliest, nearest
from explorer.core import Attack, Ball, Goal, Step, param, use_generator

FRAMES = 120  # of all updates about this many are yielded
LOOKS = 10  # how often in one search an image is asked whether it still gets better
STILL = 1.25  # / steps: it does not if the objective fell by less than this share
SHORTER = 0.999  # a search that leaves more than this share of the distance was idle
ANY = -1  # no class is asked for: the likeliest wrong one is
RIVALS = 9  # among so many of the likeliest wrong classes an image looks for a nearer one when a search was idle
WIDER = 0.9  # tanh of w at a white pixel (-WIDER at a black one), so that there is a slope
BEYOND = 0.001  # of the clean margin: so far beyond the boundary a slide aims
LAST = 0.1  # to this share the step shrinks within a search, once the distance is known
BETAS, TINY = (0.9, 0.999), 1e-8  # Adam's own constants


@ATTACKS.register(
    "cw",
    title="C&W",
    paper="arXiv:1608.04644",
    group="minimal",
    summary="Minimises the length of the change and a penalty together, again and again: slow, precise distances.",
)
@dataclass(frozen=True)
class CW(Attack):
    """min over w of ||x(w) - x0||^2 + c * max(0, kappa - margin(x(w))), with x(w) inside [0, 1] by a tanh.

    margin is the best other logit minus the label's (with a target the reverse): the paper's f, sign turned. Success is a
    margin above kappa. c is searched for each image by itself: times 10 until it succeeds, then halving between the
    largest that failed and the smallest that succeeded; from 10 searches on, the last one repeats that upper end. The
    variable and Adam begin anew in every search; the nearest success of all of them slides along the boundary for a while,
    and a bisection between the image and it ends at the boundary.
    Cost: one forward and one backward pass for each update of an image that still moves (no backward pass where every
    image of the batch has succeeded for the moment) and for each slide, one forward pass for the first look and each
    halving, and once a forward and up to 9 backward passes to look for another class.
    Of all updates about 120 are yielded, and every search's best point so far; Step.reached means a margin above kappa.
    differs: an image leaves a search by itself when its objective stands still, not when that of the batch does.
    differs: the penalty follows the likeliest wrong class, which need not be the nearest. An image that a search has not
    brought nearer by a thousandth therefore turns, without a target, to the class whose boundary is nearest by the slopes at
    the image (as DeepFool estimates it, among the 9 likeliest) if that is nearer than what was found: its penalty asks for
    that class from there on, until a search is idle again. Without such a class it is done with searching.
    differs: the tanh is widened to [-1/18, 19/18] and cut at [0, 1], so that x(w0) is the image, and black and white
    pixels have a slope (the authors scale by 0.999999, where it is a millionth).
    differs: once an image has a result, Adam's step is no longer than what a typical pixel changed by, and shrinks.
    differs: the slides and the bisection at the end. A slide goes from the best point to the one nearest to the image on
    the boundary as if it were straight there, as long as the points looked at succeed; else a smaller share of it.
    differs: a gradient that is exactly zero or not finite is replaced by a random direction (in a slide: the point stays).
    """

    budget: ClassVar[str] = "minimal"
    threats: ClassVar[tuple[str, ...]] = ("l2",)
    formula: ClassVar[str] = r"\min_w\ \lVert x_w - x\rVert_2^2 + c\,f(x_w)"
    explanation: ClassVar[str] = (
        r"Two wishes in one sum: keep the change short, and make some wrong logit $z_j$ beat the right one $z_y$ by "
        r"$\kappa$, which is what $f = \max(0,\ \kappa + z_y - \max_{j\ne y} z_j)$ asks for. The factor $c$ weighs "
        r"them: too small, and nothing happens; too large, and the change is longer than it must be. So $c$ is "
        r"searched for, with a fresh start each time. The picture $x_w$ is a tanh of the variable $w$, which keeps "
        r"every pixel inside its range. At the end a bisection moves the best result back to the very boundary."
    )
    presets = {
        "weak": {"searches": 5, "steps": 50},
        "standard": {},
        "strong": {"steps": 1000},
    }

    searches: int = param(9, "searches", lo=1, hi=20, help="How many values of c are tried.")
    steps: int = param(100, "steps per search", lo=1, hi=10000, help="Updates of one search at most.")
    kappa: float = param(
        0.0, "confidence", lo=0.0, hi=100.0, step=1.0, help="By how much the wrong class must lead (kappa), in logits."
    )
    lr: float = param(0.01, "learning rate", lo=0.0001, hi=1.0, step=0.005, help="Adam's step, in the tanh variable.")
    first_c: float = param(0.1, "first c", lo=1e-6, hi=1e6, step=0.1, help="The first weight of the penalty.")
    slides: int = param(
        8, "slides", lo=0, hi=100, help="Steps along the boundary toward the image, after the searches."
    )
    halvings: int = param(10, "halvings", lo=0, hi=30, help="Bisection steps to the boundary at the end.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )

    @property
    def expected_frames(self) -> int:
        """Steps that the walk yields at most."""
        return 2 + self.searches * (self._shown + 1) + self.slides

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes of one image at most."""
        turn = 1 + RIVALS if self.searches > 1 else 0
        return (1 + 2 * self.searches * self.steps + turn + 2 * self.slides + self.halvings) * self.draws

    @property
    def _every(self) -> int:
        """One of so many updates is yielded."""
        return math.ceil(self.searches * self.steps / FRAMES)

    @property
    def _shown(self) -> int:
        """Updates of one search that are yielded at most."""
        return len(range(0, self.steps, self._every))

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        x0 = x0.detach()
        work = _Work(self, x0, goal, ball, look(model, x0, goal, "margin", self.draws, rng).logits)
        over = bool(work.found.all())
        yield work.step(0 if over else self.expected_frames - 1)
        if over:
            return
        for search in range(self.searches):
            after = (self.searches - search - 1) * (self._shown + 1) + self.slides + 1  # steps to come afterwards
            work.begin(search)
            if len(work.rows) == 0:
                break
            for update in range(self.steps):
                if len(work.rows) == 0:
                    break
                work.update(model, update, rng)
                if update % self._every == 0:
                    yield work.step(work.index + self._shown - update // self._every + after)
                work.leave(update)
            work.end()
            if search + 1 < self.searches:
                work.turn(model, rng)
            yield work.step(work.index + after)
        work.begin_slides()
        for left in reversed(range(self.slides if len(work.rows) else 0)):
            work.slide(model, rng)
            yield work.step(work.index + left + 1)
        work.bisect(model, rng)
        yield work.step(work.index)


class _Work:
    """Where every image of one walk stands."""

    def __init__(self, attack: CW, x0: Tensor, goal: Goal, ball: Ball, logits: Tensor):
        self.attack, self.x0, self.goal, self.ball = attack, x0, goal, ball
        n, device = len(x0), x0.device
        self.index = 0  # of the next step
        self.x, self.logits = x0, logits  # shown
        self.best, self.best_logits = x0.clone(), logits.clone()
        self.clean_margin = goal.margin(logits)  # (N,)
        self.found = self.clean_margin > attack.kappa  # (N,) ever
        self.best_distance = torch.where(self.found, 0.0, torch.full((n,), math.inf, device=device))
        self.c = torch.full((n,), attack.first_c, device=device)
        self.worked = self.c  # the last that succeeded
        self.idle = torch.zeros_like(self.found)  # the last search brought nothing
        self.toward = torch.full_like(goal.labels, ANY)  # the class that the penalty asks for
        self.looked = torch.zeros_like(self.found)  # at the slopes of other classes
        self.promised = torch.full_like(logits, math.inf)  # (N,K) how far classes not tried yet are, by their slopes
        self.low, self.high = torch.zeros(n, device=device), torch.full((n,), math.inf, device=device)
        self.forwards = torch.full((n,), attack.draws, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.degenerate = torch.zeros(n, dtype=torch.bool, device=device)  # since the last step
        self.rows = torch.empty(0, dtype=torch.int64, device=device)  # images of the present search that still move

    def step(self, total: int) -> Step:
        degenerate, self.degenerate = self.degenerate, torch.zeros_like(self.degenerate)
        self.index += 1
        margin = self.goal.margin(self.logits)
        return Step(
            index=self.index - 1,
            total=total,
            x=self.x,
            logits=self.logits,
            loss=margin,
            distance=self.ball.distance(self.x, self.x0),
            reached=margin > self.attack.kappa,
            degenerate=degenerate,
            forwards=self.forwards,
            backwards=self.backwards,
            minimal=True,
        )

    def begin(self, search: int) -> None:
        """A new search for all images that could come nearer: all anew but c, its class and the step's length."""
        if search == self.attack.searches - 1 >= 9:
            self.c = torch.where(self.high.isfinite(), self.high, self.c)
        self.rows = going = ((self.best_distance > 0) & ~self.idle).nonzero()[:, 0]
        self.distance_before = self.best_distance.clone()
        self.w = torch.atanh(WIDER * (2 * self.x0[going] - 1))
        self.mean, self.square = torch.zeros_like(self.w), torch.zeros_like(self.w)
        self.before = torch.full((len(going),), math.inf, device=going.device)
        self.lowest = self.before.clone()
        pixel = self.best_distance[going] / math.sqrt(self.x0[0].numel())  # what a typical one changed by
        self.lr = pixel.clamp(max=self.attack.lr).view(-1, 1, 1, 1)
        self.fall = (1 - LAST) * (self.lr / pixel.view(-1, 1, 1, 1))  # none while nothing is found
        self.succeeded = torch.zeros_like(self.found)

    def update(self, model: nn.Module, update: int, rng: torch.Generator) -> None:
        """Look at the present points, keep what is nearer than before, and take one step of Adam."""
        rows, goal, kappa = self.rows, self.goal.rows(self.rows), self.attack.kappa
        tanh = torch.tanh(self.w)
        x0 = self.x0[rows]
        x = ((tanh / WIDER + 1) / 2).clamp(0, 1) if update else x0  # at first the same but for rounding
        toward = self.toward[rows]
        logits, penalty, gradient = _look(model, x, goal, toward, kappa, self.attack.draws, rng)
        self._spend(self.forwards, "forwards")
        change = x - x0
        square = change.square().flatten(1).sum(1)
        self.succeeded[rows] |= _margin(logits, goal, _rival(logits, goal, toward)) > kappa
        self._keep(rows, x, logits, goal.margin(logits) > kappa, square.sqrt())
        self.x, self.logits = self.x.index_copy(0, rows, x), self.logits.index_copy(0, rows, logits)
        self.lowest = torch.minimum(self.lowest, square + self.c[rows] * penalty)
        slope = 2 * change
        if gradient is not None:
            self._spend(self.backwards, "backwards")
            lost = dead(gradient) & (penalty > 0)
            self.degenerate[rows] |= lost
            slope = slope + self.c[rows].view(-1, 1, 1, 1) * revived(gradient, lost, rng)
        self._adam(slope * (1 - tanh.square()) / (2 * WIDER), update)

    def _adam(self, slope: Tensor, update: int) -> None:
        self.mean.lerp_(slope, 1 - BETAS[0])
        self.square.lerp_(slope.square(), 1 - BETAS[1])
        mean, square = self.mean / (1 - BETAS[0] ** (update + 1)), self.square / (1 - BETAS[1] ** (update + 1))
        edge = math.atanh(WIDER)
        lr = self.lr * (1 - self.fall * update / self.attack.steps)
        self.w = (self.w - lr * mean / (square.sqrt() + TINY)).clamp(-edge, edge)

    def _keep(self, rows: Tensor, x: Tensor, logits: Tensor, success: Tensor, distance: Tensor) -> None:
        nearer = success & (distance < self.best_distance[rows])
        if bool(nearer.any()):
            at = rows[nearer]
            self.best[at], self.best_logits[at], self.best_distance[at] = x[nearer], logits[nearer], distance[nearer]
            self.found[at] = True

    def leave(self, update: int) -> None:
        """From time to time, those whose objective stands still leave the search."""
        if update % max(self.attack.steps // LOOKS, 1):
            return
        keep = self.lowest <= (1 - STILL / self.attack.steps) * self.before
        self.before, self.lowest = self.lowest, torch.full_like(self.lowest, math.inf)
        if not bool(keep.all()):
            for name in ("rows", "w", "mean", "square", "before", "lowest", "lr", "fall"):
                setattr(self, name, getattr(self, name)[keep])

    def end(self) -> None:
        """The next c of each image; show the best so far."""
        self.idle = self.distance_before.isfinite() & (self.best_distance > SHORTER * self.distance_before)
        self.worked = torch.where(self.succeeded, self.c, self.worked)
        self.high = torch.where(self.succeeded, torch.minimum(self.high, self.c), self.high)
        self.low = torch.where(self.succeeded, self.low, torch.maximum(self.low, self.c))
        self.c = torch.where(self.high.isfinite(), (self.low + self.high) / 2, self.c * 10)
        self._show()

    def turn(self, model: nn.Module, rng: torch.Generator) -> None:
        """Images whose search was idle turn to the class that is nearest by the slopes at the image, of those not tried yet,
        if that is nearer than what was found: from the last c that succeeded, with new bounds.
        """
        if self.goal.is_targeted:
            return
        self.rows = new = (self.idle & ~self.looked).nonzero()[:, 0]
        if len(new):
            self.looked[new] = True
            goal = self.goal.rows(new)
            seen = Sight(model, self.x0[new], self.attack.draws, rng)
            self._spend(self.forwards, "forwards")
            rivals = likeliest(seen.logits, goal, RIVALS)  # (n,R)
            lengths = nearest(leads(seen.logits, goal, rivals) + self.attack.kappa, seen.slopes(goal, rivals), "l2").lengths
            self._spend(self.backwards, "backwards", rivals.shape[1])
            tried = rivals == likeliest(self.best_logits[new], goal, 1)
            lengths = lengths.masked_fill(tried, math.inf).to(self.promised.dtype)
            self.promised[new] = self.promised[new].scatter(1, rivals, lengths)
        length, nearer = self.promised.min(1)
        turns = self.idle & (length < self.best_distance)
        self.idle &= ~turns
        self.toward = torch.where(turns, nearer, self.toward)
        self.promised[turns, nearer[turns]] = math.inf
        self.c = torch.where(turns, self.worked, self.c)
        self.low, self.high = self.low.masked_fill(turns, 0.0), self.high.masked_fill(turns, math.inf)

    def _show(self) -> None:
        """The best where there is one, else the last point looked at."""
        self.x = torch.where(self.found.view(-1, 1, 1, 1), self.best, self.x)
        self.logits = torch.where(self.found[:, None], self.best_logits, self.logits)

    def begin_slides(self) -> None:
        self.rows = (self.found & (self.best_distance > 0)).nonzero()[:, 0]
        self.slid = self.best[self.rows]
        self.share = torch.ones(len(self.rows), device=self.x0.device)

    def slide(self, model: nn.Module, rng: torch.Generator) -> None:
        """Look at the present points, and go to the boundary as if it were straight: all of the way along its normal, and a
        share of the way along the boundary to what is nearest to the image; half of that from where a point failed.
        """
        rows, x, kappa = self.rows, self.slid, self.attack.kappa
        goal, change = self.goal.rows(rows), x - self.x0[rows]
        seen = Sight(model, x, self.attack.draws, rng)
        self._spend(self.forwards, "forwards")
        margin = goal.margin(seen.logits)
        self._keep(rows, x, seen.logits, margin > kappa, change.flatten(1).norm(dim=1))
        self._show()
        self.share = torch.where(margin > kappa, self.share, self.share / 2)
        slope = seen.slope(goal, likeliest(seen.logits, goal, 1)[:, 0], more=False)
        self._spend(self.backwards, "backwards")
        lost = dead(slope)
        self.degenerate[rows] |= lost
        steep = slope.square().flatten(1).sum(1)
        along = ((slope * change).flatten(1).sum(1) / steep).view(-1, 1, 1, 1) * slope
        aim = kappa + BEYOND * (kappa - self.clean_margin[rows])
        needed = ((aim - margin) / steep).view(-1, 1, 1, 1) * slope
        beside = (1 - self.share).view(-1, 1, 1, 1) * (change - along)
        self.slid = torch.where(lost.view(-1, 1, 1, 1), x, (self.x0[rows] + along + needed + beside).clamp(0, 1))

    def bisect(self, model: nn.Module, rng: torch.Generator) -> None:
        """Between the image and the best, ever nearer; every point that is kept was looked at."""
        rows = (self.found & (self.best_distance > 0)).nonzero()[:, 0]
        self.rows = rows
        goal, x0 = self.goal.rows(rows), self.x0[rows]
        change = self.best[rows] - x0
        low, high = (torch.full((len(rows), 1, 1, 1), share, device=x0.device) for share in (0.0, 1.0))
        for _ in range(self.attack.halvings if len(rows) else 0):
            middle = (low + high) / 2
            x = (x0 + middle * change).clamp(0, 1)
            logits = look(model, x, goal, "margin", self.attack.draws, rng).logits
            self._spend(self.forwards, "forwards")
            success = goal.margin(logits) > self.attack.kappa
            self._keep(rows, x, logits, success, (x - x0).flatten(1).norm(dim=1))
            success = success.view(-1, 1, 1, 1)
            low, high = torch.where(success, low, middle), torch.where(success, middle, high)
        self._show()

    def _spend(self, passes: Tensor, name: str, times: int = 1) -> None:
        setattr(self, name, passes.index_add(0, self.rows, torch.full_like(self.rows, times * self.attack.draws)))


def _rival(logits: Tensor, goal: Goal, toward: Tensor) -> Tensor:
    """(n,) the class that is to beat the label (with a target: to be beaten): that of `toward`, or the likeliest for ANY."""
    return torch.where(toward == ANY, likeliest(logits, goal, 1)[:, 0], toward)


def _margin(logits: Tensor, goal: Goal, rival: Tensor) -> Tensor:
    """(n,) Goal.margin with this rival."""
    return -leads(logits, goal, rival[:, None])[:, 0]


def _look(
    model: nn.Module, x: Tensor, goal: Goal, toward: Tensor, kappa: float, draws: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mean logits (n,K), mean penalty (n,) over the draws, and its gradient (n,C,H,W); None where all have succeeded."""
    with torch.enable_grad(), use_generator(rng):
        leaf = x.detach().requires_grad_(True)
        every = model(leaf.repeat_interleave(draws, dim=0)).float()
        logits, many = every.detach(), goal.repeated(draws)
        rival = _rival(logits, many, toward.repeat_interleave(draws))
        margin = _margin(logits, many, rival)
        # A tie is not yet a success: the slope ends beyond it.
        needed = margin <= kappa
        gradient = None
        if bool(needed.any()):
            fall = -against(logits, many, rival) * needed[:, None] / draws
            (gradient,) = torch.autograd.grad(every, leaf, fall)
    penalty = (kappa - margin).clamp(min=0)
    return logits.view(len(x), draws, -1).mean(1), penalty.view(-1, draws).mean(1), gradient
