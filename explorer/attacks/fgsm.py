"""Fast gradient sign method (FGSM; Goodfellow et al., arXiv:1412.6572): PGD with one full step from the image."""

from dataclasses import dataclass
from typing import ClassVar

from explorer.attacks import ATTACKS
from explorer.attacks.pgd import PGD
from explorer.core import fixed


@ATTACKS.register(
    "fgsm",
    title="FGSM",
    paper="arXiv:1412.6572",
    group="single step",
    summary="One step of full length along the gradient's sign: the fastest attack, and a weak one.",
)
@dataclass(frozen=True)
class FGSM(PGD, steps=fixed(1), rel_step=fixed(1.0), random_start=fixed(False), restarts=fixed(1)):
    """x0 + eps * sign(gradient of the loss at x0); in L2, eps * gradient / ||gradient||. Two steps: start and end."""

    formula: ClassVar[str] = r"x_{adv} = x + \varepsilon\,\mathrm{sign}\big(\nabla_x L(x, y)\big)"
    explanation: ClassVar[str] = (
        r"Ask the model once which way its loss grows with every pixel, and move each pixel by the whole $\varepsilon$ "
        r"that way. (In L2: along the slope itself, scaled to length $\varepsilon$.) It works as far as the loss is "
        r"a straight slope over that distance, so what survives it may still fall to many small steps."
    )
    presets = {"weak": {}, "standard": {}, "strong": {}}  # one step has one strength
