"""Other libraries' attacks with our settings, to be compared with ours. Nothing needs them: what is missing is named.

`requirements-peers.txt` installs them. Each adapter is one function for one library and attack: it translates our
hyper-parameters and returns the library's images; what a library cannot be told stands beside it as "differs:".
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from explorer.core import Attack, Ball

NORM_NAMES = {"linf": "Linf", "l2": "L2"}  # as torchattacks and pyautoattack call them
NORM_ORDERS = {"linf": math.inf, "l2": 2}  # as ART and adv-lib do


@dataclass(frozen=True)
class Peer:
    """A library: the name it goes by here, its package on PyPI, and the module to import."""

    name: str
    package: str
    module: str

    @property
    def version(self) -> str:
        return metadata.version(self.package)

    def missing(self) -> str | None:
        """Why it cannot be used here, in words; None if it can. Imports it."""
        if self.module == "adv_lib.attacks":
            _stand_in_for_visdom()
        try:
            with quiet():
                importlib.import_module(self.module)
        except ImportError as error:
            return str(error)
        return None


PEERS = (
    Peer("torchattacks", "torchattacks", "torchattacks"),
    Peer("foolbox", "foolbox", "foolbox"),
    Peer("art", "adversarial-robustness-toolbox", "art.attacks.evasion"),
    Peer("adv-lib", "adv-lib", "adv_lib.attacks"),
    Peer("pyautoattack", "pyautoattack", "pyautoattack"),
)


def _stand_in_for_visdom() -> None:
    """adv-lib imports visdom, which draws curves in a browser and is hard to install; none of its attacks needs it."""
    if "visdom" not in sys.modules and importlib.util.find_spec("visdom") is None:
        sys.modules["visdom"] = types.ModuleType("visdom")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What the libraries print and warn about would mix with the result."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


class Counted(nn.Module):
    """A model that counts the images in its passes: `forwards`, and `backwards` to its input.

    A pass over half of a batch counts half; which image is which is not known. After so many `minutes` (None: never) a
    forward pass raises TimeoutError, since no library can be asked to stop. Gradients arrive in torch's usual layout,
    whatever the model's: torchattacks' L2 attacks fail with any other.
    """

    def __init__(self, model: nn.Module, minutes: float | None = None):
        super().__init__()
        self.model, self.minutes, self.began = model, minutes, time.monotonic()
        self.reset()
        self.eval()

    def reset(self) -> None:
        self.forwards = self.backwards = 0

    def forward(self, pixels: Tensor) -> Tensor:
        if self.minutes is not None and time.monotonic() - self.began > 60 * self.minutes:
            raise TimeoutError(f"it was not done after {self.minutes:g} minutes")
        self.forwards += len(pixels)
        return self.model(_Watched.apply(pixels, self) if pixels.requires_grad else pixels)


class _Watched(torch.autograd.Function):
    """The identity; a gradient that comes through it is counted."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, counter: Counted) -> Tensor:
        ctx.counter = counter
        return pixels.view_as(pixels)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counter.backwards += len(gradient)
        return gradient.contiguous(), None


@dataclass(frozen=True)
class Setting:
    """What an adapter translates: our attack, its ball (minimal attacks look at the norm only), the number of classes."""

    attack: Attack
    ball: Ball
    classes: int
    seed: int

    @property
    def order(self) -> float:
        return NORM_ORDERS[self.ball.norm]

    @property
    def name(self) -> str:
        return NORM_NAMES[self.ball.norm]

    @property
    def step(self) -> float:
        """Of PGD's relatives, in pixel units; 0 stands for 1 / steps."""
        return (self.attack.rel_step or 1 / self.attack.steps) * self.ball.eps


Adapter = Callable[[nn.Module, Tensor, Tensor, Setting], Tensor]
ADAPTERS: dict[tuple[str, str, str], Adapter] = {}  # (library, our attack's key, norm)


def _adapts(library: str, attack: str, *norms: str) -> Callable[[Adapter], Adapter]:
    def keep(adapter: Adapter) -> Adapter:
        ADAPTERS.update({(library, attack, norm): adapter for norm in norms})
        return adapter

    return keep


def adapter(library: str, attack: str, ball: Ball) -> Adapter | None:
    """None if the library has no such attack."""
    return ADAPTERS.get((library, attack, ball.norm))


