"""Foolbox (arXiv:1707.04131): our attacks by its classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from explorer.attacks.boundary_attack import Boundary
from explorer.attacks.brendel_bethge import BrendelBethge
from explorer.attacks.cw import CW
from explorer.attacks.deepfool import DeepFool
from explorer.attacks.ead import EAD
from explorer.attacks.fgsm import FGSM
from explorer.attacks.hopskipjump import HopSkipJump
from explorer.attacks.mifgsm import MIFGSM
from explorer.attacks.pgd import PGD
from explorer.evaluation.peers.setting import FIRST_C, Setting, adapts


def _foolbox(made: Any, model: nn.Module, x: Tensor, y: Tensor, eps: float | None) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    return made(wrapped, x, y, epsilons=eps)[1]


@adapts("foolbox", "fgsm", "linf", "l2")
def fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FGSM]) -> Tensor:
    from foolbox import attacks

    made = attacks.LinfFastGradientAttack if s.ball.norm == "linf" else attacks.L2FastGradientAttack
    return _foolbox(made(random_start=False), model, x, y, s.eps)


@adapts("foolbox", "pgd", "linf", "l2")
def pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[PGD]) -> Tensor:
    from foolbox import attacks

    linf, l2 = attacks.LinfProjectedGradientDescentAttack, attacks.L2ProjectedGradientDescentAttack
    made = linf if s.ball.norm == "linf" else l2
    options = {"abs_stepsize": s.step, "steps": s.attack.steps, "random_start": s.attack.random_start}
    return _foolbox(made(**options), model, x, y, s.eps)


@adapts("foolbox", "mifgsm", "linf")
def mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[MIFGSM]) -> Tensor:
    from foolbox import attacks

    a = s.attack
    made = attacks.LinfMomentumIterativeFastGradientMethod(
        momentum=a.momentum, abs_stepsize=s.step, steps=a.steps, random_start=a.random_start
    )
    return _foolbox(made, model, x, y, s.eps)


@adapts("foolbox", "deepfool", "linf", "l2")
def deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DeepFool]) -> Tensor:
    from foolbox import attacks

    a, made = s.attack, attacks.LinfDeepFoolAttack if s.ball.norm == "linf" else attacks.L2DeepFoolAttack
    return _foolbox(made(steps=a.steps, candidates=a.classes, overshoot=a.overshoot), model, x, y, None)


@adapts("foolbox", "cw", "l2")
def cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting[CW]) -> Tensor:
    """differs: the first c is `FIRST_C`."""
    from foolbox import attacks

    a = s.attack
    made = attacks.L2CarliniWagnerAttack(
        binary_search_steps=a.searches, steps=a.steps, stepsize=a.lr, confidence=a.kappa, initial_const=FIRST_C
    )
    return _foolbox(made, model, x, y, None)


@adapts("foolbox", "brendel-bethge", "linf", "l2", "l1")
def brendel_bethge(model: nn.Module, x: Tensor, y: Tensor, s: Setting[BrendelBethge]) -> Tensor:
    """differs: one start, so as many steps as our starts take together."""
    from foolbox import attacks

    kinds = {"linf": "Linfinity", "l2": "L2", "l1": "L1"}
    made = getattr(attacks, f"{kinds[s.ball.norm]}BrendelBethgeAttack")
    return _foolbox(made(steps=s.attack.steps * s.attack.restarts), model, x, y, None)


@adapts("foolbox", "hopskipjump", "linf", "l2")
def hopskipjump(model: nn.Module, x: Tensor, y: Tensor, s: Setting[HopSkipJump]) -> Tensor:
    from foolbox import attacks

    options: dict[str, Any] = {"initial_gradient_eval_steps": s.attack.samples, "constraint": s.ball.norm}
    return _foolbox(attacks.HopSkipJumpAttack(steps=s.attack.steps, **options), model, x, y, None)


@adapts("foolbox", "boundary", "l2")
def boundary(model: nn.Module, x: Tensor, y: Tensor, s: Setting[Boundary]) -> Tensor:
    from foolbox import attacks

    a = s.attack
    return _foolbox(
        attacks.BoundaryAttack(steps=a.steps, spherical_step=a.delta, source_step=a.epsilon), model, x, y, None
    )


@adapts("foolbox", "ead", "l1")
def ead(model: nn.Module, x: Tensor, y: Tensor, s: Setting[EAD]) -> Tensor:
    """differs: the first c is `FIRST_C`; its price is that of a step, which ours is at first, and does not fall with it."""
    from foolbox import attacks

    a = s.attack
    options: dict[str, Any] = {
        "initial_stepsize": a.lr,
        "confidence": a.kappa,
        "regularization": a.beta * a.lr,
        "decision_rule": "L1",
    }
    made = attacks.EADAttack(binary_search_steps=a.searches, steps=a.steps, initial_const=FIRST_C, **options)
    return _foolbox(made, model, x, y, None)
