"""pyautoattack, AutoAttack (arXiv:2003.01690) as a package: our attacks by its classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from explorer.attacks.apgd import APGDCE, APGDT
from explorer.attacks.apgd_l1 import APGDL1
from explorer.attacks.autoattack import AutoAttack
from explorer.attacks.fab import FAB
from explorer.attacks.square import Square
from explorer.evaluation.peers.setting import Setting, adapts


@adapts("pyautoattack", "fab", "linf", "l2", "l1")
def fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting[FAB]) -> Tensor:
    """differs: an image leaves with its first result inside the ball."""
    from pyautoattack.fab_pt import FABAttack_PT

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options: dict[str, Any] = {"n_restarts": a.restarts, "n_iter": a.steps, "seed": s.seed}
    options |= {
        "n_target_classes": targets,
        "alpha_max": a.alpha_max,
        "eta": a.eta,
        "beta": a.beta,
        "targeted": True,
        "device": x.device,
    }
    return FABAttack_PT(model, norm=s.name, eps=s.eps, **options).perturb(x, y)


@adapts("pyautoattack", "apgd-ce", "linf", "l2")
def apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDCE]) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack

    options = {"n_iter": s.attack.steps, "n_restarts": s.attack.restarts, "seed": s.seed, "device": x.device}
    return APGDAttack(model, norm=s.name, eps=s.eps, loss="ce", **options).perturb(x, y)


@adapts("pyautoattack", "apgd-l1", "l1")
def apgd_l1(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDL1]) -> Tensor:
    """differs: five times the eps at first, as AutoAttack's L1 version has it."""
    from pyautoattack.autopgd_base import APGDAttack

    options = {"n_iter": s.attack.steps, "n_restarts": s.attack.restarts, "seed": s.seed, "device": x.device}
    return APGDAttack(model, norm=s.name, eps=s.eps, loss="ce", use_largereps=True, **options).perturb(x, y)


@adapts("pyautoattack", "apgd-t", "linf", "l2")
def apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting[APGDT]) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack_targeted

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options = {"n_iter": a.steps, "n_restarts": a.restarts, "seed": s.seed, "device": x.device}
    made = APGDAttack_targeted(model, norm=s.name, eps=s.eps, n_target_classes=targets, **options)
    return made.perturb(x, y)


@adapts("pyautoattack", "square", "linf", "l2", "l1")
def square(model: nn.Module, x: Tensor, y: Tensor, s: Setting[Square]) -> Tensor:
    from pyautoattack.square import SquareAttack

    a = s.attack
    options = {"n_queries": a.queries, "p_init": a.p_init, "resc_schedule": a.rescale, "loss": a.loss}
    return SquareAttack(model, norm=s.name, eps=s.eps, seed=s.seed, device=x.device, **options).perturb(x, y)


@adapts("pyautoattack", "autoattack", "linf", "l2")
def autoattack(model: nn.Module, x: Tensor, y: Tensor, s: Setting[AutoAttack]) -> Tensor:
    from pyautoattack import AutoAttack

    made = AutoAttack(model, norm=s.name, eps=s.eps, seed=s.seed, version="standard", device=x.device)
    return made.run_standard_evaluation(x, y, batch_size=len(x))[0]
