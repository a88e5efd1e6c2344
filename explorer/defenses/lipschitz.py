"""A 1-Lipschitz network with certified L2 radii (SLL; Araujo et al., arXiv:2303.03169): one pass tells each picture's radius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.certify.lipschitz import radii
from explorer.core import Classifier, InvalidValue, param
from explorer.defenses import RECIPES
from explorer.defenses.recipe import Each, OptimizerName, Recipe, counted

if TYPE_CHECKING:
    from explorer.models.lipschitz_net import LipschitzNet

RADIUS = 36 / 255  # L2: an epoch is scored by the share certified at it, the smallest one that papers report
PART = 250  # images scored at a time


@RECIPES.register(
    "lipschitz",
    title="1-Lipschitz",
    paper="arXiv:2303.03169; arXiv:2208.03160",
    group="certified",
    summary="No layer enlarges a difference between two pictures, so the lead of the winner is a proven radius in L2.",
)
@dataclass(frozen=True)
class Lipschitz(Recipe, epochs=24, lr=0.01, weight_decay=0.0, label_smoothing=0.0):
    """Cross-entropy after the true class has been set back by the lead that a radius asks for (Prach and Lampert, section 5).

    differs: the loss's temperature and offset are ours; Adam on one cycle; averaged weights; far fewer and smaller layers,
    and no dense ones, than the paper's.
    """

    optimizer: ClassVar[OptimizerName] = "adam"
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}_{(x,y)}\, t\, L\Big(\tfrac{1}{t}\big(f_\theta(x) - \sqrt{2}\,\rho\, e_y\big),\, y\Big),\quad "
        r"\|f^{(l)}(a) - f^{(l)}(b)\|_2 \le \|a - b\|_2\ \text{for every layer } l"
    )
    explanation: ClassVar[str] = (
        r"Every layer is built so that it cannot enlarge a difference: $x - 2 W^\top T^{-1} \max(W x + b, 0)$ with a diagonal $T$ "
        r"that is computed from $W$. So a change of the picture of length $r$ moves the features by at most $r$, and the lead of class "
        r"$i$ over class $k$ by at most $r\,\|w_i - w_k\|$, $w$ being the rows of the last layer, of length 1: the lead *is* a proof, "
        r"at the price of one pass. Such a network cannot be steep, so it learns slowly; the loss sets the true class back by "
        r"$\sqrt{2}\,\rho$, so that it must win by a lead which is worth a radius."
    )
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "width": 16, "depths": "1-1"}

    radius: float = param(
        0.2,
        "radius",
        lo=0.0,
        hi=10.0,
        unit="pixel range",
        help="In L2, that the true class's lead is asked to be worth (rho).",
    )
    temperature: float = param(0.25, "temperature", lo=0.001, hi=10.0, help="Below 1, leads count as more decided (t).")
    width: int = param(
        32, "width", lo=16, hi=128, unit="channels", help="Channels of the first stage, at half the resolution."
    )
    depths: str = param(
        "4-3-4", "depths", help='Layers of each stage, as "5-4"; those of a third one mix channels alone.'
    )

    def architecture(self) -> tuple[str, dict[str, Any]]:
        depths = self.depths.split("-")
        if not all(n.isdecimal() and int(n) <= 100 for n in depths):
            raise InvalidValue(f'depths must be numbers of layers in [0, 100] such as "5-4"; got {self.depths!r}.')
        return "lipschitz-net", {"width": self.width, "depths": [int(n) for n in depths], "kernels": [3, 3, 1]}

    def loss(self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, epoch: int = 0) -> Tensor:
        logits = model(x).float()
        behind = logits - 2**0.5 * self.radius * F.one_hot(y, logits.shape[1])
        return self.temperature * self.cross_entropy(behind / self.temperature, y)

    def score(
        self, model: Classifier, x: Tensor, y: Tensor, rng: torch.Generator, each: Each | None = None
    ) -> dict[str, float]:
        """The share of right images, and of those certified at 36/255 in L2, which decides."""
        right, proven = [], 0
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            slopes = cast("LipschitzNet", model).slopes()  # the recipe's architecture
            for images, labels in zip(x.split(PART), y.split(PART), strict=True):
                logits = model(images)
                hits = logits.argmax(1) == labels
                right.append(hits)
                proven += int((hits & (radii(logits, slopes) >= RADIUS)).sum())
        return {
            "clean": counted(torch.cat(right), each, "clean"),
            "certified": proven / len(y),
            "score": proven / len(y),
        }