def attacked(how: Adapter, model: nn.Module, x: Tensor, y: Tensor, setting: Setting) -> Tensor:
    """The adapter's images (N,C,H,W) for the images x with labels y (N,), untargeted.

    torch's global generators are seeded for it and afterwards are as they were; numpy's, from which ART draws, is left
    alone.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), quiet():
        torch.manual_seed(setting.seed)
        return how(model, x, y, setting).detach()


# torchattacks


@_adapts("torchattacks", "fgsm", "linf")
def _ta_fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    return torchattacks.FGSM(model, eps=s.ball.eps)(x, y)


@_adapts("torchattacks", "pgd", "linf", "l2")
def _ta_pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    made = torchattacks.PGD if s.ball.norm == "linf" else torchattacks.PGDL2
    start = s.attack.random_start
    return made(model, eps=s.ball.eps, alpha=s.step, steps=s.attack.steps, random_start=start)(x, y)


@_adapts("torchattacks", "mifgsm", "linf")
def _ta_mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    momentum = s.attack.momentum
    return torchattacks.MIFGSM(model, eps=s.ball.eps, alpha=s.step, steps=s.attack.steps, decay=momentum)(x, y)


@_adapts("torchattacks", "difgsm", "linf")
def _ta_difgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: one coin, size and place for the whole batch; black around the copy, not grey."""
    import torchattacks

    made = torchattacks.DIFGSM(
        model,
        eps=s.ball.eps,
        alpha=s.step,
        steps=s.attack.steps,
        decay=0.0,
        resize_rate=s.attack.smallest,
        diversity_prob=s.attack.probability,
        random_start=s.attack.random_start,
    )
    return made(x, y)


@_adapts("torchattacks", "deepfool", "l2")
def _ta_deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    return torchattacks.DeepFool(model, steps=s.attack.steps, overshoot=s.attack.overshoot)(x, y)


@_adapts("torchattacks", "cw", "l2")
def _ta_cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: no search over c, which is its default of 1."""
    import torchattacks

    return torchattacks.CW(model, c=1, kappa=s.attack.kappa, steps=s.attack.steps, lr=s.attack.lr)(x, y)


@_adapts("torchattacks", "apgd-ce", "linf", "l2")
def _ta_apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    a = s.attack
    made = torchattacks.APGD(model, s.name, s.ball.eps, steps=a.steps, n_restarts=a.restarts, seed=s.seed, loss="ce")
    return made(x, y)


@_adapts("torchattacks", "apgd-t", "linf", "l2")
def _ta_apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: toward every wrong class."""
    import torchattacks

    a = s.attack
    options = {"steps": a.steps, "n_restarts": a.restarts, "seed": s.seed, "n_classes": s.classes}
    return torchattacks.APGDT(model, s.name, s.ball.eps, **options)(x, y)


@_adapts("torchattacks", "fab", "linf", "l2")
def _ta_fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: toward every wrong class; an image leaves with its first result inside the ball."""
    import torchattacks

    a = s.attack
    options = {"alpha_max": a.alpha_max, "eta": a.eta, "beta": a.beta, "n_restarts": a.restarts, "seed": s.seed}
    options |= {"steps": a.steps, "multi_targeted": True, "n_classes": s.classes}
    return torchattacks.FAB(model, s.name, s.ball.eps, **options)(x, y)


@_adapts("torchattacks", "square", "linf", "l2")
def _ta_square(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    import torchattacks

    a = s.attack
    options = {"n_queries": a.queries, "p_init": a.p_init, "loss": a.loss, "resc_schedule": a.rescale, "seed": s.seed}
    return torchattacks.Square(model, s.name, s.ball.eps, **options)(x, y)


@_adapts("torchattacks", "autoattack", "linf", "l2")
def _ta_autoattack(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: APGD takes 10 steps and FAB, too, its defaults, which the ensemble does not change."""
    import torchattacks

    return torchattacks.AutoAttack(model, s.name, s.ball.eps, n_classes=s.classes, seed=s.seed)(x, y)


# Foolbox


def _foolbox(made: Any, model: nn.Module, x: Tensor, y: Tensor, eps: float | None) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
    return made(wrapped, x, y, epsilons=eps)[1]


@_adapts("foolbox", "fgsm", "linf", "l2")
def _fb_fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from foolbox import attacks

    made = attacks.LinfFastGradientAttack if s.ball.norm == "linf" else attacks.L2FastGradientAttack
    return _foolbox(made(random_start=False), model, x, y, s.ball.eps)


