"""Deep pursuit (after Cazenavette et al., arXiv:2011.14427): inference as optimisation, with its feed-forward and layered twins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from explorer.core import InvalidValue, param
from explorer.defenses import RECIPES
from explorer.defenses.recipe import OptimizerName, Recipe


@dataclass(frozen=True)
class Codes(Recipe, epochs=10, lr=3e-3, warmup=0.2, weight_decay=0.0, label_smoothing=0.0):
    """Cross-entropy on clean images, through all steps of the inference (see `models/pursuit.py`: what is reconstructed).

    differs: Fashion-MNIST and three dictionaries without shortcuts instead of a residual network on CIFAR-10; Adam on one cycle;
    averaged weights.
    """

    dataset: ClassVar[str] = "fashion_mnist"
    augment: ClassVar[bool] = False
    optimizer: ClassVar[OptimizerName] = "adam"
    inference: ClassVar[str] = "deep"
    smoke: ClassVar[Mapping[str, Any]] = {"epochs": 1, "dictionaries": "8/4/2-16/4/2", "lr": 0.02}
    formula: ClassVar[str] = (
        r"\min_\theta\ \mathbb{E}\,L\big(h(w_L), y\big),\quad (w_1, \ldots, w_L) \approx \arg\min_{w \ge 0} \sum_{l=1}^{L} "
        r"\tfrac{1}{2}\|w_{l-1} - D_l w_l\|_2^2 + b_l^\top w_l,\quad w_0 = x"
    )

    iterations: int = param(
        4, "inference steps", lo=0, hi=16, help="Of each layer after the feed-forward start, in training (T)."
    )
    dictionaries: str = param(
        "32/4/2-64/4/2-128/3/1", "dictionaries", help='Channels, kernel and stride of each layer, as "32/4/2-64/4/2".'
    )
    penalty: float = param(
        0.01, "penalty", lo=1e-4, hi=1.0, help="Price of a code's size at the start (b); then it is learned."
    )

    def architecture(self) -> tuple[str, dict[str, Any]]:
        layers = [layer.split("/") for layer in self.dictionaries.split("-")]
        if not all(len(layer) == 3 and all(n.isdecimal() and 1 <= int(n) <= 1024 for n in layer) for layer in layers):
            raise InvalidValue(
                f'dictionaries must be channels, kernel and stride of each layer, such as "32/4/2-64/4/2"; got {self.dictionaries!r}.'
            )
        return "pursuit-net", {
            "dictionaries": [[int(n) for n in layer] for layer in layers],
            "inference": self.inference,
            "iterations": self.iterations,
            "penalty": self.penalty,
        }


@RECIPES.register(
    "pursuit",
    title="Deep pursuit",
    paper="arXiv:2011.14427",
    group="by architecture",
    summary="Fashion-MNIST: all layers' sparse codes are found together by unrolled steps; trained on clean images alone.",
)
@dataclass(frozen=True)
class Pursuit(Codes):
    explanation: ClassVar[str] = (
        r"A layer with ReLU is one step of looking for a sparse code: few, non-negative numbers $w_l$ that rebuild the layer's input "
        r"from a dictionary $D_l$. Deep pursuit takes more steps, for all layers at once, so that each code explains the one "
        r"below it and is explained by the one above. The hope is that an attack must then change what the whole network agrees on. "
        r"It is trained on clean pictures alone, and attacked through all steps."
    )


@RECIPES.register(
    "pursuit-layered",
    title="Layered pursuit, a twin",
    paper="arXiv:1607.08194",
    group="by architecture",
    summary="Deep pursuit's network and weights, but each layer's code is found alone, before the next begins.",
)
@dataclass(frozen=True)
class PursuitLayered(Codes):
    inference: ClassVar[str] = "layered"
    explanation: ClassVar[str] = (
        r"The twin of deep pursuit (layered basis pursuit): the same dictionaries, but a layer's code $w_l$ is found from the one below "
        r"alone and then stays. What goes wrong in a layer is passed on, and no later one can correct it."
    )


@RECIPES.register(
    "pursuit-feedforward",
    title="Deep pursuit's feed-forward twin",
    paper="arXiv:2011.14427",
    group="by architecture",
    summary="Deep pursuit's network and weights without its inference steps: an ordinary network of convolutions and ReLU.",
)
@dataclass(frozen=True)
class PursuitFeedforward(Codes, iterations=0):
    explanation: ClassVar[str] = (
        r"The twin of deep pursuit without its steps: $w_l = \mathrm{relu}(D_l^\top w_{l-1} - b_l)$, which is an ordinary "
        r"feed-forward network with the same number of weights. What the steps are worth is the difference between the two."
    )
