"""One change against several risks at once, each with a learned weight: several models, or several norms.

Wang et al., arXiv:1906.03563: a min-max problem over the change and the weights on the probability simplex.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks._ascent import View, check_norm, dead, log_scale, look, look_and_pull, relative, revived
from explorer.core import LOSSES, USUAL_EPS, Ball, Goal, Hyper, InvalidValue, Region, Step, param
from explorer.core.ball import EPS_LEAST, EPS_LIMIT
from explorer.core.steps import Domains
from explorer.models import zoo

MOST = 5  # models beside the attacked one: each costs as much as it
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_NORMS = {"linf": "L∞", "l2": "L2"}


@dataclass(frozen=True)
class _Domain:
    """One risk: a model, and the region into which the common image is drawn before that model sees it."""

    name: str
    model: nn.Module
    region: Region | None = None  # None: the common image itself


@dataclass(frozen=True)
class _MinMax(Hyper):
    budget: ClassVar[str] = "fixed"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    presets = {
        "weak": {"steps": 10, "rel_step": 0.25},
        "standard": {"steps": 40, "rel_step": 0.1},
        "strong": {"steps": 100, "rel_step": 0.05, "restarts": 3},
    }

    steps: int = param(40, "steps", lo=1, hi=1000, help="How many times image and weights are updated.")
    rel_step: float = param(
        0.1, "step size", lo=0.001, hi=2.0, unit="x eps", step=0.005, help="Length of one update, relative to eps."
    )
    weight_step: float = param(
        0.02, "weight step", lo=0.0, hi=10.0, step=0.01, help="How fast the weights are learned; 0 keeps them equal."
    )
    gamma: float = param(
        2.0, "pull to equal weights", lo=0.0, hi=100.0, step=0.5,
        help="Keeps the weights near each other: 0 looks for the worst case only, a large value for the average.",
    )  # fmt: skip
    random_start: bool = param(True, "random start", help="Begin at a random point of the ball instead of at the image.")
    restarts: int = param(1, "restarts", lo=1, hi=100, help="Independent tries from new random starts; the best is kept.")
    draws: int = param(
        1, "draws per step", lo=1, hi=512, help="Gradients averaged over this many passes of a stochastic model (EOT)."
    )
    loss: str = param(
        "margin", "loss", choices=LOSSES,
        help="What is pushed up, and compared for the weights: cross-entropy, or the margin between the best two logits.",
    )  # fmt: skip

    @property
    def expected_passes(self) -> int:
        return self._domain_count * self.restarts * (2 * self.steps + 1) * self.draws

    @property
    def _domain_count(self) -> int:
        raise NotImplementedError

    def _ascend(self, domains: list[_Domain], x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        """The alternating ascent; the first domain is the one that the fields of the steps speak of."""
        region, each, count = ball.around(x0), self.steps + 1, len(domains)
        names = tuple(domain.name for domain in domains)
        passes = torch.zeros(len(x0), dtype=torch.int64, device=x0.device)
        forwards = backwards = passes
        for index in range(self.restarts * each):
            restart, at = divmod(index, each)
            if at == 0:
                x = region.sample(rng) if self.random_start or restart > 0 else x0.clone()
                weights = x0.new_full((len(x0), count), 1 / count)
            last = at == self.steps
            views = [self._view(domain, x, goal, rng, last) for domain in domains]
            losses = torch.stack([view.loss for view in views], 1)
            forwards, backwards = forwards + count * self.draws, backwards + (0 if last else count * self.draws)
            gradient = None if last else self._together(views, weights, goal)
            yield Step(
                index=index,
                total=self.restarts * each - 1,
                x=x,
                logits=views[0].logits,
                loss=losses.amin(1),
                distance=region.distance(x),
                reached=goal.reached(views[0].logits),
                degenerate=torch.zeros_like(passes, dtype=torch.bool) if last else dead(gradient),
                forwards=forwards,
                backwards=backwards,
                restart=restart,
                domains=Domains(names, weights, losses, torch.stack([goal.reached(v.logits) for v in views], 1)),
            )
            if not last:
                way = ball.steepest(revived(gradient, dead(gradient), rng))
                x = region.project(torch.add(x, way, alpha=self.rel_step * ball.eps))
                weights = reweighted(weights, -losses, self.weight_step, self.gamma)

    def _view(self, domain: _Domain, x: Tensor, goal: Goal, rng: torch.Generator, last: bool) -> View:
        seen = x if domain.region is None else domain.region.project(x)
        return (look if last else look_and_pull)(domain.model, seen, goal, self.loss, self.draws, rng)

    def _together(self, views: list[View], weights: Tensor, goal: Goal) -> Tensor:
        """(N,C,H,W) up to scale: the weighted sum of the domains' gradients, each at its true size; dead ones left out."""
        scales = torch.stack([log_scale(view, goal, self.loss) for view in views], 1) + weights.log()  # (N,K)
        lost = torch.stack([dead(view.gradient) for view in views], 1)
        shares = relative(scales.masked_fill(lost, -math.inf), 1).masked_fill(lost, 0)
        parts = [view.gradient * share.view(-1, 1, 1, 1) for view, share in zip(views, shares.unbind(1), strict=True)]
        return sum(part.masked_fill(gone.view(-1, 1, 1, 1), 0) for part, gone in zip(parts, lost.unbind(1), strict=True))