@_adapts("foolbox", "pgd", "linf", "l2")
def _fb_pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from foolbox import attacks

    linf, l2 = attacks.LinfProjectedGradientDescentAttack, attacks.L2ProjectedGradientDescentAttack
    made = linf if s.ball.norm == "linf" else l2
    options = {"abs_stepsize": s.step, "steps": s.attack.steps, "random_start": s.attack.random_start}
    return _foolbox(made(**options), model, x, y, s.ball.eps)


@_adapts("foolbox", "mifgsm", "linf")
def _fb_mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from foolbox import attacks

    a = s.attack
    made = attacks.LinfMomentumIterativeFastGradientMethod(
        momentum=a.momentum, abs_stepsize=s.step, steps=a.steps, random_start=a.random_start
    )
    return _foolbox(made, model, x, y, s.ball.eps)


@_adapts("foolbox", "deepfool", "linf", "l2")
def _fb_deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from foolbox import attacks

    a, made = s.attack, attacks.LinfDeepFoolAttack if s.ball.norm == "linf" else attacks.L2DeepFoolAttack
    return _foolbox(made(steps=a.steps, candidates=a.classes, overshoot=a.overshoot), model, x, y, None)


@_adapts("foolbox", "cw", "l2")
def _fb_cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from foolbox import attacks

    a = s.attack
    made = attacks.L2CarliniWagnerAttack(
        binary_search_steps=a.searches, steps=a.steps, stepsize=a.lr, confidence=a.kappa, initial_const=a.first_c
    )
    return _foolbox(made, model, x, y, None)


# Adversarial Robustness Toolbox


def _art(model: nn.Module, x: Tensor, s: Setting) -> Any:
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


@_adapts("art", "fgsm", "linf", "l2")
def _art_fgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from art.attacks.evasion import FastGradientMethod

    made = FastGradientMethod(_art(model, x, s), norm=s.order, eps=s.ball.eps, batch_size=len(x))
    return _generated(made, x, y)


@_adapts("art", "pgd", "linf", "l2")
def _art_pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescent

    options = {"norm": s.order, "eps": s.ball.eps, "eps_step": s.step, "max_iter": s.attack.steps, "batch_size": len(x)}
    start = int(s.attack.random_start)
    made = ProjectedGradientDescent(_art(model, x, s), **options, num_random_init=start, verbose=False)
    return _generated(made, x, y)


