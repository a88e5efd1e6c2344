"""Min-max over transformations: one change that also fools when the picture is turned, shifted, noisy or brighter.

Wang et al., arXiv:1906.03563, section 3.2: each transformation is a domain with a learned weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from explorer.attacks import ATTACKS
from explorer.attacks.gradient import Network, gaussian
from explorer.attacks.minmax import Domain, MinMax
from explorer.core import Goal, RotationShift, Step, ThreatModel, current_rng, param


@ATTACKS.register(
    "minmax-transformations",
    title="Min-max over transformations",
    paper="arXiv:1906.03563",
    group="iterated",
    summary="One change that fools as it is and when the picture is turned, shifted, noisy or brighter; with learned weights.",
)
@dataclass(frozen=True)
class MinMaxTransformations(MinMax):
    """max over delta in the ball of min over w of sum_k w_k L(t_k(x + delta)) + gamma/2 ||w - 1/K||^2 (eq. 8), t_0 the identity.

    The others: a turn by `angle`, a shift by `shift` pixels to the right and down, Gaussian noise of `noise`, drawn anew at each
    look, and `brightness` added; one that is 0 is left out. Everything is cut to [0, 1]. The gradient goes through them.
    `Step.loss` is the least of the K losses, `Step.domains` holds all with their weights; logits and `reached` are those of the
    picture as it is.
    differs: the paper's transformations are flips, crops, brightness and colours; there is one draw of noise a look.
    """

    formula: ClassVar[str] = (
        r"\max_\delta\, \min_w\, \textstyle\sum_k w_k L\big(t_k(x + \delta)\big) + \tfrac{\gamma}{2} \lVert w - \tfrac1K \rVert^2"
    )
    explanation: ClassVar[str] = (
        r"A change that fools a network on the screen may fail on a photograph of the screen, which is turned a little, noisy, or "
        r"brighter. So look for one change that fools under all these views $t_k$ at once: the picture climbs the weighted sum of "
        r"their losses, and the weights $w$ move toward the view that resists most. The weights learned say which one that is."
    )

    angle: float = param(10.0, "turn", lo=-180.0, hi=180.0, step=1.0, unit="degrees", help="0: no turned view.")
    shift: float = param(
        2.0, "shift", lo=-16.0, hi=16.0, step=1.0, unit="pixels", help="Right and down; 0: no shifted view."
    )
    noise: float = param(
        0.05, "noise", lo=0.0, hi=1.0, step=0.01, help="Standard deviation, in pixel units; 0: no noisy view."
    )
    brightness: float = param(
        0.1, "brightness", lo=-1.0, hi=1.0, step=0.05, help="Added to all values; 0: no such view."
    )

    @property
    def _domain_count(self) -> int:
        return 1 + sum(value != 0 for value in (self.angle, self.shift, self.noise, self.brightness))

    def walk(
        self, model: nn.Module, x0: Tensor, goal: Goal, threat: ThreatModel, rng: torch.Generator
    ) -> Iterator[Step]:
        self.check_threat(threat)
        views = {
            "turned": partial(moved, theta=(self.angle, 0.0, 0.0)) if self.angle else None,
            "shifted": partial(moved, theta=(0.0, self.shift, self.shift)) if self.shift else None,
            "noisy": partial(noisy, sigma=self.noise) if self.noise else None,
            "brighter": partial(brighter, by=self.brightness) if self.brightness else None,
        }
        domains = [Domain("as it is", model)]
        domains += [Domain(name, partial(_through, model, view)) for name, view in views.items() if view is not None]
        return self.alternate(domains, goal, threat.around(x0.detach()), rng)


def _through(model: Network, view: Network, pixels: Tensor) -> Tensor:
    return model(view(pixels))


def moved(x: Tensor, theta: tuple[float, float, float]) -> Tensor:
    """x (N,C,H,W) turned (degrees) and shifted (pixels to the right, down), bilinear, black outside; differentiable in x."""
    limits = RotationShift(angle=max(abs(theta[0]), 1.0), shift=max(abs(theta[1]), abs(theta[2]), 1.0))
    return limits.around(x).apply(x.new_tensor(theta).expand(len(x), 3))


def noisy(x: Tensor, sigma: float) -> Tensor:
    """x with Gaussian noise of the generator in use (`use_generator`), cut to [0, 1]."""
    rng = current_rng(x.device)
    assert rng is not None, "a look hands in its generator"
    return (x + sigma * gaussian(x, rng)).clamp(0, 1)


def brighter(x: Tensor, by: float) -> Tensor:
    """x + by, cut to [0, 1]."""
    return (x + by).clamp(0, 1)