@ATTACKS.register(
    "minmax",
    title="Min-max over models",
    paper="arXiv:1906.03563",
    group="iterated",
    summary="One picture that is to fool several models at once; the model that resists most gets the most weight.",
)
@dataclass(frozen=True)
class MinMaxModels(_MinMax):
    """max over delta in the ball of min over w of sum_k w_k L_k(x + delta) + gamma/2 ||w - 1/K||^2, w on the simplex.

    In turn x <- project(x + alpha * steepest(sum_k w_k grad L_k)) and w <- simplex(w - beta * (L + gamma (w - 1/K))):
    the paper's alternating one-step projected gradient method, whose attack losses are -L_k. K models: the attacked one
    and `models`. `Step.loss` is the least of the K losses, `Step.domains` holds all of them with their weights; logits,
    `reached` and everything else are the attacked model's. Passes are those of all models together.
    With no further model K is 1, and this is PGD. Each image of a batch has weights of its own.
    differs: the paper shares the weights in a batch and cuts its margin loss at a confidence; a gradient that is exactly
    zero or not finite in all models gives way to a random step, one that is so in some is left out.
    """

    formula: ClassVar[str] = (
        r"\max_\delta\, \min_w\, \textstyle\sum_k w_k L_k(\delta) + \tfrac{\gamma}{2} \lVert w - \tfrac1K \rVert^2"
    )
    explanation: ClassVar[str] = (
        r"Look for one change $\delta$ that fools $K$ models at the same time; $L_k(\delta)$ is model $k$'s loss at "
        r"the changed picture. In turn, the picture takes a step up the weighted sum of all models' losses, and the "
        r"weights $w$, which are at least 0 and together 1, move toward the model with the smallest loss, the one "
        r"that resists most; $\gamma$ pulls them back toward equal weights. The weights learned are a finding of "
        r"their own: they say which model was hardest to fool. The loss drawn after the first frame is the smallest "
        r"of all models'; the walk and the verdict show the model chosen above."
    )

    models: str = param(
        "", "and these models", widget="models", strength=False,
        help="The other models to fool with the same picture: names such as cifar10/baseline, joined by a plus or a comma.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.partners
        if not all(_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names) or len(names) > MOST:
            raise InvalidValue(
                f"models must be up to {MOST} different names such as cifar10/baseline, joined by + or commas; "
                f"got {self.models!r}."
            )
        for name in names:
            zoo.card_path(name)  # raises UnknownName
        object.__setattr__(self, "models", "+".join(names))

    @property
    def partners(self) -> tuple[str, ...]:
        """The names of the other models."""
        return tuple(part for part in re.split(r"[+,\s]+", self.models) if part)

    @property
    def aside(self) -> str:
        """What a title adds."""
        return f"together with {' and '.join(self.partners)}" if self.partners else "with no other model"

    @property
    def _domain_count(self) -> int:
        return 1 + len(self.partners)

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        domains = [_Domain("this model", model)]
        for name in self.partners:
            other = zoo.load(name, x0.device)
            if other.input_shape != tuple(x0.shape[1:]):
                raise InvalidValue(f"models must take pictures of shape {tuple(x0.shape[1:])}; {name} takes {other.input_shape}.")
            domains.append(_Domain(name, other))
        return self._ascend(domains, x0.detach(), goal, ball, rng)


@ATTACKS.register(
    "minmax-norms",
    title="Min-max over norms",
    paper="arXiv:1906.03563",
    group="iterated",
    summary="One pattern that is to fool the model in L∞ and, cut to size, in L2 as well; with learned weights.",
)
@dataclass(frozen=True)
class MinMaxNorms(_MinMax):
    """The same ascent over K = 2 norms: one change delta of the asked ball, seen whole, and drawn into the other norm's.

    Domain 1 is x0 + delta in the asked ball, domain 2 its projection into the ball of the other norm (`linf_eps` or
    `l2_eps`), which lies in both. Steps yield the first, whose norm and eps are the asked ones; `Step.loss` is the
    smaller of both losses, `Step.domains` holds both with their weights.
    differs: the paper weights norms when it trains a network, each with a change of its own; for a fixed network that
    would be separate attacks, so here one change has to serve all norms, as it serves all domains elsewhere in the
    paper. The gradient passes through the projection as if that were the identity.
    """

    formula: ClassVar[str] = (
        r"\max_\delta\, \min_w\, w_1 L(\delta) + w_2 L(\Pi' \delta) + \tfrac{\gamma}{2} \lVert w - \tfrac12 \rVert^2"
    )
    explanation: ClassVar[str] = (
        r"Look for one pattern $\delta$ that fools the model under two measures of change: as it is, inside the norm "
        r"and eps chosen above, and after $\Pi'$ has drawn it into a ball of the other norm, too. In turn, the "
        r"picture takes a step up the weighted sum of both losses, and the weights $w$, at least 0 and together 1, "
        r"move toward the smaller loss. A weight near 1 says which of the two balls was the harder one for this "
        r"picture. The picture shown is the one inside the norm chosen above; the drawn-in one changes even less. The "
        r"loss drawn after the first frame is the smaller of the two."
    )

    linf_eps: float = param(
        USUAL_EPS["linf"], "L∞ eps, where L2 is asked", lo=EPS_LEAST, hi=EPS_LIMIT["linf"], step=0.01, strength=False,
        help="Size of the second ball, in pixel units, if the norm above is L2: 8/255 is 0.0314.",
    )  # fmt: skip
    l2_eps: float = param(
        USUAL_EPS["l2"], "L2 eps, where L∞ is asked", lo=EPS_LEAST, hi=EPS_LIMIT["l2"], step=0.25, strength=False,
        help="Size of the second ball, as a length, if the norm above is L∞.",
    )  # fmt: skip

    @property
    def _domain_count(self) -> int:
        return 2

    def walk(self, model: nn.Module, x0: Tensor, goal: Goal, ball: Ball, rng: torch.Generator) -> Iterator[Step]:
        check_norm(self, ball)
        x0 = x0.detach()
        other = Ball("l2", self.l2_eps) if ball.norm == "linf" else Ball("linf", self.linf_eps)
        domains = [_Domain(_NORMS[ball.norm], model), _Domain(_NORMS[other.norm], model, other.around(x0))]
        return self._ascend(domains, x0, goal, ball, rng)


def reweighted(weights: Tensor, gain: Tensor, step: float, gamma: float) -> Tensor:
    """(N,K) on the simplex: one projected step up sum_k w_k gain_k - gamma/2 ||w - 1/K||^2.

    With step 1/gamma it ends at the maximum, wherever it begins.
    """
    return onto_simplex(weights + step * (gain - gamma * (weights - 1 / weights.shape[1])))


def onto_simplex(v: Tensor) -> Tensor:
    """The nearest point of {w >= 0, sum w = 1} to each row of v (N,K), by the sorting of Duchi et al. (ICML 2008)."""
    falling = v.sort(1, descending=True).values
    ranks = torch.arange(1, v.shape[1] + 1, device=v.device)
    cuts = (falling.cumsum(1) - 1) / ranks
    kept = (falling > cuts).sum(1, keepdim=True)  # at least 1: the largest exceeds itself minus 1
    return (v - cuts.gather(1, kept - 1)).clamp(min=0)
