"""Auto-PGD (Croce & Hein, arXiv:2003.01690) with cross-entropy, DLR (eq. 6) and targeted DLR (eq. 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Evaluation, Recorder, forward, replace_degenerate, value_and_grad
from explorer.attacks.pgd import PGD
from explorer.core import Goal, LossName, Region, Step, fixed, param
from explorer.core.dense import LinfRegion
from explorer.core.goal import dlr_logit_grad, spread
from explorer.core.waits import where_true

FIRST_STEP = 2.0  # x eps
OWN_SHARE = 0.75  # of an update; the rest repeats the one before (the paper's alpha)
RISING_SHARE = 0.75  # of a window's updates must raise the loss, or the step size is halved (rho)


@dataclass(frozen=True)
class _APGD(PGD, steps=100, rel_step=fixed(FIRST_STEP), loss=fixed("ce")):
    """Projected gradient ascent with momentum, whose step size starts at 2 eps and halves itself.

    Yields runs * (steps + 1) steps, the start of each run and one per update, fewer if `early_stop` ends the walk;
    steps + 1 forward and `steps` backward passes for each run and draw. The step size of an image is judged at
    `checkpoints`: if it is halved (`must_halve`), the image goes back to its best point so far.
    With several draws, loss and gradient are means over them, and the best point is the one of highest mean loss.
    A random start lies on the ball's surface (`surface`), as in the authors' code.
    differs: the last point's gradient, which nothing would use, is not computed; a gradient that is exactly zero or not
    finite gives way to a random direction; of points with the same loss the later is the best, since a very confident
    network's cross-entropy is 0 for long.
    """

    formula: ClassVar[str] = (
        r"z = \Pi\,\big[x_t + \eta\, d(\nabla_x L(x_t))\big],\quad "
        r"x_{t+1} = \Pi\,\big[x_t + 0.75\,(z - x_t) + 0.25\,(x_t - x_{t-1})\big]"
    )
    early_stop: bool = param(
        False,
        "stop when fooled",
        help="An image that is fooled leaves the batch: the same verdict for less work. Leave it off for a stochastic "
        "model, whose single answers are noise.",
    )

    @property
    def expected_frames(self) -> int:
        """At most, where there are enough classes."""
        return self.restarts * self._runs * (self.steps + 1)

    @property
    def expected_passes(self) -> int:
        """Forward and backward passes, at most."""
        return self.restarts * self._runs * (2 * self.steps + 1) * self.draws

    @property
    def _runs(self) -> int:
        """Within a restart."""
        return 1

    def start(self, region: Region, rng: torch.Generator) -> Tensor:
        return surface(region, rng)

    def ascend(self, model: nn.Module, goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        whole = region
        aims, forwards, backwards = self._aims(model, whole, goal, rng)
        runs = [(aim, restart) for restart in range(self.restarts) for aim in aims]
        recorder = Recorder(self, goal, whole, len(runs) * (self.steps + 1) - 1, self.early_stop)
        recorder.forwards, recorder.backwards = recorder.forwards + forwards, recorder.backwards + backwards
        rows = torch.arange(len(whole.x0), device=whole.x0.device)  # of the images still in the batch
        checks = checkpoints(self.steps)
        for number, (aim, restart) in enumerate(runs):
            region = whole.rows(rows)
            begin = self.start(region, rng) if self.random_start or restart else region.origin
            run = Run(self, region, begin)
            for update in range(self.steps + 1):
                last = update == self.steps
                look = forward if last else value_and_grad
                at = look(model, run.x, aim.rows(rows), self.loss, self.draws, rng)
                shown = at if aim is goal else replace(at, loss=self._mean_loss(goal.rows(rows), at))
                step = recorder.step(run.x, shown, rows, restart=number)
                yield step
                if step.index == step.total:
                    return
                if recorder.won > len(whole.x0) - len(rows):
                    left = where_true(~step.reached[rows], len(whole.x0) - recorder.won)
                    rows, at = rows[left], at.rows(left)
                    run.keep(left)
                if not last:
                    run.learn(at.loss, at.gradient)
                    if update in checks:
                        run.judge(checks[update])
                    run.move(rng)

    def _aims(self, model: nn.Module, region: Region, goal: Goal, rng: torch.Generator) -> tuple[list[Goal], int, int]:
        """What the runs of one restart ascend, and the forward and backward passes per image it took to find out."""
        return [goal], 0, 0

    def _mean_loss(self, goal: Goal, at: Evaluation) -> Tensor:
        """(n,) what `goal` itself says of the logits found with another aim, averaged over the draws."""
        return goal.repeated(self.draws).loss(at.each, self.loss).view(-1, self.draws).mean(1)


def surface(region: Region, rng: torch.Generator) -> Tensor:
    """A random point of each image's region: noise, uniform (L2: Gaussian), scaled to the length eps and cut to [0, 1]."""
    x0, flat = region.x0, isinstance(region, LinfRegion)
    draw = torch.rand if flat else torch.randn
    noise = draw(x0.shape, generator=rng, device=rng.device, dtype=x0.dtype).to(x0.device)
    noise = 2 * noise - 1 if flat else noise
    length = noise.abs().amax((1, 2, 3), keepdim=True) if flat else noise.square().sum((1, 2, 3), keepdim=True).sqrt()
    return region.project(x0 + region.size * noise / length)


