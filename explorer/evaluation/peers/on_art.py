"""Adversarial Robustness Toolbox, ART (arXiv:1807.01069): our attacks by its classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from explorer.attacks.apgd import APGDCE
from explorer.attacks.cw import CW
from explorer.attacks.deepfool import DeepFool
from explorer.attacks.fgsm import FGSM
from explorer.attacks.mifgsm import MIFGSM
from explorer.attacks.pgd import PGD
from explorer.attacks.square import Square
from explorer.core import Attack
from explorer.evaluation.peers.setting import FIRST_C, Setting, adapts


def _art(model: nn.Module, x: Tensor, s: Setting[Attack]) -> Any:
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        s.classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if x.device.type == "cuda" else "cpu",
    )


def _generated(made: Any, x: Tensor, y: Tensor) -> Tensor:
    return torch.from_numpy(made.generate(x=x.cpu().numpy(), y=y.cpu().numpy())).to(x)


@adapts("art", "fgsm", "linf", "l2")
def fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FGSM]) -> Tensor:
    from art.attacks.evasion import FastGradientMethod

    made = FastGradientMethod(_art(model, x, s), norm=s.order, eps=s.eps, batch_size=len(x))
    return _generated(made, x, y)


@adapts("art", "pgd", "linf", "l2")
def pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[PGD]) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescent

    options = {"norm": s.order, "eps": s.eps, "eps_step": s.step, "max_iter": s.attack.steps, "batch_size": len(x)}
    start = int(s.attack.random_start)
    made = ProjectedGradientDescent(_art(model, x, s), **options, num_random_init=start, verbose=False)
    return _generated(made, x, y)


@adapts("art", "mifgsm", "linf")
def mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting[MIFGSM]) -> Tensor:
    from art.attacks.evasion import MomentumIterativeMethod

    options = {"norm": s.order, "eps": s.eps, "eps_step": s.step, "max_iter": s.attack.steps, "batch_size": len(x)}
    made = MomentumIterativeMethod(_art(model, x, s), **options, decay=s.attack.momentum, verbose=False)
    return _generated(made, x, y)


@adapts("art", "deepfool", "l2")
def deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DeepFool]) -> Tensor:
    """differs: it looks without the overshoot and adds it at the end."""
    from art.attacks.evasion import DeepFool

    a = s.attack
    options = {"max_iter": a.steps, "epsilon": a.overshoot, "nb_grads": min(a.classes, s.classes)}
    return _generated(DeepFool(_art(model, x, s), **options, batch_size=len(x), verbose=False), x, y)


@adapts("art", "cw", "l2")
def cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting[CW]) -> Tensor:
    """differs: steps of a line search (up to 5 halvings and doublings each), not Adam's; the first c is `FIRST_C`."""
    from art.attacks.evasion import CarliniL2Method

    a = s.attack
    made = CarliniL2Method(
        _art(model, x, s),
        confidence=a.kappa,
        learning_rate=a.lr,
        binary_search_steps=a.searches,
        max_iter=a.steps,
        initial_const=FIRST_C,
        batch_size=len(x),
        verbose=False,
    )
    return _generated(made, x, y)


@adapts("art", "apgd-ce", "linf", "l2")
def apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDCE]) -> Tensor:
    from art.attacks.evasion import AutoProjectedGradientDescent

    options = {"norm": s.order, "eps": s.eps, "eps_step": 2 * s.eps, "max_iter": s.attack.steps}
    made = AutoProjectedGradientDescent(
        _art(model, x, s),
        **options,
        nb_random_init=s.attack.restarts,
        batch_size=len(x),
        loss_type="cross_entropy",
        verbose=False,
    )
    return _generated(made, x, y)


@adapts("art", "square", "linf", "l2")
def square(model: nn.Module, x: Tensor, y: Tensor, s: Setting[Square]) -> Tensor:
    from art.attacks.evasion import SquareAttack

    options = {"norm": s.order, "eps": s.eps, "max_iter": s.attack.queries, "p_init": s.attack.p_init}
    return _generated(SquareAttack(_art(model, x, s), **options, batch_size=len(x), verbose=False), x, y)
