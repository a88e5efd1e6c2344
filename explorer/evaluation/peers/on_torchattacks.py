"""torchattacks (arXiv:2010.01950): our attacks by its classes."""

from __future__ import annotations

from torch import Tensor, nn

from explorer.attacks.apgd import APGDCE, APGDT
from explorer.attacks.autoattack import AutoAttack
from explorer.attacks.cw import CW
from explorer.attacks.deepfool import DeepFool
from explorer.attacks.difgsm import DIFGSM
from explorer.attacks.fab import FAB
from explorer.attacks.fgsm import FGSM
from explorer.attacks.mifgsm import MIFGSM
from explorer.attacks.pgd import PGD
from explorer.attacks.square import Square
from explorer.evaluation.peers.setting import Setting, adapts


@adapts("torchattacks", "fgsm", "linf")
def fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FGSM]) -> Tensor:
    import torchattacks

    return torchattacks.FGSM(model, eps=s.eps)(x, y)


@adapts("torchattacks", "pgd", "linf", "l2")
def pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[PGD]) -> Tensor:
    import torchattacks

    made = torchattacks.PGD if s.ball.norm == "linf" else torchattacks.PGDL2
    start = s.attack.random_start
    return made(model, eps=s.eps, alpha=s.step, steps=s.attack.steps, random_start=start)(x, y)


@adapts("torchattacks", "mifgsm", "linf")
def mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[MIFGSM]) -> Tensor:
    import torchattacks

    momentum = s.attack.momentum
    return torchattacks.MIFGSM(model, eps=s.eps, alpha=s.step, steps=s.attack.steps, decay=momentum)(x, y)


@adapts("torchattacks", "difgsm", "linf")
def difgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DIFGSM]) -> Tensor:
    """differs: one coin, size and place for the whole batch; black around the copy, not grey."""
    import torchattacks

    made = torchattacks.DIFGSM(
        model,
        eps=s.eps,
        alpha=s.step,
        steps=s.attack.steps,
        decay=0.0,
        resize_rate=s.attack.smallest,
        diversity_prob=s.attack.probability,
        random_start=s.attack.random_start,
    )
    return made(x, y)


@adapts("torchattacks", "deepfool", "l2")
def deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DeepFool]) -> Tensor:
    import torchattacks

    return torchattacks.DeepFool(model, steps=s.attack.steps, overshoot=s.attack.overshoot)(x, y)


@adapts("torchattacks", "cw", "l2")
def cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting[CW]) -> Tensor:
    """differs: no search over c, which is its default of 1."""
    import torchattacks

    return torchattacks.CW(model, c=1, kappa=s.attack.kappa, steps=s.attack.steps, lr=s.attack.lr)(x, y)


@adapts("torchattacks", "apgd-ce", "linf", "l2")
def apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDCE]) -> Tensor:
    import torchattacks

    a = s.attack
    made = torchattacks.APGD(model, s.name, s.eps, steps=a.steps, n_restarts=a.restarts, seed=s.seed, loss="ce")
    return made(x, y)


@adapts("torchattacks", "apgd-t", "linf", "l2")
def apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDT]) -> Tensor:
    """differs: toward every wrong class."""
    import torchattacks

    a = s.attack
    options = {"steps": a.steps, "n_restarts": a.restarts, "seed": s.seed, "n_classes": s.classes}
    return torchattacks.APGDT(model, s.name, s.eps, **options)(x, y)


@adapts("torchattacks", "fab", "linf", "l2")
def fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FAB]) -> Tensor:
    """differs: toward every wrong class; an image leaves with its first result inside the ball."""
    import torchattacks

    a = s.attack
    options = {"alpha_max": a.alpha_max, "eta": a.eta, "beta": a.beta, "n_restarts": a.restarts, "seed": s.seed}
    options |= {"steps": a.steps, "multi_targeted": True, "n_classes": s.classes}
    return torchattacks.FAB(model, s.name, s.eps, **options)(x, y)


@adapts("torchattacks", "square", "linf", "l2")
def square(model: nn.Module, x: Tensor, y: Tensor, s: Setting[Square]) -> Tensor:
    import torchattacks

    a = s.attack
    options = {"n_queries": a.queries, "p_init": a.p_init, "loss": a.loss, "resc_schedule": a.rescale, "seed": s.seed}
    return torchattacks.Square(model, s.name, s.eps, **options)(x, y)


@adapts("torchattacks", "autoattack", "linf", "l2")
def autoattack(model: nn.Module, x: Tensor, y: Tensor, s: Setting[AutoAttack]) -> Tensor:
    """differs: APGD takes 10 steps and FAB, too, its defaults, which the ensemble does not change."""
    import torchattacks

    return torchattacks.AutoAttack(model, s.name, s.eps, n_classes=s.classes, seed=s.seed)(x, y)