def checkpoints(steps: int) -> dict[int, int]:
    """The updates after which the step size is judged, and how many updates each looks back on.

    w_j = ceil(p_j * steps), p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), up to 1.
    """
    found, p, wait, before = {}, 22, 22, 0  # p in hundredths: whole numbers round as they should
    while p <= 100:
        at = -(-p * steps // 100)
        if at > before:
            found[at] = at - before
        wait, before = max(wait - 3, 6), at
        p += wait
    return found


def must_halve(rises: Tensor, window: int, halved: Tensor, best_before: Tensor, best: Tensor) -> Tensor:
    """(n,) bool: the paper's two conditions. All (n,); `window` is the number of updates since the last check.

    1. At most 75 % of the updates raised the loss. 2. The step size was not halved at the last check, and the best loss
    has not risen since. (The paper's condition 1 has < for "at most"; the authors' code, as here, has <=.)
    """
    return (rises <= RISING_SHARE * window) | (~halved & (best <= best_before))


class Run:
    """Where each image of the batch stands in one run, and what it remembers."""

    loss: Tensor  # (n,), as all losses and flags here
    gradient: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    checked_loss: Tensor  # the best at the last check
    rises: Tensor  # how many updates since then raised the loss
    halved: Tensor

    def __init__(self, attack: _APGD, region: Region, x: Tensor):
        self.attack, self.region = attack, region
        self.x = x
        self.before: Tensor | None = None  # the point before x
        self.alpha = x.new_ones(len(x), 1, 1, 1) * attack.step_size(region.size)
        self.best: Tensor | None = None

    def learn(self, loss: Tensor, gradient: Tensor) -> None:
        """The mean loss (n,) and gradient at x."""
        if self.best is None:
            self.best, self.best_loss, self.best_gradient = self.x, loss, gradient
            self.checked_loss, self.rises = loss, torch.zeros_like(loss)
            self.halved = torch.ones_like(loss, dtype=torch.bool)  # the first check knows condition 1 only
        else:
            self.rises = self.rises + (loss > self.loss)
            better = (loss >= self.best_loss) | self.best_loss.isnan()
            where = better.view(-1, 1, 1, 1)
            self.best = torch.where(where, self.x, self.best)
            self.best_gradient = torch.where(where, gradient, self.best_gradient)
            self.best_loss = torch.where(better, loss, self.best_loss)
        self.loss, self.gradient = loss, gradient

    def judge(self, window: int) -> None:
        """Halve the step size where it is due, and go back to the best point there."""
        self.halved = must_halve(self.rises, window, self.halved, self.checked_loss, self.best_loss)
        self.checked_loss, self.rises = self.best_loss, torch.zeros_like(self.rises)
        assert self.best is not None
        back = self.halved.view(-1, 1, 1, 1)
        self.alpha = torch.where(back, self.alpha / 2, self.alpha)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)

    def move(self, rng: torch.Generator) -> None:
        """A projected gradient step, mixed with the update before."""
        direction = replace_degenerate(self.gradient, rng)
        ahead = self.attack.update(self.x, direction, self.region, self.alpha)
        if self.before is not None:
            mixed = self.x + OWN_SHARE * (ahead - self.x) + (1 - OWN_SHARE) * (self.x - self.before)
            ahead = self.region.project(mixed)
        self.before, self.x = self.x, ahead

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the images only: rows (n,), an index."""
        self.region = self.region.rows(rows)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])


@ATTACKS.register(
    "apgd-ce",
    title="APGD-CE",
    paper="arXiv:2003.01690",
    group="iterated",
    summary="PGD that sets its own step size: usually stronger than PGD, and nothing to tune but the number of steps.",
)
@dataclass(frozen=True)
class APGDCE(_APGD):
    __doc__ = _APGD.__doc__
    explanation: ClassVar[str] = (
        r"Climb the loss as PGD does, beginning with a step $\eta$ of the ball's whole width, and let each move keep a "
        r"quarter of the one before. At set checkpoints look back: if the loss rose too rarely, or its best value has "
        r"not improved, halve $\eta$ and go on from the best point found so far."
    )
    presets = {"weak": {"steps": 20}, "standard": {}, "strong": {"restarts": 5}}


@ATTACKS.register(
    "apgd-dlr",
    title="APGD-DLR",
    paper="arXiv:2003.01690, eq. 6",
    group="iterated",
    summary="APGD on a loss that does not fade when a model is very sure of itself.",
)
@dataclass(frozen=True)
class APGDDLR(_APGD, loss=fixed("dlr")):
    __doc__ = _APGD.__doc__
    explanation: ClassVar[str] = (
        r"The walk of APGD-CE, but what is climbed is the difference of logits ratio: how far the best wrong class is "
        r"ahead of the true one, measured in units of the distance between the first and the third best class. "
        r"Multiplying all logits by a large number, which hides the slope of cross-entropy, changes nothing here."
    )
    presets = {"weak": {"steps": 20}, "standard": {}, "strong": {"restarts": 5}}


@ATTACKS.register(
    "apgd-t",
    title="APGD-T",
    paper="arXiv:2003.01690, eq. 7",
    group="iterated",
    summary="APGD toward each of the likeliest wrong classes in turn: slow, and among the strongest.",
)
@dataclass(frozen=True)
class APGDT(_APGD, loss=fixed("dlr")):
    """APGD on the targeted DLR loss, one run toward each of the likeliest wrong classes at the clean image.

    They are found with one more forward pass a draw. The steps report the untargeted DLR loss, by which the runs can
    be compared. If the goal is a class, there is one run, toward that class. Otherwise as APGD-CE.
    """

    explanation: ClassVar[str] = (
        r"An attack that may end in any wrong class tends to run for the nearest one, which is not always the one that "
        r"can be reached. So run APGD once toward each of the likeliest wrong classes, with a loss that compares just "
        r"that class with the true one, and keep the best."
    )
    presets = {"weak": {"steps": 20, "target_classes": 3}, "standard": {}, "strong": {"restarts": 3}}

    target_classes: int = param(
        9, "target classes", lo=1, hi=999, help="How many of the likeliest wrong classes are tried, one run each."
    )

    @property
    def _runs(self) -> int:
        return self.target_classes

    def _aims(self, model: nn.Module, region: Region, goal: Goal, rng: torch.Generator) -> tuple[list[Goal], int, int]:
        if goal.is_targeted:
            return [goal], 0, 0
        rivals, backwards = self._rivals(model, region, goal, rng)
        return [Toward(goal.labels, rival=rival) for rival in rivals.T], self.draws, backwards

    def _rivals(self, model: nn.Module, region: Region, goal: Goal, rng: torch.Generator) -> tuple[Tensor, int]:
        """(N,R) the classes to try, found with one forward pass a draw, and the backward passes it took besides."""
        logits = forward(model, region.x0, goal, "margin", self.draws, rng).logits
        return goal.rivals(logits, self.target_classes), 0


@dataclass(frozen=True, eq=False)
class Toward(Goal):
    """Leave class `labels` (N,) for class `rival` (N,), by the targeted DLR loss, eq. 7."""

    rival: Tensor = field(kw_only=True)

    def loss(self, logits: Tensor, kind: LossName = "dlr") -> Tensor:
        return self._gap(logits) / spread(logits, targeted=True)[0]

    def logit_grad(self, logits: Tensor, kind: LossName = "dlr") -> Tensor:
        return self._slope(logits)[0]

    def log_grad_norm(self, logits: Tensor, kind: LossName = "dlr") -> Tensor:
        return self._slope(logits)[1]

    def rows(self, keep: Tensor) -> Toward:
        return Toward(self.labels[keep], rival=self.rival[keep])

    def repeated(self, times: int) -> Toward:
        return Toward(self.labels.repeat_interleave(times), rival=self.rival.repeat_interleave(times))

    def _gap(self, logits: Tensor) -> Tensor:
        return (logits.gather(1, self.rival[:, None]) - logits.gather(1, self.labels[:, None]))[:, 0]

    def _slope(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        rival, own = (F.one_hot(k, logits.shape[1]).to(logits.dtype) for k in (self.rival, self.labels))
        return dlr_logit_grad(rival - own, self._gap(logits), logits, targeted=True)
