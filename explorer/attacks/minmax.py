"""One change against several risks at once, each with a learned weight: several models, or several norms.

Wang et al., arXiv:1906.03563: a min-max problem over the change and the weights on the probability simplex.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import (
    Evaluation,
    Network,
    Recorder,
    forward,
    relative,
    replace_degenerate,
    value_and_grad,
)
from explorer.attacks.pgd import PGD
from explorer.core import L2, LOSSES, USUAL_EPS, Goal, InvalidValue, Linf, LossName, Region, Step, ThreatModel, param
from explorer.core.ball import EPS_LEAST, EPS_LIMIT
from explorer.core.rng import rng_on
from explorer.core.steps import Domains
from explorer.models import zoo

MOST = 5  # models beside the attacked one: each costs as much as it
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_NORMS = {"linf": "L∞", "l2": "L2"}


@dataclass(frozen=True)
class Domain:
    """One risk: a model, and the region into which the common image is drawn before that model sees it."""

    name: str
    model: Network
    region: Region | None = None  # None: the common image itself

    def seen(self, x: Tensor) -> Tensor:
        """What the model is shown of the common images x."""
        return x if self.region is None else self.region.project(x)


@dataclass(frozen=True)
class MinMax(PGD, steps=40, rel_step=0.1):
    bfloat16 = False  # the other networks' passes are in float32
    presets = {
        "weak": {"steps": 10, "rel_step": 0.25},
        "standard": {"steps": 40, "rel_step": 0.1},
        "strong": {"steps": 100, "rel_step": 0.05, "restarts": 3},
    }

    weight_step: float = param(
        0.02, "weight step", lo=0.0, hi=10.0, step=0.01, help="How fast the weights are learned; 0 keeps them equal."
    )
    gamma: float = param(
        2.0, "pull to equal weights", lo=0.0, hi=100.0, step=0.5,
        help="Keeps the weights near each other: 0 looks for the worst case only, a large value for the average.",
    )  # fmt: skip
    loss: LossName = param(
        "margin",
        "loss",
        choices=LOSSES,
        help="What is pushed up, and compared for the weights: cross-entropy, the margin of the best two logits, or DLR.",
    )

    @property
    def expected_passes(self) -> int:
        return self._domain_count * self.restarts * (2 * self.steps + 1) * self.draws

    @property
    def _domain_count(self) -> int:
        raise NotImplementedError

    def alternate(self, domains: list[Domain], goal: Goal, region: Region, rng: torch.Generator) -> Iterator[Step]:
        """The alternating ascent; the first domain is the one that the fields of the steps speak of."""
        names, count = tuple(domain.name for domain in domains), len(domains)
        recorder = Recorder(self, goal, region, self.restarts * (self.steps + 1) - 1)
        rng = rng_on(region.x0.device, rng)

        def step(x: Tensor, weights: Tensor, views: list[Evaluation], gradient: Tensor | None, restart: int) -> Step:
            losses, reached = (
                torch.stack(v, 1) for v in ([at.loss for at in views], [goal.reached(at.logits) for at in views])
            )
            forwards, backwards = count * self.draws, count * views[0].backwards
            first = replace(views[0], loss=losses.amin(1), grad=gradient, forwards=forwards, backwards=backwards)
            return recorder.step(x, first, restart=restart, domains=Domains(names, weights, losses, reached))

        for restart in range(self.restarts):
            x = self.start(region, rng) if self.random_start or restart > 0 else region.origin
            weights = x.new_full((len(x), count), 1 / count)
            for _ in range(self.steps):
                views = [value_and_grad(d.model, d.seen(x), goal, self.loss, self.draws, rng) for d in domains]
                gradient = self._together(views, weights, goal)
                yield step(x, weights, views, gradient, restart)
                x = self.update(x, replace_degenerate(gradient, rng), region, self.step_size(region.size))
                weights = reweighted(weights, -torch.stack([at.loss for at in views], 1), self.weight_step, self.gamma)
            views = [forward(d.model, d.seen(x), goal, self.loss, self.draws, rng) for d in domains]
            yield step(x, weights, views, None, restart)

    def _together(self, views: list[Evaluation], weights: Tensor, goal: Goal) -> Tensor:
        """(N,C,H,W) up to scale: the domains' gradients, each at its true size, weighted and summed; not degenerate ones."""
        scales = torch.stack([at.log_scale(goal, self.loss) for at in views], 1) + weights.log()  # (N,K)
        lost = torch.stack([at.degenerate for at in views], 1)
        shares = relative(scales.masked_fill(lost, -math.inf), 1).masked_fill(lost, 0)
        whole = torch.zeros_like(views[0].gradient)
        for at, share, gone in zip(views, shares.unbind(1), lost.unbind(1), strict=True):
            whole = whole + (at.gradient * share.view(-1, 1, 1, 1)).masked_fill(gone.view(-1, 1, 1, 1), 0)
        return whole


