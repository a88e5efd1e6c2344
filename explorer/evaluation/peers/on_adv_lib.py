"""adv-lib: our attacks by its functions."""

from __future__ import annotations

from torch import Tensor, nn

from explorer.attacks.apgd import APGDCE, APGDT
from explorer.attacks.cw import CW
from explorer.attacks.ddn import DDN
from explorer.attacks.deepfool import DeepFool
from explorer.attacks.fab import FAB
from explorer.attacks.fmn import FMN
from explorer.attacks.pgd import PGD
from explorer.attacks.sigma_zero import SigmaZero
from explorer.attacks.superdeepfool import SuperDeepFool
from explorer.evaluation.peers.setting import FIRST_C, Setting, adapts


@adapts("adv-lib", "pgd", "linf")
def pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[PGD]) -> Tensor:
    from adv_lib.attacks import pgd_linf

    options = {"steps": s.attack.steps, "random_init": s.attack.random_start, "absolute_step_size": s.step}
    return pgd_linf(model, x, y, s.eps, **options)


@adapts("adv-lib", "deepfool", "linf", "l2")
def deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DeepFool]) -> Tensor:
    from adv_lib.attacks import df

    return df(model, x, y, steps=s.attack.steps, overshoot=s.attack.overshoot, norm=s.order)


@adapts("adv-lib", "cw", "l2")
def cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting[CW]) -> Tensor:
    """differs: the first c is `FIRST_C`."""
    from adv_lib.attacks import carlini_wagner_l2

    a = s.attack
    options = {"confidence": a.kappa, "learning_rate": a.lr, "initial_const": FIRST_C}
    return carlini_wagner_l2(model, x, y, **options, binary_search_steps=a.searches, max_iterations=a.steps)


@adapts("adv-lib", "apgd-ce", "linf", "l2")
def apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDCE]) -> Tensor:
    from adv_lib.attacks import apgd

    a = s.attack
    return apgd(model, x, y, s.eps, s.order, n_iter=a.steps, n_restarts=a.restarts, loss_function="ce")


@adapts("adv-lib", "apgd-t", "linf", "l2")
def apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDT]) -> Tensor:
    from adv_lib.attacks import apgd_targeted

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    return apgd_targeted(model, x, y, s.eps, s.order, n_iter=a.steps, n_restarts=a.restarts, num_targets=targets)


@adapts("adv-lib", "fab", "linf", "l2", "l1")
def fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FAB]) -> Tensor:
    """differs: it knows no ball; what lies beyond is judged to have failed."""
    from adv_lib.attacks import fab

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options = {"α_max": a.alpha_max, "β": a.beta, "η": a.eta, "restarts": targets * a.restarts}
    return fab(model, x, y, s.order, n_iter=a.steps, targeted_restarts=True, **options)


@adapts("adv-lib", "ddn", "l2")
def ddn(model: nn.Module, x: Tensor, y: Tensor, s: Setting[DDN]) -> Tensor:
    """differs: its own first norm, 1, for all images; no quantisation."""
    from adv_lib.attacks import ddn

    return ddn(model, x, y, steps=s.attack.steps, levels=None)


@adapts("adv-lib", "fmn", "linf", "l2", "l1", "l0")
def fmn(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FMN]) -> Tensor:
    """differs: its own step sizes."""
    from adv_lib.attacks import fmn

    return fmn(model, x, y, norm=s.order, steps=s.attack.steps)


@adapts("adv-lib", "superdeepfool", "l2")
def superdeepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting[SuperDeepFool]) -> Tensor:
    """At its own settings."""
    from adv_lib.attacks import sdf

    return sdf(model, x, y)


@adapts("adv-lib", "sigma-zero", "l0")
def sigma_zero(model: nn.Module, x: Tensor, y: Tensor, s: Setting[SigmaZero]) -> Tensor:
    """differs: it counts values, ours whole pixels."""
    from adv_lib.attacks import sigma_zero

    return sigma_zero(model, x, y, num_steps=s.attack.steps)