@_adapts("art", "mifgsm", "linf")
def _art_mifgsm(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from art.attacks.evasion import MomentumIterativeMethod

    options = {"norm": s.order, "eps": s.ball.eps, "eps_step": s.step, "max_iter": s.attack.steps, "batch_size": len(x)}
    made = MomentumIterativeMethod(_art(model, x, s), **options, decay=s.attack.momentum, verbose=False)
    return _generated(made, x, y)


@_adapts("art", "deepfool", "l2")
def _art_deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: it looks without the overshoot and adds it at the end."""
    from art.attacks.evasion import DeepFool

    a = s.attack
    options = {"max_iter": a.steps, "epsilon": a.overshoot, "nb_grads": min(a.classes, s.classes)}
    return _generated(DeepFool(_art(model, x, s), **options, batch_size=len(x), verbose=False), x, y)


@_adapts("art", "cw", "l2")
def _art_cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: steps of a line search (up to 5 halvings and doublings each), not Adam's."""
    from art.attacks.evasion import CarliniL2Method

    a = s.attack
    made = CarliniL2Method(
        _art(model, x, s),
        confidence=a.kappa,
        learning_rate=a.lr,
        binary_search_steps=a.searches,
        max_iter=a.steps,
        initial_const=a.first_c,
        batch_size=len(x),
        verbose=False,
    )
    return _generated(made, x, y)


@_adapts("art", "apgd-ce", "linf", "l2")
def _art_apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from art.attacks.evasion import AutoProjectedGradientDescent

    options = {"norm": s.order, "eps": s.ball.eps, "eps_step": 2 * s.ball.eps, "max_iter": s.attack.steps}
    made = AutoProjectedGradientDescent(
        _art(model, x, s),
        **options,
        nb_random_init=s.attack.restarts,
        batch_size=len(x),
        loss_type="cross_entropy",
        verbose=False,
    )
    return _generated(made, x, y)


@_adapts("art", "square", "linf", "l2")
def _art_square(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from art.attacks.evasion import SquareAttack

    options = {"norm": s.order, "eps": s.ball.eps, "max_iter": s.attack.queries, "p_init": s.attack.p_init}
    return _generated(SquareAttack(_art(model, x, s), **options, batch_size=len(x), verbose=False), x, y)


# adv-lib


@_adapts("adv-lib", "pgd", "linf")
def _al_pgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from adv_lib.attacks import pgd_linf

    options = {"steps": s.attack.steps, "random_init": s.attack.random_start, "absolute_step_size": s.step}
    return pgd_linf(model, x, y, s.ball.eps, **options)


@_adapts("adv-lib", "deepfool", "linf", "l2")
def _al_deepfool(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from adv_lib.attacks import df

    return df(model, x, y, steps=s.attack.steps, overshoot=s.attack.overshoot, norm=s.order)


@_adapts("adv-lib", "cw", "l2")
def _al_cw(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from adv_lib.attacks import carlini_wagner_l2

    a = s.attack
    options = {"confidence": a.kappa, "learning_rate": a.lr, "initial_const": a.first_c}
    return carlini_wagner_l2(model, x, y, **options, binary_search_steps=a.searches, max_iterations=a.steps)


@_adapts("adv-lib", "apgd-ce", "linf", "l2")
def _al_apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from adv_lib.attacks import apgd

    a = s.attack
    return apgd(model, x, y, s.ball.eps, s.order, n_iter=a.steps, n_restarts=a.restarts, loss_function="ce")


@_adapts("adv-lib", "apgd-t", "linf", "l2")
def _al_apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from adv_lib.attacks import apgd_targeted

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    return apgd_targeted(model, x, y, s.ball.eps, s.order, n_iter=a.steps, n_restarts=a.restarts, num_targets=targets)


@_adapts("adv-lib", "fab", "linf", "l2")
def _al_fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: it knows no ball; what lies beyond is judged to have failed."""
    from adv_lib.attacks import fab

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options = {"α_max": a.alpha_max, "β": a.beta, "η": a.eta, "restarts": targets * a.restarts}
    return fab(model, x, y, s.order, n_iter=a.steps, targeted_restarts=True, **options)


# pyautoattack


@_adapts("pyautoattack", "fab", "linf", "l2")
def _paa_fab(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """differs: an image leaves with its first result inside the ball."""
    from pyautoattack.fab_pt import FABAttack_PT

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options = {"n_restarts": a.restarts, "n_iter": a.steps, "seed": s.seed, "n_target_classes": targets}
    options |= {"alpha_max": a.alpha_max, "eta": a.eta, "beta": a.beta, "targeted": True, "device": x.device}
    return FABAttack_PT(model, norm=s.name, eps=s.ball.eps, **options).perturb(x, y)


@_adapts("pyautoattack", "apgd-ce", "linf", "l2")
def _paa_apgd(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack

    options = {"n_iter": s.attack.steps, "n_restarts": s.attack.restarts, "seed": s.seed, "device": x.device}
    return APGDAttack(model, norm=s.name, eps=s.ball.eps, loss="ce", **options).perturb(x, y)


@_adapts("pyautoattack", "apgd-t", "linf", "l2")
def _paa_apgd_t(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from pyautoattack.autopgd_base import APGDAttack_targeted

    a, targets = s.attack, min(s.attack.target_classes, s.classes - 1)
    options = {"n_iter": a.steps, "n_restarts": a.restarts, "seed": s.seed, "device": x.device}
    made = APGDAttack_targeted(model, norm=s.name, eps=s.ball.eps, n_target_classes=targets, **options)
    return made.perturb(x, y)


@_adapts("pyautoattack", "square", "linf", "l2")
def _paa_square(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from pyautoattack.square import SquareAttack

    a = s.attack
    options = {"n_queries": a.queries, "p_init": a.p_init, "resc_schedule": a.rescale, "loss": a.loss}
    return SquareAttack(model, norm=s.name, eps=s.ball.eps, seed=s.seed, device=x.device, **options).perturb(x, y)


@_adapts("pyautoattack", "autoattack", "linf", "l2")
def _paa_autoattack(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    from pyautoattack import AutoAttack

    made = AutoAttack(model, norm=s.name, eps=s.ball.eps, seed=s.seed, version="standard", device=x.device)
    return made.run_standard_evaluation(x, y, batch_size=len(x))[0]