@ATTACKS.register(
    "minmax",
    title="Min-max over models",
    paper="arXiv:1906.03563",
    group="iterated",
    summary="One picture that is to fool several models at once; the model that resists most gets the most weight.",
)
@dataclass(frozen=True)
class MinMaxModels(MinMax):
    """max over delta in the ball of min over w of sum_k w_k L_k(x + delta) + gamma/2 ||w - 1/K||^2, w on the simplex.

    In turn x <- project(x + alpha * steepest(sum_k w_k grad L_k)) and w <- simplex(w - beta * (L + gamma (w - 1/K))):
    the paper's alternating one-step projected gradient method, whose attack losses are -L_k. K models: the attacked one
    and `models`. `Step.loss` is the least of the K losses, `Step.domains` holds all of them with their weights; logits,
    `reached` and everything else are the attacked model's. Passes are those of all models together.
    With no further model K is 1, and this is PGD. Each image of a batch has weights of its own.
    differs: the paper shares the weights in a batch and cuts its margin loss at a confidence; a gradient that is exactly
    zero or not finite in all models gives way to a random step, one that is so in some is left out, and the weights of
    an image with a loss that is not finite stay.
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

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        domains = [Domain("this model", model)]
        for name in self.partners:
            other = zoo.load(name, x0.device)
            if other.input_shape != tuple(x0.shape[1:]):
                raise InvalidValue(
                    f"models must take pictures of shape {tuple(x0.shape[1:])}; {name} takes {other.input_shape}."
                )
            domains.append(Domain(name, other))
        return self.alternate(domains, goal, threat.around(x0.detach()), rng)


@ATTACKS.register(
    "minmax-norms",
    title="Min-max over norms",
    paper="arXiv:1906.03563",
    group="iterated",
    summary="One pattern that is to fool the model in L∞ and, cut to size, in L2 as well; with learned weights.",
)
@dataclass(frozen=True)
class MinMaxNorms(MinMax):
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

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        x0 = x0.detach()
        other = L2(self.l2_eps) if threat.name == "linf" else Linf(self.linf_eps)
        domains = [Domain(_NORMS[threat.name], model), Domain(_NORMS[other.name], model, other.around(x0))]
        return self.alternate(domains, goal, threat.around(x0), rng)


def reweighted(weights: Tensor, gain: Tensor, step: float, gamma: float) -> Tensor:
    """(N,K) on the simplex: one projected step up sum_k w_k gain_k - gamma/2 ||w - 1/K||^2.

    With step 1/gamma it ends at the maximum, wherever it begins. Where a gain is not finite the weights stay.
    """
    known = gain.isfinite().all(1, keepdim=True)
    gain = torch.where(known, gain, 0)
    return torch.where(known, onto_simplex(weights + step * (gain - gamma * (weights - 1 / weights.shape[1]))), weights)


def onto_simplex(v: Tensor) -> Tensor:
    """The nearest point of {w >= 0, sum w = 1} to each row of v (N,K), by the sorting of Duchi et al. (ICML 2008)."""
    falling = v.sort(1, descending=True).values
    ranks = torch.arange(1, v.shape[1] + 1, device=v.device)
    cuts = (falling.cumsum(1) - 1) / ranks
    kept = (falling > cuts).sum(1, keepdim=True)  # at least 1: the largest exceeds itself minus 1
    return (v - cuts.gather(1, kept - 1)).clamp(min=0)
